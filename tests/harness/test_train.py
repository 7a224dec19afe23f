"""Training with evaluations on the way, and the check that everything between a demonstration and an action fits."""

import functools
from pathlib import Path

import pytest
from rich.console import Console

from harness.collect import Collection, collect
from harness.engine import Resources
from harness.errors import SimloopError
from harness.train import VALIDATION_SEED, evaluate, train
from policies.training.config import TrainConfig
from results.records import read_episodes
from tests.helpers.demonstrations import small_dataset

TASK = "button-press-topdown-v3"


def test_a_checkpoint_or_preset_that_cannot_be_used_is_said_in_a_sentence(tmp_path):
    data = small_dataset(tmp_path / "data", episodes=1)
    start = functools.partial(
        train, every=None, suite="metaworld", tasks=(TASK,), episodes=1, console=Console()
    )
    with pytest.raises(SimloopError, match="There is no preset 'pi7'"):
        start(TrainConfig(preset="pi7", data=data, out=tmp_path / "a"))
    with pytest.raises(SimloopError, match="is no checkpoint"):
        start(TrainConfig(preset="pi0-tiny", data=data, out=tmp_path / "b", init=tmp_path / "data"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_one_overfitted_task_is_solved_closed_loop(tmp_path):
    """About six minutes on two cores: twenty demonstrations of one task, and a policy that has learnt it."""
    console = Console()
    wanted = Collection("metaworld", (TASK,), 20, noise=0.2)
    data = collect(wanted, tmp_path / "data", Resources(), console)
    config = TrainConfig(
        preset="pi0-tiny",
        data=data,
        out=tmp_path / "run",
        steps=500,
        batch=32,
        warmup_steps=50,
        learning_rate=1e-3,
        ema_decay=0.98,
    )
    checkpoint: Path = train(config, None, "metaworld", (TASK,), 0, console)
    place = {"preset": "pi0-tiny", "out": config.out, "suite": "metaworld", "tasks": (TASK,)}
    rates = evaluate(500, checkpoint, **place, episodes=12, console=console)
    assert rates["errors"] == 0
    assert rates["success"] > 0.9
    (folder,) = (config.out / "evaluations").iterdir()
    assert len(read_episodes(folder)) == 12
    assert wanted.seed != VALIDATION_SEED
