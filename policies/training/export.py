"""Export of trained weights as a simloop checkpoint that runs as PRESET@FOLDER."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from simloop.policies.checkpoints import open_checkpoint, save_checkpoint
from simloop.policies.checkpoints.recorded_options import OPTIONS
from simloop.policies.models.lora import merge
from simloop.policies.presets.recorded import taken_over
from simloop.policies.tokenizers.fast_actions import FOLDER_IN_CHECKPOINT, folder_contents
from simloop.policies.training.config import with_present_names
from simloop.policies.training.demonstration import DEMONSTRATIONS
from simloop.policies.training.setup import Setup
from simloop.policies.training.state_prediction import STATE_HEAD
from simloop.policies.training.step import TrainState


def export(setup: Setup, state: TrainState, folder: Path) -> Path:
    """Write the averaged weights (the latest ones without an average) in bfloat16, adapters merged.

    An existing folder, from an earlier start of this run, is replaced.
    """
    trained = state.trained if state.averaged is None else state.averaged
    weights: Any = {
        name: x for name, x in {**state.frozen, **trained}.items() if not name.startswith(STATE_HEAD)
    }
    if setup.config.lora_rank:
        weights = merge(weights, setup.preset.model)
    if folder.exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(
        folder,
        {name: jnp.asarray(x, jnp.bfloat16) for name, x in weights.items()},
        preset=setup.preset.name.partition("@")[0],
        normalization=setup.preset.normalization,
        config={
            OPTIONS: taken_over(setup.preset),
            "training": {
                **setup.config.decisive(),
                "data": [folder.name for folder in setup.config.data],
                "init": _origin(setup.config.init),
            },
            "step": int(state.step),
            "data": {
                "sha256": setup.data.sha256,
                "episodes": setup.data.episodes,
                "frames": setup.data.size,
                "instructions": list(setup.data.instructions),
                "fps": setup.data.fps,
            },
            DEMONSTRATIONS: _demonstrations(setup),
        },
        norm_stats={setup.preset.robot: setup.stats},
        image_stats={setup.preset.robot: setup.image_stats},
        files=folder_contents(setup.config.out / FOLDER_IN_CHECKPOINT),
    )
    return folder


def _origin(init: Path | None) -> Any:
    """Content and training of the checkpoint that a run started from, independent of its path."""
    if init is None:
        return None
    checkpoint = open_checkpoint(init)
    before: Any = checkpoint.settings.get("training", {})
    before = with_present_names(before)
    trained = {name: before[name] for name in ("objective", "batch") if name in before}
    step = {"steps": checkpoint.settings["step"]} if "step" in checkpoint.settings else {}
    return {"preset": checkpoint.preset, "weights_sha256": checkpoint.weights_sha256(), **trained, **step}


def _demonstrations(setup: Setup) -> dict[str, Any]:
    """Seeds of all episodes that the weights were trained on, in this run and in those before it, by task."""
    seeds = {task: set(of_task) for task, of_task in setup.data.seeds.items()}
    if setup.config.init is not None:
        before: Any = open_checkpoint(setup.config.init).settings.get(DEMONSTRATIONS, {})
        for task, of_task in before.items():
            seeds.setdefault(task, set()).update(of_task)
    return {task: sorted(of_task) for task, of_task in seeds.items()}
