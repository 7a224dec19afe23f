"""Promises of joining runs: nothing counts twice, nothing unlike is mixed."""

import dataclasses

import pytest

from simloop.results.records.ledger import LedgerError
from simloop.results.records.runs import RunSource, load_runs
from simloop.results.statistics.scores import score_tasks
from tests.helpers.run_folders import episodes, with_queries, write_run

PLAN = {"experiment": {"suite": "metaworld", "policies": ["expert"], "episodes": 10}, "tasks": ["reach-v3"]}


def software(mujoco="3.3.0", weights=None, policy=None, **start):
    policies = {"expert": {"fingerprint": {"weights": weights}}} if weights else {}
    policies = {"expert": policy} if policy else policies
    return {"starts": [{"packages": {"mujoco": mujoco}} | start], "policies": policies}


def test_parts_of_one_policy_are_joined_and_what_is_missing_is_counted(tmp_path):
    one = write_run(tmp_path / "one", episodes(8, 1), config=PLAN, provenance=software())
    push = PLAN | {"tasks": ["push-v3"]}
    two = write_run(tmp_path / "two", episodes(10, task="push-v3"), config=push, provenance=software())
    runs = load_runs([one, two])
    scores = score_tasks(runs.episodes, runs.plans)
    assert [(score.task, score.completed, score.missing) for score in scores] == [
        ("reach-v3", 9, 1),
        ("push-v3", 10, 0),
    ]
    assert runs.policies == ("expert",)


def test_an_episode_in_two_runs_is_refused_unless_the_runs_are_named(tmp_path):
    one, two = (
        write_run(tmp_path / name, episodes(3, count), config=PLAN)
        for name, count in (("one", 0), ("two", 2))
    )
    with pytest.raises(
        LedgerError, match=r"Both .*one and .*two hold episode 0 .*an episode counts once.*one="
    ):
        load_runs([one, two])
    runs = load_runs([f"before={one}", f"after={two}"])
    assert runs.episodes["policy"].value_counts().to_dict() == {"before:expert": 3, "after:expert": 5}
    assert runs.policies == ("before:expert", "after:expert")
    assert [plan.policies for plan in runs.plans] == [("before:expert",), ("after:expert",)]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (software("3.9.0"), "packages.mujoco: 3.3.0 -> 3.9.0"),
        (software(weights="b"), "other weights, statistics or source files"),
    ],
)
def test_one_policy_of_unlike_runs_is_refused(tmp_path, other, message):
    one = write_run(tmp_path / "one", episodes(3), provenance=software(weights=None))
    two = write_run(tmp_path / "two", episodes(3, task="push-v3"), provenance=other)
    with pytest.raises(LedgerError, match=message):
        load_runs([one, two])
    assert len(load_runs([one, f"other={two}"]).episodes) == 6


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (software(policy={"device": "H200"}), software(policy={"device": "H100"}), "device of expert: H200"),
        (
            software(policy={"kernels": {"prompt_attention": "xla"}}),
            software(policy={"kernels": {"prompt_attention": "cudnn"}}),
            "kernels of expert: {} -> .*cudnn",
        ),
        (software(buckets=[4]), software(buckets=[1, 2, 4]), r"batch sizes: 4 -> 1, 2, 4 \(--throughput\)"),
        (software(settings={}), software(settings={"XLA_FLAGS": "-f"}), 'XLA_FLAGS: null -> "-f"'),
        (software(edited={}), software(edited={"metaworld": {"a.py": "1"}}), "edited files of metaworld"),
        (software(commit="ab"), software(commit="ab+changes.12"), r"commit: ab -> ab\+changes"),
    ],
    ids=["device", "kernels", "throughput", "settings", "edited files", "commit"],
)
def test_a_table_pools_no_policy_over_what_a_merge_refuses(tmp_path, one, other, message):
    one = write_run(tmp_path / "one", episodes(3), provenance=one)
    two = write_run(tmp_path / "two", episodes(3, task="push-v3"), provenance=other)
    with pytest.raises(LedgerError, match=message):
        load_runs([one, two])
    assert len(load_runs([one, f"other={two}"]).episodes) == 6


def test_sources_are_folders_with_or_without_a_name(tmp_path):
    assert RunSource.parse("runs/demo") == RunSource(tmp_path.__class__("runs/demo"))
    assert RunSource.parse("a=runs/demo").name == "a"
    folder = tmp_path / "lr=0.1"
    folder.mkdir()
    assert RunSource.parse(folder) == RunSource(folder)
    with pytest.raises(LedgerError, match="at least one run folder"):
        load_runs([])


def test_policies_and_checkpoints_that_never_finished_were_evaluated_too(tmp_path):
    config = {"experiment": {"suite": "metaworld", "policies": ["expert", "late"], "episodes": 10}}
    runs = load_runs(write_run(tmp_path, episodes(1), config=config))
    assert runs.evaluated("metaworld", "metaworld/default-v1") == 2


def test_clocks_that_go_backwards_change_no_result(tmp_path):
    records = [dataclasses.replace(record, wall_s=-5.0) for record in episodes(3, 1)]
    made = [with_queries(record, [-1.0, 30.0]) for record in records]
    runs = load_runs(write_run(tmp_path, [record for record, _ in made], made))
    assert score_tasks(runs.episodes)[0].rate == 0.75


def test_policies_that_are_code_are_told_with_their_hashes(tmp_path):
    config = {
        "experiment": {"suite": "metaworld", "policies": ["expert", "/a/my.py:mine?h=1"], "episodes": 3}
    }
    provenance = {"policies": {"mine?h=1": {"fingerprint": {"my.py": "0123456789abcdef"}}}}
    run = write_run(tmp_path / "run", episodes(3), config=config, provenance=provenance)
    assert load_runs([f"new={run}"]).own_code == ("new:mine?h=1 is my.py:mine?h=1 (SHA-256 0123456789ab).",)
    plain = write_run(tmp_path / "plain", episodes(3))
    assert load_runs([plain]).own_code == ()
    config["experiment"]["policies"] = ["mine=process:folder"]
    provenance = {"policies": {"mine": {"fingerprint": {"server.py": "0123456789abcdef"}}}}
    served = write_run(tmp_path / "served", episodes(3), config=config, provenance=provenance)
    assert load_runs([served]).own_code == ()


def test_a_policy_with_two_kinds_of_weights_is_refused(tmp_path):
    trained, other = episodes(2, weights="trained"), episodes(1, task="push-v3", weights="untrained")
    run = write_run(tmp_path / "run", [*trained, *other])
    with pytest.raises(
        LedgerError, match=r"policy 'expert'; got 'untrained' in .*run and 'trained' in .*run\."
    ):
        load_runs(run)
