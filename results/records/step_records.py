"""Step records: everything that one episode's policy was shown and answered, and what the robot did.

One Parquet file per episode. A row is a query; its steps, up to the next query, are a nested column. Images follow from
the saved states, and are recorded by their hashes. Where they are stored as well, they are the frames of a lossless
video per camera beside the file (`simloop.results.records.paths`): frame i belongs to query i.

Axis letters: s state size, p privileged size, t actions of a chunk, a action size.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Float64
from pydantic import TypeAdapter

from simloop.results.errors import ResultsError
from simloop.results.records.paths import step_records_path
from simloop.results.records.records import EpisodeKey, QueryRecord, episode_name
from simloop.untrusted import inside, parse_json, read_bytes

if TYPE_CHECKING:  # Env actors write records; importing pandas costs a second and 50 MB.
    import pandas as pd

Level = Literal["queries", "steps"]
"""`queries` records queries, saved states and actions; `steps` adds states and scenes of every step."""

VERSION = 2
"""Version of the format; readers refuse later ones."""
HEADER = b"simloop.step_records"
"""Key of the header in the metadata of the file."""
MAX_BYTES = 1 << 30
"""Size of a file, packed and unpacked, above which it is not read."""


class StepRecordsError(ResultsError):
    """A file of step records is missing, damaged, foreign or of another version."""


@dataclass(frozen=True)
class StepHeader:
    """What all rows of a file share."""

    level: Level
    policy: str
    suite: str
    protocol: str
    task: str
    episode: int
    seed: int
    """Seed of the initial state."""
    source: str
    """Packages of the suite with versions; other versions may compute other steps."""
    renderer: str
    """OpenGL that rendered the images; empty if there are none."""
    control_hz: float
    """Control steps per simulated second."""
    cameras: tuple[str, ...]
    """Cameras of the policy, whose images are recorded."""
    state_names: tuple[str, ...]
    """Names, with units, of the entries of the suite's state."""
    action_names: tuple[str, ...]
    ended_by: str = ""
    """As in `EpisodeRecord`; empty if the episode ended in an error or was still running."""
    stores_images: bool = True
    """Whether the images themselves are stored, as videos beside the file, and not their hashes alone. Version 1 of the
    format always stored them."""

    @property
    def key(self) -> EpisodeKey:
        """Key of the episode in the ledger."""
        return (self.policy, self.suite, self.protocol, self.task, self.episode)


@dataclass(frozen=True, eq=False)
class RecordedStep:
    """One executed control step. The last five fields are None unless the level is `steps` and the suite tells them."""

    step: int
    """Number of the step in the episode, from 0."""
    action: Float32[np.ndarray, "a"]
    """Action of the policy in the suite's convention, before the perturbation."""
    executed: Float32[np.ndarray, "a"]
    chunk_index: int
    index_in_chunk: int
    reward: float
    success: bool
    state_sha256: str
    """Hash of `Env.snapshot` after the step as little-endian float64."""
    time_s: float | None = None
    """Simulated time after the step."""
    state: Float32[np.ndarray, "s"] | None = None
    """State of the suite after the step, as `state_names` describes it."""
    poses: Mapping[str, Float64[np.ndarray, "7"]] | None = None
    """Position (m) and quaternion (scalar first) of the things of interest in the world frame."""
    contacts: tuple[tuple[str, str, float], ...] | None = None
    """Body of a gripper, what it touches, and the normal force in newtons."""
    held: tuple[str, ...] | None = None
    """Things that press against both fingers of a gripper."""


@dataclass(frozen=True, eq=False)
class RecordedQuery:
    """One query as the policy received it, its answer, and the steps up to the next query."""

    query: int
    """Number of the query in the episode, from 0."""
    step: int
    """Control steps executed before."""
    key: int
    """64-bit key of the policy's noise."""
    instruction: str
    state: Float32[np.ndarray, "_"]
    """Proprioceptive state in the policy's convention."""
    privileged: Float64[np.ndarray, "p"] | None
    action_low: Float64[np.ndarray, "a"] | None
    action_high: Float64[np.ndarray, "a"] | None
    images_sha256: tuple[str, ...]
    """Hashes of the images in the order of `StepHeader.cameras`."""
    chunk: Float32[np.ndarray, "t _"]
    """Answer in the policy's convention."""
    undecodable: tuple[int, ...] | None
    """Tokens that decoded to no chunk; None if the answer was decoded."""
    latency: QueryRecord | None
    """None if the episode ended in an error."""
    env_state: bytes = field(repr=False)
    """`EnvState.to_bytes` at the query."""
    steps: tuple[RecordedStep, ...] = ()


