"""Training with evaluations on the way, and the check that everything between a demonstration and an action fits."""

import functools
from pathlib import Path

import pytest
from rich.console import Console

from simloop.envs.registry import suite
from simloop.harness.adapters.registry import find_adapter
from simloop.harness.demonstrations.collect import Collection, collect
from simloop.harness.engine.resources import Resources
from simloop.harness.errors import SimloopError
from simloop.harness.planning.protocol import Protocol
from simloop.harness.planning.seed_overlap import training_seeds
from simloop.harness.rollout.loop import run_episode
from simloop.harness.train import evaluate, train
from simloop.policies.inference.loading import load_policy
from simloop.policies.training.config import TrainConfig
from simloop.results.records.records import read_episodes
from tests.helpers.demonstrations import small_dataset

TASK = "drawer-open-v3"  # Random actions never solve it.
DEMONSTRATIONS = 6


def test_a_checkpoint_or_preset_that_cannot_be_used_is_said_in_a_sentence(tmp_path):
    data = small_dataset(tmp_path / "data", episodes=1)
    start = functools.partial(
        train, every=None, suite="metaworld", tasks=(TASK,), episodes=1, console=Console()
    )
    with pytest.raises(SimloopError, match="There is no preset 'pi7'"):
        start(TrainConfig(preset="pi7", data=(data,), out=tmp_path / "a"))
    with pytest.raises(SimloopError, match="is no checkpoint"):
        start(TrainConfig(preset="pi0-tiny", data=(data,), out=tmp_path / "b", init=tmp_path / "data"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_one_overfitted_task_is_solved_closed_loop(tmp_path):
    """Ten minutes on two cores: whoever has learnt six demonstrations by heart repeats them in the loop.

    Everything between a demonstration and an action has to fit for that: orientation of pictures, order
    of cameras, normalisation, prompt, and the weights that are exported.
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

    # The same through the actors, on initial states that it has not seen.
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
