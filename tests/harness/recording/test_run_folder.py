"""The run folder: nothing lost, nothing counted twice, nothing mixed."""

import dataclasses
import errno
import json
import os

import pytest

from simloop.harness.planning.experiment import Experiment, ExperimentError, experiment_from_json
from simloop.harness.planning.plan import Plan
from simloop.harness.planning.protocol import Protocol
from simloop.harness.recording.run_folder import RunFolder, RunFolderError, with_batch_size
from simloop.results.records import frames
from simloop.results.records.ledger import LedgerError
from simloop.results.records.paths import video_path
from simloop.results.records.records import EPISODES, EpisodeRecord, QueryRecord
from simloop.results.tables.run_tables import render, write_tables

EXPERIMENT = Experiment(
    name="tiny", suite="metaworld", tasks=("reach-v3",), policies=("hold", "random"), episodes=3,
    protocol=Protocol("metaworld"),
)  # fmt: skip
PLAN = EXPERIMENT.plan()


def record(spec, outcome="failure", **changes) -> EpisodeRecord:
    values = {
        "policy": spec.policy, "weights": "scripted", "suite": spec.suite, "protocol": spec.protocol,
        "task": spec.task, "episode": spec.episode, "seed": spec.seed, "outcome": outcome,
        "ended_by": {"failure": "step_limit"}.get(outcome, outcome), "steps": 500, "queries": 1, "undecodable": 0,
        "reward": 1.5, "attempts": 1, "error": "", "actions_sha256": "a" * 64, "final_state_sha256": "b" * 64,
        "wall_s": 0.5, "video": video_path(spec.policy, spec.task, spec.episode, outcome),
    }  # fmt: skip
    return EpisodeRecord(**{**values, **changes})


def query(index=0) -> QueryRecord:
    return QueryRecord(index, 1.0, 2.0, 0.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 36.0, 2, 4)


def open_folder(path, experiment=EXPERIMENT, plan=PLAN) -> RunFolder:
    return RunFolder(path, experiment, plan)


def test_what_was_appended_is_read_back(tmp_path):
    with open_folder(tmp_path) as folder:
        for spec in PLAN.episodes[:2]:
            played = record(spec, "success", queries=2)
            folder.append(played, [query(0), query(1)], {played.video: b"mp4"})
    frame = frames.load(tmp_path)
    assert list(frame["episode"]) == [0, 1]
    assert set(frame["outcome"]) == {"success"}
    assert {"policy", "suite", "protocol", "task", "episode", "seed", "outcome", "steps", "queries", "error",
            "actions_sha256"} <= set(frame.columns)  # fmt: skip
    assert len(frames.load_queries(tmp_path)) == 4
    assert (tmp_path / record(PLAN.episodes[0], "success").video).read_bytes() == b"mp4"


def test_a_second_opening_knows_what_is_done(tmp_path):
    with open_folder(tmp_path) as folder:
        folder.append(record(PLAN.episodes[0]), [query()])
    with open_folder(tmp_path) as folder:
        assert set(folder.done) == {PLAN.episodes[0].id}
        with pytest.raises(RunFolderError, match="in the ledger already"):
            folder.append(record(PLAN.episodes[0]), [])


@pytest.mark.parametrize("kept", [0, 1, 20, 200])
@pytest.mark.parametrize("file", ["episodes.jsonl", "queries.jsonl"])
def test_an_episode_torn_by_a_kill_is_cut_off_and_open_again(tmp_path, file, kept):
    with open_folder(tmp_path) as folder:
        folder.append(record(PLAN.episodes[0]), [query()])
    before = {name: (tmp_path / name).read_bytes() for name in ("episodes.jsonl", "queries.jsonl")}
    with open_folder(tmp_path) as folder:
        folder.append(record(PLAN.episodes[1]), [query()])
    # The writer is killed after `kept` bytes of a line; the ledger is written last.
    whole = len(before[file])
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[: whole + kept])
    if file == "queries.jsonl":
        (tmp_path / "episodes.jsonl").write_bytes(before["episodes.jsonl"])
    with open_folder(tmp_path) as folder:
        assert set(folder.done) == {PLAN.episodes[0].id}
        assert [file in note for note in folder.notes] == ([True] if kept else [])
        for spec in PLAN.episodes[1:]:
            folder.append(record(spec), [query()])
    assert len(frames.load(tmp_path)) == len(PLAN.episodes)
    assert len(frames.load_queries(tmp_path)) == len(PLAN.episodes)


def test_a_corrupted_line_is_named_and_stops_the_run(tmp_path):
    with open_folder(tmp_path) as folder:
        for spec in PLAN.episodes[:3]:
            folder.append(record(spec), [query()])
    lines = (tmp_path / EPISODES).read_text().splitlines(keepends=True)
    lines[1] = lines[1].replace("failure", "success")
    (tmp_path / EPISODES).write_text("".join(lines))
    with pytest.raises(LedgerError, match=r"episodes\.jsonl, line 2"):
        open_folder(tmp_path)
    assert (tmp_path / EPISODES).read_text() == "".join(lines), "nothing is changed by looking"


def test_a_folder_of_another_experiment_is_refused_with_what_differs(tmp_path):
    open_folder(tmp_path).close()
    other = dataclasses.replace(EXPERIMENT, episodes=4, seed=1)
    with pytest.raises(
        RunFolderError, match="episodes: 3 -> 4; seed: 0 -> 1 because they belong to different experiments"
    ):
        open_folder(tmp_path, other, other.plan())


def test_a_folder_planned_differently_by_another_version_is_refused(tmp_path):
    open_folder(tmp_path).close()
    with pytest.raises(RunFolderError, match="tasks or seeds"):
        open_folder(tmp_path, EXPERIMENT, Plan(PLAN.protocol, PLAN.episodes[1:]))


