"""Policies are not evaluated on their training states."""

import json

import pytest

from simloop.envs.registry import resolve_tasks
from simloop.harness.planning.experiment import Experiment, ExperimentError
from simloop.harness.planning.protocol import named_protocol
from simloop.harness.planning.seed_overlap import refuse_training_seeds, training_seeds
from simloop.harness.planning.seeding import episode_seed

TASK = "reach-v3"


def test_refuses_a_plan_with_training_seeds(tmp_path):
    seeds = [episode_seed(7, "metaworld", TASK, 1), 99]
    manifest = {"config": {"demonstrations": {f"metaworld/{TASK}": seeds}}}
    (tmp_path / "simloop_checkpoint.json").write_text(json.dumps(manifest))
    assert training_seeds(tmp_path) == {f"metaworld/{TASK}": frozenset(seeds)}

    def check(seed):
        experiment = Experiment(
            "", "metaworld", (TASK,), (f"ours=pi0-tiny@{tmp_path}", "expert"), 3, seed=seed
        )
        refuse_training_seeds(experiment, experiment.plan())

    with pytest.raises(ExperimentError, match=rf"ours was trained on .* 1 of these .*{TASK} with seed"):
        check(7)
    check(8)


def test_seeds_of_recorded_states_are_compared_as_states(tmp_path):
    """Demonstrations draw seeds of 31 bits, of which LIBERO uses the remainder."""
    spec, *_ = resolve_tasks("libero", ("libero_spatial",))
    seed = 2**30 - 2**30 % spec.initial_states + 7
    manifest = {"config": {"demonstrations": {f"libero/{spec.name}": [seed]}}}
    (tmp_path / "simloop_checkpoint.json").write_text(json.dumps(manifest))

    def check(episodes):
        protocol = named_protocol("libero")
        policies = (f"ours=pi0_libero@{tmp_path}",)
        experiment = Experiment("", "libero", (spec.name,), policies, episodes, protocol=protocol)
        refuse_training_seeds(experiment, experiment.plan())

    check(7)
    with pytest.raises(ExperimentError, match=r"initial states of 1 of these .* seed 7\. Evaluate other"):
        check(8)


def test_finds_no_training_seeds_in_a_folder_without_a_manifest(tmp_path):
    assert training_seeds(tmp_path) == {}
