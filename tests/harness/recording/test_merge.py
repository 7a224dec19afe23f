"""Merging of run folders."""

import copy
import dataclasses
import json

import pytest

from simloop.harness.planning.experiment import Experiment
from simloop.harness.recording.merge import MergeError, merge
from simloop.harness.recording.provenance import Provenance
from simloop.harness.recording.run_folder import RunFolder, RunFolderError
from simloop.results.records import frames, records
from simloop.results.records.ledger import LedgerError, encode_line
from simloop.results.records.paths import images_path, step_records_path
from tests.helpers.run_folders import EPISODE, QUERY, broken, failed

EXPERIMENT = Experiment("e", "metaworld", ("reach-v3", "push-v3"), ("expert", "random"), 3)
PLAN = EXPERIMENT.plan()


def record(spec):
    return dataclasses.replace(
        EPISODE, policy=spec.policy, task=spec.task, episode=spec.episode, seed=spec.seed, queries=1,
        actions_sha256=f"{spec.seed:064x}", video=f"videos/{spec.policy}/{spec.task}-{spec.episode:04d}-success.mp4",
    )  # fmt: skip


def write(folder, specs, change=lambda record: record, experiment=EXPERIMENT, **provenance):
    plan = experiment.plan()
    with RunFolder(folder, experiment, plan) as open_folder:
        written = Provenance(folder, "metaworld", plan.sha256, experiment.protocol.sha256, "llvmpipe", (4,))
        written.add_policy("expert", device="cpu", fingerprint={"weights": "a"})
        for spec in specs:
            changed = change(record(spec))
            open_folder.append(
                changed, [QUERY] * changed.queries, {changed.video: b"film"} if changed.video else None
            )
    file = folder / "provenance.json"
    content = json.loads(file.read_text())
    content["starts"][0].update(provenance)
    file.write_text(json.dumps(content))
    return folder


def test_joins_shards_with_queries_and_videos(tmp_path):
    a, b = (write(tmp_path / name, PLAN.episodes[i::2], started=name) for i, name in enumerate("ab"))
    merged = merge([a, b], tmp_path / "whole")
    assert (merged.episodes, merged.planned, merged.doubles) == (12, 12, 0)
    whole = write(tmp_path / "alone", PLAN.episodes)
    assert frames.load(tmp_path / "whole").equals(frames.load(whole))
    assert frames.load_queries(tmp_path / "whole").equals(frames.load_queries(whole))
    films = sorted(path.relative_to(whole) for path in whole.rglob("*.mp4"))
    assert sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*.mp4")) == films
    starts = json.loads((tmp_path / "whole" / "provenance.json").read_text())["starts"]
    assert len(starts) == 2


def test_carries_step_records_and_images_along(tmp_path):
    folders = [write(tmp_path / name, PLAN.episodes[i::2]) for i, name in enumerate("ab")]
    spec = PLAN.episodes[1]
    names = [
        step_records_path(spec.id),
        images_path(spec.id, "top"),
    ]
    for name in names:
        (folders[1] / name).parent.mkdir(parents=True, exist_ok=True)
        (folders[1] / name).write_bytes(name.encode())
    merge(folders, tmp_path / "whole")
    assert [(tmp_path / "whole" / name).read_bytes() for name in names] == [name.encode() for name in names]


def test_counts_episodes_of_several_folders_once(tmp_path):
    a, b = write(tmp_path / "a", PLAN.episodes[:8]), write(tmp_path / "b", PLAN.episodes[4:])
    assert merge([a, b], tmp_path / "once").doubles == 4
    again = merge([tmp_path / "once", a, b, a], tmp_path / "twice")
    assert again.episodes == 12
    assert len(frames.load(tmp_path / "twice")) == 12


def test_prefers_completed_episodes_to_errors(tmp_path):
    a = write(tmp_path / "a", PLAN.episodes[:1], lambda r: dataclasses.replace(broken(r), video=""))
    b = write(tmp_path / "b", PLAN.episodes[:1])
    for name, order in (("ab", [a, b]), ("ba", [b, a])):
        merge(order, tmp_path / name)
        assert [r.outcome for r in records.read_episodes(tmp_path / name)] == ["success"]