@dataclass(frozen=True, eq=False)
class StepRecords:
    """The records of one episode."""

    header: StepHeader
    queries: tuple[RecordedQuery, ...]

    @cached_property
    def steps(self) -> tuple[RecordedStep, ...]:
        """All steps in order."""
        return tuple(step for query in self.queries for step in query.steps)

    @property
    def actions_sha256(self) -> str:
        """Hash of the executed actions, as in the ledger."""
        actions = np.array([step.executed for step in self.steps], "<f4")
        return hashlib.sha256(actions.tobytes()).hexdigest()

    def frame(self) -> pd.DataFrame:
        """One row per step, with the fields of `RecordedStep` and the number of the query."""
        import pandas as pd

        rows = [{"query": query.query, **vars(step)} for query in self.queries for step in query.steps]
        return pd.DataFrame(rows)

    def to_bytes(self) -> bytes:
        """Serialize as a Parquet file, compressed by zstd."""
        header = {"version": VERSION, **dataclasses.asdict(self.header)}
        schema = SCHEMA.with_metadata({HEADER: json.dumps(header)})
        table = pa.Table.from_pylist([_row(query) for query in self.queries], schema)
        buffer = io.BytesIO()
        pq.write_table(
            table,
            buffer,
            compression="zstd",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        )
        return buffer.getvalue()


def load_steps(run: str | Path, key: EpisodeKey) -> StepRecords:
    """Read the step records of an episode of a run.

    Raises:
      StepRecordsError: If there are none, they cannot be read, or a link leads out of the run folder.
    """
    path = inside(Path(run), step_records_path(key), error=StepRecordsError)
    if not path.is_file():
        raise StepRecordsError(
            f"There are no step records of {episode_name(key)}: {path} does not exist. Runs write them with "
            "--record queries or --record steps."
        )
    records = read_step_records(path)
    if records.header.key != key:
        raise StepRecordsError(
            f"{path} holds {episode_name(records.header.key)}; wanted {episode_name(key)}. Restore the file from a "
            "copy."
        )
    return records


def read_step_records(path: str | Path) -> StepRecords:
    """Read a file of step records.

    Raises:
      StepRecordsError: If it is damaged, foreign, of another version, or larger than any episode's.
    """
    path = Path(path)
    content = read_bytes(path, MAX_BYTES, error=StepRecordsError)
    try:
        with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
            header = _header(path, file.schema_arrow.metadata or {})
            if not file.schema_arrow.equals(SCHEMA):
                raise _unreadable(path, "its columns are not those of step records")
            unpacked = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
            if unpacked > MAX_BYTES:
                raise _unreadable(path, f"it unpacks to {unpacked} bytes, more than any episode")
            rows = file.read(use_threads=False).to_pylist()
        return StepRecords(header, tuple(map(_query, rows)))
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, StepRecordsError):
            raise
        raise _unreadable(
            path, f"{type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}"
        ) from error


def _unreadable(path: Path, why: str) -> StepRecordsError:
    return StepRecordsError(
        f"{path} cannot be read as step records: {why}. Restore it from a copy, or record the episode again with "
        "simloop play --record."
    )


def _header(path: Path, metadata: Mapping[bytes, bytes]) -> StepHeader:
    if HEADER not in metadata:
        raise _unreadable(path, "it is a Parquet file of another program")
    content: dict[str, Any] = parse_json(metadata[HEADER], str(path))
    version = content.pop("version", None)
    if version not in range(1, VERSION + 1):
        raise StepRecordsError(
            f"{path} has version {version} of the format of step records; this simloop reads versions up to {VERSION}. "
            "Read it with the version of simloop that wrote it."
        )
    return TypeAdapter(StepHeader).validate_python(content)


def _struct(**fields: pa.DataType) -> pa.DataType:
    return pa.struct(list(fields.items()))


