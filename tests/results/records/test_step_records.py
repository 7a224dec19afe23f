"""Step records are read back as they were written, and anything else is refused in a sentence."""

import dataclasses
import hashlib
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simloop.results.records import step_records
from simloop.results.records.step_records import (
    HEADER,
    SCHEMA,
    STEP,
    VERSION,
    RecordedQuery,
    RecordedStep,
    StepHeader,
    StepRecords,
    StepRecordsError,
    load_steps,
    read_step_records,
)
from tests.helpers.run_folders import EPISODE, QUERY

RECORDS_HEADER = StepHeader(
    "steps", "expert", "metaworld", "metaworld/default-v1", "reach-v3", 0, 7, "metaworld 3.1.1", "llvmpipe",
    80.0, ("top", "hand"), ("x_m",), ("dx", "dy"), "success",
)  # fmt: skip


def step(number: int, **scene) -> RecordedStep:
    action = np.float32([0.1, number])
    return RecordedStep(number, action, 2 * action, 0, number, -1 / 3, False, "ab" * 32, **scene)


SCENE = {
    "time_s": 0.1,
    "state": np.float32([0.3]),
    "poses": {"mug": np.arange(7) / 7},
    "contacts": (("finger", "mug", 1.5),),
    "held": ("mug",),
}


def query(number: int, **fields) -> RecordedQuery:
    chunk = np.arange(6, dtype=np.float32).reshape(3, 2) / 7
    values = {
        "query": number, "step": 2 * number, "key": 2**64 - 1, "instruction": "reach", "state": np.float32([0.7]),
        "privileged": np.arange(3) / 3, "action_low": None, "action_high": None,
        "images_sha256": ("cd" * 32, "ef" * 32), "chunk": chunk, "undecodable": None,
        "latency": dataclasses.replace(QUERY, index=number), "env_state": bytes(range(256)),
        "steps": (step(2 * number, **SCENE), step(2 * number + 1)),
    }  # fmt: skip
    return RecordedQuery(**values | fields)


def same(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(same(value, getattr(b, name)) for name, value in vars(a).items())
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b


RECORDS = StepRecords(RECORDS_HEADER, (query(0), query(1, privileged=None, latency=None)))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "steps" / "expert" / "reach-v3-0000.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(RECORDS.to_bytes())
    return path


def test_records_are_read_back_to_the_last_bit(file):
    read = read_step_records(file)
    assert read.header == RECORDS_HEADER
    assert same(read.queries, RECORDS.queries)
    assert [step.step for step in read.steps] == [0, 1, 2, 3]


def test_an_undecodable_answer_and_a_query_without_steps_are_read_back(file):
    odd = query(0, undecodable=(7, 8), chunk=np.zeros((0, 2), np.float32), steps=())
    file.write_bytes(StepRecords(RECORDS_HEADER, (odd,)).to_bytes())
    (read,) = read_step_records(file).queries
    assert (read.undecodable, len(read.chunk), read.steps) == ((7, 8), 0, ())


def test_columns_are_the_fields_of_the_records():
    assert SCHEMA.names == [field.name for field in dataclasses.fields(RecordedQuery)]
    assert [field.name for field in STEP] == [field.name for field in dataclasses.fields(RecordedStep)]


def test_a_change_of_the_columns_needs_a_new_version():
    names = {field.name: str(field.type) for field in SCHEMA}
    digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:8]
    assert (VERSION, digest) == (2, "294ee557")


def test_a_latency_stage_that_the_writer_did_not_know_took_no_time(file):
    table = pq.read_table(file)
    row = table.column("latency")[0].as_py()
    older = pa.array([[entry for entry in row if entry[0] != "retry_ms"], None], SCHEMA.field("latency").type)
    pq.write_table(table.set_column(SCHEMA.names.index("latency"), SCHEMA.field("latency"), older), file)
    assert read_step_records(file).queries[0].latency == dataclasses.replace(QUERY, index=0, retry_ms=0.0)


def test_files_of_version_1_are_read_and_have_stored_images(file):
    header = {**dataclasses.asdict(RECORDS_HEADER), "version": 1}
    del header["stores_images"]
    pq.write_table(pq.read_table(file).replace_schema_metadata({HEADER: json.dumps(header)}), file)
    read = read_step_records(file)
    assert read.header == dataclasses.replace(RECORDS_HEADER, stores_images=True)
    assert same(read.queries, RECORDS.queries)


def test_steps_become_a_table():
    frame = RECORDS.frame()
    assert list(frame["query"]) == [0, 0, 1, 1]
    assert frame["reward"].sum() == pytest.approx(-4 / 3)


def test_pandas_reads_the_file_without_simloop(file):
    assert list(pd.read_parquet(file)["instruction"]) == ["reach", "reach"]


def test_a_run_without_step_records_says_how_to_get_them(tmp_path):
    with pytest.raises(StepRecordsError, match=r"no step records of episode 0.*--record queries"):
        load_steps(tmp_path, EPISODE.key)


def test_a_file_of_another_episode_is_refused(file):
    other = dataclasses.replace(RECORDS_HEADER, task="push-v3")
    file.write_bytes(StepRecords(other, RECORDS.queries).to_bytes())
    with pytest.raises(StepRecordsError, match=r"holds episode 0 of task 'push-v3'.*wanted .*'reach-v3'"):
        load_steps(file.parents[2], EPISODE.key)


def test_records_behind_a_link_out_of_the_run_folder_are_refused(file, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "records.parquet"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    with pytest.raises(StepRecordsError, match="symbolic link that leaves its folder"):
        load_steps(file.parents[2], EPISODE.key)


def foreign(path):
    pq.write_table(pa.table({"a": [1]}), path)


def other_columns(path):
    header = json.dumps({"version": 1, **dataclasses.asdict(RECORDS_HEADER)})
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({HEADER: header}), path)


def other_version(path):
    metadata = {HEADER: json.dumps({"version": 9})}
    pq.write_table(pa.Table.from_pylist([], SCHEMA.with_metadata(metadata)), path)


def other_header(path):
    metadata = {HEADER: json.dumps({"version": 1, "level": "steps"})}
    pq.write_table(pa.Table.from_pylist([], SCHEMA.with_metadata(metadata)), path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(b"PAR1 but not really PAR1"), "cannot be read"),
        (foreign, "Parquet file of another program"),
        (other_columns, "its columns are not those"),
        (other_header, "cannot be read"),
        (other_version, "version 9 .* reads versions up to 2.* Read it with"),
    ],
)
def test_damaged_and_foreign_files_are_refused_in_a_sentence(file, damage, message):
    damage(file)
    with pytest.raises(StepRecordsError, match=message):
        read_step_records(file)


def test_a_flipped_byte_never_gives_other_records(file):
    content = file.read_bytes()
    noticed = 0
    for position in range(0, len(content), 61):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        file.write_bytes(damaged)
        try:
            assert same(read_step_records(file).queries, RECORDS.queries)
        except StepRecordsError:
            noticed += 1
    assert noticed > 10


def test_a_file_larger_than_any_episode_is_refused(file, monkeypatch):
    monkeypatch.setattr(step_records, "MAX_BYTES", 100)
    with pytest.raises(StepRecordsError, match="larger than 100 bytes"):
        read_step_records(file)
