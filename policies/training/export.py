"""Trained weights as a checkpoint of simloop: small, hashed, with everything a policy needs beside them."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from simloop.policies.models.lora import merge
from simloop.policies.tokenizers.fast_actions import FOLDER_IN_CHECKPOINT
from simloop.policies.training.demonstration import DEMONSTRATIONS
from simloop.policies.training.errors import TrainingError
from simloop.policies.training.setup import Setup
from simloop.policies.training.state_prediction import READER
from simloop.policies.training.step import TrainState


def export(setup: Setup, state: TrainState, folder: Path) -> Path:
    """Write the averaged weights (the last ones without an average) in bfloat16.

    Adapters are merged into the weights. The folder runs as PRESET@FOLDER. An export of the same name,
    which an earlier start of this training left, is replaced.

    Raises:
      TrainingError: If a package that checkpoints need is not installed.
    """
    if (hindrance := why_not()) is not None:
        raise TrainingError(hindrance)
    from simloop.policies.checkpoints import save_checkpoint

    trained = state.trained if state.averaged is None else state.averaged
    weights: Any = {name: x for name, x in {**state.frozen, **trained}.items() if not name.startswith(READER)}
    if setup.config.lora_rank:
        weights = merge(weights, setup.preset.model)
    if folder.exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(
        folder,
        {name: jnp.asarray(x, jnp.bfloat16) for name, x in weights.items()},
        preset=setup.preset.name,
        normalization=setup.preset.normalization,
        config={
            "training": {
                **setup.config.decisive(),
                "data": [folder.name for folder in setup.config.data],
                "init": _started_from(setup.config.init),
            },
            "step": int(state.step),
            "data": {
                "sha256": setup.data.sha256,
                "episodes": setup.data.episodes,
                "frames": setup.data.size,
                "instructions": list(setup.data.instructions),
            },
            DEMONSTRATIONS: _demonstrations(setup),
        },
        norm_stats={setup.preset.robot: setup.stats},
        files=_files_of(setup.config.out / FOLDER_IN_CHECKPOINT),
    )
    return folder


def _started_from(init: Path | None) -> Any:
    """Which weights a training started from, wherever they lay, and what those had learnt."""
    if init is None:
        return None
    from simloop.policies.checkpoints import open_checkpoint

    checkpoint = open_checkpoint(init)
    before: Any = checkpoint.settings.get("training", {})
    learnt = {name: before[name] for name in ("objective", "batch") if name in before}
    step = {"steps": checkpoint.settings["step"]} if "step" in checkpoint.settings else {}
    return {"preset": checkpoint.preset, "weights_sha256": checkpoint.weights_sha256(), **learnt, **step}


def _demonstrations(setup: Setup) -> dict[str, Any]:
    """Seeds of every episode that the weights have seen, in this training and in those before it."""
    seeds = {task: set(of_task) for task, of_task in setup.data.seeds.items()}
    if setup.config.init is not None:
        from simloop.policies.checkpoints import open_checkpoint

        before: Any = open_checkpoint(setup.config.init).settings.get(DEMONSTRATIONS, {})
        for task, of_task in before.items():
            seeds.setdefault(task, set()).update(of_task)
    return {task: sorted(of_task) for task, of_task in seeds.items()}


def why_not() -> str | None:
    """What keeps this machine from exporting, in a sentence; None where nothing does.

    Training itself does without the packages that checkpoints need.
    """
    missing = [name for name in ("pydantic", "rich") if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return (
        f"Exporting weights needs {' and '.join(missing)}, not installed here. Install them, or copy the folder of "
        "the training and the data to a machine that has them, and give the same command there: it only exports "
        "what is trained already."
    )


def _files_of(folder: Path) -> dict[str, bytes]:
    """Contents of a folder's files, by path in the checkpoint; empty where there is no such folder."""
    if not folder.is_dir():
        return {}
    return {f"{FOLDER_IN_CHECKPOINT}/{file.name}": file.read_bytes() for file in sorted(folder.iterdir())}