_FLOATS, _DOUBLES = pa.list_(pa.float32()), pa.list_(pa.float64())

STEP = _struct(
    step=pa.int32(),
    action=_FLOATS,
    executed=_FLOATS,
    chunk_index=pa.int32(),
    index_in_chunk=pa.int32(),
    reward=pa.float64(),
    success=pa.bool_(),
    state_sha256=pa.string(),
    time_s=pa.float64(),
    state=_FLOATS,
    poses=pa.list_(_struct(name=pa.string(), pose=_DOUBLES)),
    contacts=pa.list_(_struct(gripper=pa.string(), other=pa.string(), force_n=pa.float64())),
    held=pa.list_(pa.string()),
)
"""Type of a step; its fields are those of `RecordedStep`."""

SCHEMA = pa.schema(
    {
        "query": pa.int32(),
        "step": pa.int32(),
        "key": pa.uint64(),
        "instruction": pa.string(),
        "state": _FLOATS,
        "privileged": _DOUBLES,
        "action_low": _DOUBLES,
        "action_high": _DOUBLES,
        "images_sha256": pa.list_(pa.string()),
        "chunk": pa.list_(_FLOATS),
        "undecodable": pa.list_(pa.int32()),
        "latency": pa.map_(pa.string(), pa.float64()),  # By field, so that stages may be added.
        "env_state": pa.binary(),
        "steps": pa.list_(STEP),
    }
)
"""Columns of a file; they are the fields of `RecordedQuery`."""


def _row(query: RecordedQuery) -> dict[str, Any]:
    row = dict(vars(query))
    row["chunk"] = list(query.chunk)
    row["latency"] = query.latency and list(dataclasses.asdict(query.latency).items())
    row["steps"] = [_step_row(step) for step in query.steps]
    return row


def _step_row(step: RecordedStep) -> dict[str, Any]:
    row = {name: getattr(step, name) for name in _STEP_FIELDS}
    if step.poses is not None:
        row["poses"] = [{"name": name, "pose": pose} for name, pose in step.poses.items()]
    if step.contacts is not None:
        names = ("gripper", "other", "force_n")
        row["contacts"] = [dict(zip(names, contact, strict=True)) for contact in step.contacts]
    return row


_STEP_FIELDS = tuple(column.name for column in dataclasses.fields(RecordedStep))


def _query(row: dict[str, Any]) -> RecordedQuery:
    chunk = row["chunk"]
    return RecordedQuery(
        **row
        | {
            "state": np.array(row["state"], np.float32),
            "privileged": _doubles(row["privileged"]),
            "action_low": _doubles(row["action_low"]),
            "action_high": _doubles(row["action_high"]),
            "images_sha256": tuple(row["images_sha256"]),
            "chunk": np.array(chunk, np.float32).reshape(len(chunk), -1 if chunk else 0),
            "undecodable": None if row["undecodable"] is None else tuple(row["undecodable"]),
            "latency": None if row["latency"] is None else _latency(dict(row["latency"])),
            "steps": tuple(map(_step, row["steps"])),
        }
    )


def _step(row: dict[str, Any]) -> RecordedStep:
    poses, contacts = row["poses"], row["contacts"]
    return RecordedStep(
        **row
        | {
            "action": np.array(row["action"], np.float32),
            "executed": np.array(row["executed"], np.float32),
            "state": None if row["state"] is None else np.array(row["state"], np.float32),
            "poses": None if poses is None else {p["name"]: np.array(p["pose"]) for p in poses},
            "contacts": None if contacts is None else tuple(tuple(c.values()) for c in contacts),
            "held": None if row["held"] is None else tuple(row["held"]),
        }
    )


def _latency(values: Mapping[str, float]) -> QueryRecord:
    """Latency by field; a stage that the writer did not know took no time."""
    types = {field.name: int if field.type == "int" else float for field in dataclasses.fields(QueryRecord)}
    fields: dict[str, Any] = {name: kind(values.get(name, 0)) for name, kind in types.items()}
    return QueryRecord(**fields)


def _doubles(values: Sequence[float] | None) -> Float64[np.ndarray, "_"] | None:
    return None if values is None else np.array(values, np.float64)
