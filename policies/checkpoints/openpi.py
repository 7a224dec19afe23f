"""openpi's checkpoint folders: orbax, and safetensors of its PyTorch conversion.

    <step>/params/...                           or    model.safetensors, config.json
    <step>/assets/<asset id>/norm_stats.json          assets/<asset id>/norm_stats.json

Neither records the normalization of states and actions.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from simloop.policies.checkpoints.checkpoint import Checkpoint
from simloop.policies.checkpoints.lerobot import read_config
from simloop.policies.checkpoints.lerobot_options import CONFIG
from simloop.policies.checkpoints.norm_stats_files import AssetsFolder
from simloop.policies.checkpoints.recorded_options import JsonFile, RecordedOptions
from simloop.policies.checkpoints.safetensors_files import SafetensorsFiles
from simloop.policies.checkpoints.torch_source import TorchSource

PARAMS = "params"
SHOWN_BY_WEIGHTS = ("paligemma_variant", "action_expert_variant", "precision")
"""Options that the shapes and dtypes of the weights decide."""
KNOWN = ("action_horizon", "action_dim", *SHOWN_BY_WEIGHTS)
TREE_METADATA = "_METADATA"  # Orbax's description of a tree.


def is_openpi_orbax(folder: Path) -> bool:
    """Whether the folder is a step of openpi's training, or the `params` of a step."""
    return (folder / TREE_METADATA).is_file() or (folder / PARAMS).is_dir()


def open_openpi_orbax(folder: Path) -> Checkpoint:
    """Open `<step>` or `<step>/params`.

    Raises:
      CheckpointError: If the tree cannot be read.
    """
    from simloop.policies.checkpoints.openpi_orbax import (
        OrbaxSource,  # Takes half a second to import.
    )

    params = folder if (folder / TREE_METADATA).is_file() else folder / PARAMS
    return Checkpoint(
        path=params.parent,
        format="openpi_orbax",
        source=OrbaxSource(params),
        statistics=AssetsFolder(params.parent),
        settings={},
        options=RecordedOptions(config_name=_config_name(params.parent)),
    )


def open_openpi_pytorch(folder: Path) -> Checkpoint:
    """Open a folder with `model.safetensors` from openpi's PyTorch conversion or training.

    Raises:
      CheckpointError: If the weights cannot be read.
    """
    config = read_config(folder)
    return Checkpoint(
        path=folder,
        format="openpi_pytorch",
        source=TorchSource(SafetensorsFiles.in_folder(folder)),
        statistics=AssetsFolder(folder),
        settings=config,
        options=dataclasses.replace(
            _options(JsonFile(folder / CONFIG, config)), config_name=_config_name(folder)
        ),
    )


def _config_name(step: Path) -> str | None:
    """Name of the config that openpi trained: of `<config>/<experiment>/<step>`."""
    return step.parents[1].name if step.name.isdecimal() and len(step.parents) > 1 else None


def _options(file: JsonFile) -> RecordedOptions:
    """Options in the `config.json` of openpi's conversion to PyTorch.

    Raises:
      CheckpointError: If it has an entry that is unknown.
    """
    for key, value in file.content.items():
        if key not in KNOWN and value:
            raise file.refused(key, "simloop does not know this option of openpi.")
    return RecordedOptions(
        chunk_steps=file.integer("action_horizon"),
        padded_size=file.integer("action_dim"),
        places={
            "chunk_steps": f"{file.path}: action_horizon",
            "padded_size": f"{file.path}: action_dim",
        },
        unused={key: value for key, value in file.content.items() if key in SHOWN_BY_WEIGHTS},
    )