def test_records_the_step_limit_of_each_task(tmp_path):
    open_folder(tmp_path).close()
    assert json.loads((tmp_path / "config.json").read_text())["max_steps"] == {"reach-v3": 500}


def test_a_config_with_unknown_keys_is_refused(tmp_path):
    open_folder(tmp_path).close()
    config = json.loads((tmp_path / "config.json").read_text())
    config["experiment"]["epsiodes"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ExperimentError, match="epsiodes"):
        open_folder(tmp_path)


def test_two_processes_cannot_write_to_one_folder(tmp_path):
    with open_folder(tmp_path), pytest.raises(RunFolderError, match="Another process"):
        open_folder(tmp_path)
    open_folder(tmp_path).close()


def test_records_without_a_config_are_not_taken_over(tmp_path):
    (tmp_path / EPISODES).write_text("")
    with pytest.raises(RunFolderError, match=r"no config\.json"):
        open_folder(tmp_path)


def test_an_unwritable_folder_is_said_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="Cannot write to the run folder"):
        open_folder(tmp_path / "file" / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_said_in_a_sentence(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunFolderError, match="Cannot write"):
        open_folder(tmp_path / "run")


def test_experiments_survive_the_way_through_json():
    assert experiment_from_json(json.dumps(EXPERIMENT.to_dict()), "here") == EXPERIMENT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 0}, "at least 1; got 0"),
        ({"batch_size": 0}, "at least 1; got 0"),
        ({"policies": ()}, "names no policy"),
        ({"tasks": ()}, "names no task"),
        ({"policies": ("hold", "hold")}, "hold twice"),
        ({"protocol": Protocol("libero")}, "for suite 'libero'"),
    ],
)
def test_experiments_that_cannot_be_run_are_refused(changes, message):
    with pytest.raises(ExperimentError, match=message):
        dataclasses.replace(EXPERIMENT, **changes)


def test_removing_the_lock_file_lets_no_second_writer_in(tmp_path):
    with open_folder(tmp_path):
        (tmp_path / ".lock").unlink()
        with pytest.raises(RunFolderError, match="Another process"):
            open_folder(tmp_path)


def test_the_folder_of_another_shard_is_refused(tmp_path):
    with open_folder(tmp_path) as folder:
        folder.append(record(PLAN.episodes[0]), [query()])
        folder.require_shard([spec.id for spec in PLAN.episodes[::2]])
        with pytest.raises(
            RunFolderError, match=r"1 episodes of another shard, e\.g\. episode 0.*--out folder"
        ):
            folder.require_shard([spec.id for spec in PLAN.episodes[1::2]])


def test_an_episode_with_another_seed_than_planned_is_refused_by_name(tmp_path):
    with open_folder(tmp_path) as folder:
        folder.append(record(PLAN.episodes[0], seed=5), [query()])
    with pytest.raises(
        RunFolderError, match=rf"episode 0 of .* has the seed 5, by the plan {PLAN.episodes[0].seed}"
    ):
        open_folder(tmp_path)


def test_lost_queries_are_said_when_the_folder_is_opened(tmp_path):
    with open_folder(tmp_path) as folder:
        folder.append(record(PLAN.episodes[0]), [query()])
    (tmp_path / "queries.jsonl").unlink()
    with open_folder(tmp_path) as folder:
        assert folder.notes == [
            "queries.jsonl lacks the queries of 1 episodes, which are not played again: there will be no latency "
            "table. Restore the file from a copy to have one."
        ]
    assert [file.name for file in write_tables(tmp_path)] == ["success.md", "success.csv", "success.tex"]
    assert "No latency table" in render(tmp_path, "terminal")


def test_a_full_disk_keeps_finished_episodes_and_is_said_in_one_sentence(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_folder(tmp_path) as folder:
        folder.append(record(PLAN.episodes[0]), [query()], {"videos/hold/film.mp4": b"mp4"})
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(
            RunFolderError, match=r"cannot take episode.*No space left.*repeat the command"
        ) as caught:
            folder.append(record(PLAN.episodes[1]), [query()], {"videos/hold/film.mp4": b"mp4"})
        assert caught.value.__suppress_context__
        monkeypatch.undo()
    assert not list(tmp_path.rglob("*.part"))
    with open_folder(tmp_path) as folder:
        assert set(folder.done) == {PLAN.episodes[0].id}


@pytest.mark.parametrize("place", ["videos", "errors.log", "tensorboard", ".writable"])
def test_a_folder_with_links_that_leave_it_is_not_written_to(tmp_path, place):
    run = tmp_path / "run"
    open_folder(run).close()
    (run / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunFolderError, match="symbolic link that leaves its folder"):
        open_folder(run)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"experiment": []}', "\xff"])
def test_an_unreadable_config_is_said_in_a_sentence(tmp_path, text):
    open_folder(tmp_path).close()
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises((LedgerError, ExperimentError), match=r"config\.json"):
        open_folder(tmp_path)


def test_a_batch_size_that_is_left_open_is_that_of_the_run_to_resume(tmp_path):
    assert with_batch_size(EXPERIMENT, tmp_path, 1).batch_size == 1
    (tmp_path / "config.json").write_text(
        json.dumps({"experiment": EXPERIMENT.to_dict() | {"batch_size": 4}})
    )
    assert with_batch_size(EXPERIMENT, tmp_path, 1).batch_size == 4
    chosen = dataclasses.replace(EXPERIMENT, batch_size=2)
    assert with_batch_size(chosen, tmp_path, 1) == chosen
    as_before = dataclasses.replace(EXPERIMENT, batch_size=4)
    assert EXPERIMENT.short_hash == as_before.short_hash, "the same default folder"
