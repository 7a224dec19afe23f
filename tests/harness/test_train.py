"""Training with closed-loop evaluations, from demonstrations to actions."""

import functools
from pathlib import Path

import pytest
from rich.console import Console

from simloop.envs.registry import suite
from simloop.harness.adapters.registry import find_adapter
from simloop.harness.demonstrations.collect import Collection, collect
from simloop.harness.engine.resources import Resources
from simloop.harness.planning.protocol import Protocol
from simloop.harness.planning.seed_overlap import training_seeds
from simloop.harness.rollout.loop import run_episode
from simloop.harness.train import evaluate, train
from simloop.policies.checkpoints import CheckpointError
from simloop.policies.inference.loading import load_policy
from simloop.policies.presets import UnknownPresetError
from simloop.policies.training.config import TrainConfig
from simloop.results.records.records import read_episodes
from tests.helpers.demonstrations import small_dataset

TASK = "drawer-open-v3"  # Random actions never solve it.
DEMONSTRATIONS = 6


def test_rejects_unknown_presets_and_unusable_checkpoints(tmp_path):
    data = small_dataset(tmp_path / "data", episodes=1)
    start = functools.partial(
        train, every=None, suite="metaworld", tasks=(TASK,), episodes=1, console=Console()
    )
    with pytest.raises(UnknownPresetError, match="There is no preset 'pi7'"):
        start(TrainConfig(preset="pi7", data=(data,), out=tmp_path / "a"))
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        start(TrainConfig(preset="pi0-tiny", data=(data,), out=tmp_path / "b", init=tmp_path / "data"))


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_solves_an_overfitted_task_closed_loop(tmp_path):
    """A policy that overfits six demonstrations reproduces them closed-loop; takes ten minutes on two cores.

    This covers image orientation, camera order, normalization, prompts and exported weights.
    """
    console = Console()
    wanted = Collection("metaworld", (TASK,), DEMONSTRATIONS, noise=0.1)
    data = collect(wanted, tmp_path / "data", Resources(), console)
    config = TrainConfig(
        preset="pi0-tiny",
        data=(data,),
        out=tmp_path / "run",
        steps=600,
        batch=32,
        warmup_steps=50,
        learning_rate=1e-3,
        ema_decay=0.98,
        flow_samples=4,
    )
    checkpoint = train(config, None, "metaworld", (TASK,), 0, console)

    policy, protocol = load_policy("pi0-tiny", checkpoint), Protocol("metaworld")
    (task,) = wanted.task_specs()
    env = suite("metaworld").make(TASK, protocol.render)
    adapter = find_adapter("metaworld", policy.spec)
    endings = [
        run_episode(env, wanted.attempt(task, number), policy, adapter, protocol).ended_by
        for number in range(DEMONSTRATIONS)
    ]
    env.close()
    assert endings == ["success"] * DEMONSTRATIONS

    # The same in env actors, on unseen initial states.
    place = {"preset": "pi0-tiny", "out": config.out, "suite": "metaworld", "tasks": (TASK,)}
    rates = evaluate(600, checkpoint, **place, episodes=6, console=console)
    assert rates["errors"] == 0
    assert rates["success"] > 0
    assert not refused(config.out / "evaluations" / "step-0000600", checkpoint)


def refused(folder: Path, checkpoint: Path) -> set[int]:
    """Initial states of a run that the policy was trained on."""
    seeds = training_seeds(checkpoint)[f"metaworld/{TASK}"]
    assert len(seeds) == DEMONSTRATIONS
    return {record.seed for record in read_episodes(folder)} & seeds