def test_refuses_folders_that_disagree_about_an_episode(tmp_path):
    a, b = write(tmp_path / "a", PLAN.episodes[:2]), write(tmp_path / "b", PLAN.episodes[:1], failed)
    with pytest.raises(
        MergeError, match=r"disagree about episode 0 of task 'reach-v3'.*outcome: success -> failure"
    ):
        merge([a, b], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"], "nothing half done is left"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"packages": {"mujoco": "9.9"}}, r"packages\.mujoco: 3\.3\.0 -> 9\.9"),
        ({"renderer": "another"}, "renderer: llvmpipe -> another"),
        ({"settings": {"MUJOCO_GL": "osmesa"}}, r'MUJOCO_GL: ".*" -> "osmesa"'),
        ({"edited": {"metaworld": {"a.py": "1"}}}, "edited files of metaworld: null -> "),
        ({"commit": "0" * 40}, "commit: "),
        ({"buckets": [1, 2, 4]}, r"batch sizes: 4 -> 1, 2, 4 \(--throughput\)"),
    ],
)
def test_refuses_other_software_by_name(tmp_path, change, said):
    a, b = write(tmp_path / "a", PLAN.episodes[:2]), write(tmp_path / "b", PLAN.episodes[2:4], **change)
    with pytest.raises(MergeError, match=said):
        merge([a, b], tmp_path / "out")


def test_refuses_other_kernels_by_name(tmp_path):
    a, b = write(tmp_path / "a", PLAN.episodes[:2]), write(tmp_path / "b", PLAN.episodes[2:4])
    content = json.loads((b / "provenance.json").read_text())
    content["policies"]["expert"]["kernels"] = {"prompt_attention": "cudnn"}
    (b / "provenance.json").write_text(json.dumps(content))
    with pytest.raises(MergeError, match=r"kernels of expert: .* -> .*'cudnn'"):
        merge([a, b], tmp_path / "out")


def test_refuses_other_weights_by_name(tmp_path):
    a, b = write(tmp_path / "a", PLAN.episodes[:2]), write(tmp_path / "b", PLAN.episodes[2:4])
    content = json.loads((b / "provenance.json").read_text())
    other = copy.deepcopy(content)
    other["policies"]["expert"]["fingerprint"] = {"weights": "b"}
    (b / "provenance.json").write_text(json.dumps(other))
    with pytest.raises(MergeError, match=r"weights of expert: .*'a'.* -> .*'b'"):
        merge([a, b], tmp_path / "out")


def test_refuses_other_experiments_by_name(tmp_path):
    other = dataclasses.replace(EXPERIMENT, seed=1)
    a = write(tmp_path / "a", PLAN.episodes[:2])
    b = write(tmp_path / "b", other.plan().episodes[:2], experiment=other)
    with pytest.raises(MergeError, match="seed: 0 -> 1"):
        merge([a, b], tmp_path / "out")


def test_does_not_overwrite_a_folder(tmp_path):
    a = write(tmp_path / "a", PLAN.episodes[:2])
    with pytest.raises(MergeError, match="exists already"):
        merge([a], a)


def test_refuses_an_altered_folder(tmp_path):
    a = write(tmp_path / "a", PLAN.episodes[:2])
    ledger = a / "episodes.jsonl"
    ledger.write_text(ledger.read_text().replace("success", "failure", 1))
    with pytest.raises(ValueError, match="line 1"):
        merge([a], tmp_path / "out")
    assert issubclass(MergeError, RunFolderError)


def test_refuses_episodes_that_are_not_in_the_plan_or_have_another_seed(tmp_path):
    a = write(tmp_path / "a", PLAN.episodes[:1], lambda r: dataclasses.replace(r, seed=r.seed + 1))
    b = write(tmp_path / "b", PLAN.episodes[:1], lambda r: dataclasses.replace(r, episode=99))
    for folder, said in ((a, "by the plan"), (b, "episode 99 .* is not in the plan")):
        with pytest.raises(RunFolderError, match=rf"{folder.name}/episodes\.jsonl.*{said}"):
            merge([folder], tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_takes_no_video_from_outside_its_folder(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    a = write(tmp_path / "a", PLAN.episodes[:1], lambda r: dataclasses.replace(r, video=""))
    line = dataclasses.replace(record(PLAN.episodes[0]), video="videos/../../secret")
    (a / "episodes.jsonl").write_text(encode_line(line.to_dict()))
    with pytest.raises(LedgerError, match=r"without '\.\.'"):
        merge([a], tmp_path / "out")
