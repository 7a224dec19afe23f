"""openpi's checkpoint folders: orbax, and safetensors of its PyTorch conversion.

    <step>/params/...                           or    model.safetensors, config.json
    <step>/assets/<asset id>/norm_stats.json          assets/<asset id>/norm_stats.json

Neither records the normalization of states and actions.
"""

from __future__ import annotations

from pathlib import Path

from simloop.policies.checkpoints.checkpoint import Checkpoint
from simloop.policies.checkpoints.lerobot import read_config
from simloop.policies.checkpoints.norm_stats_files import AssetsFolder
from simloop.policies.checkpoints.safetensors_files import SafetensorsFiles
from simloop.policies.checkpoints.torch_source import TorchSource

PARAMS = "params"
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
    )


def open_openpi_pytorch(folder: Path) -> Checkpoint:
    """Open a folder with `model.safetensors` from openpi's PyTorch conversion or training.

    Raises:
      CheckpointError: If the weights cannot be read.
    """
    return Checkpoint(
        path=folder,
        format="openpi_pytorch",
        source=TorchSource(SafetensorsFiles.in_folder(folder)),
        statistics=AssetsFolder(folder),
        settings=read_config(folder),
    )
