"""openpi's checkpoint folders: its own (orbax) and its PyTorch conversion (safetensors).

    <step>/params/...                           or    model.safetensors, config.json
    <step>/assets/<asset id>/norm_stats.json          assets/<asset id>/norm_stats.json

Neither records how states and actions were normalised.
"""

from __future__ import annotations

from pathlib import Path

from policies.checkpoints.checkpoint import Checkpoint
from policies.checkpoints.lerobot import read_config
from policies.checkpoints.openpi_orbax import METADATA, ROOT, OrbaxSource
from policies.checkpoints.safetensors_files import SafetensorsFiles
from policies.checkpoints.statistics import AssetsFolder
from policies.checkpoints.torch_source import TorchSource


def open_openpi_orbax(folder: Path) -> Checkpoint:
    """Open `<step>` or `<step>/params`.

    Raises:
      CheckpointError: If the tree cannot be read.
    """
    params = folder if (folder / METADATA).is_file() else folder / ROOT
    return Checkpoint(
        path=params.parent,
        format="openpi_orbax",
        source=OrbaxSource(params),
        statistics=AssetsFolder(params.parent),
        settings={},
    )


def open_openpi_pytorch(folder: Path) -> Checkpoint:
    """Open a folder with `model.safetensors` that openpi converted to, or trained with, PyTorch.

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
