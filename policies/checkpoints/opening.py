"""Finds out what kind of checkpoint a folder is."""

from __future__ import annotations

from pathlib import Path

from simloop.policies.checkpoints.array_source import CheckpointError
from simloop.policies.checkpoints.checkpoint import Checkpoint
from simloop.policies.checkpoints.lerobot import open_lerobot, read_config
from simloop.policies.checkpoints.native import open_own
from simloop.policies.checkpoints.openpi import is_openpi_orbax, open_openpi_orbax, open_openpi_pytorch
from simloop.policies.files.manifest import MANIFEST

KNOWN = (
    f"simloop's own ({MANIFEST}), openpi's (params/), openpi's PyTorch conversion (model.safetensors) and "
    "LeRobot's (config.json with a type, model.safetensors)"
)
PICKLED = ("*.pt", "*.pth", "*.bin", "*.ckpt", "*.pkl")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Open a folder with weights; reads names, shapes and settings, but no array.

    The format is told by the files: our manifest, then openpi's `params`, then safetensors, which
    are LeRobot's if `config.json` names a type and openpi's otherwise. Files that would have to be
    unpickled are never opened.

    Raises:
      CheckpointError: If the folder is of no known kind or is damaged.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.exists():
        raise CheckpointError(
            f"There is no {path}. A checkpoint is a local folder; download one that lies in a bucket or on a "
            "hub first."
        )
    if folder.is_file():
        raise CheckpointError(f"{path} is a file; name the folder that it lies in.")
    if not any((folder / name).is_file() for name in WEIGHTS) and (folder / "pretrained_model").is_dir():
        folder = folder / "pretrained_model"  # Where LeRobot's trainer puts the policy of a step.
    if (folder / MANIFEST).is_file():
        return open_own(folder)
    if is_openpi_orbax(folder):
        return open_openpi_orbax(folder)
    if any((folder / name).is_file() for name in WEIGHTS):
        return open_lerobot(folder) if "type" in read_config(folder) else open_openpi_pytorch(folder)
    raise CheckpointError(f"{path} {_what_else(folder)} Known kinds are {KNOWN}.")


def _what_else(folder: Path) -> str:
    """Why a folder is no checkpoint, with what to do, in one or two sentences."""
    if (folder / "adapter_model.safetensors").is_file():
        return "holds a PEFT adapter without its model. Merge the adapter into the policy first."
    if any(next(folder.glob(pattern), None) for pattern in PICKLED):
        return (
            "holds pickled weights, which could run any code when loaded and are never opened. Convert them "
            "to safetensors."
        )
    steps = [
        child.name for child in folder.iterdir() if is_openpi_orbax(child) or (child / MANIFEST).is_file()
    ]
    if steps:
        return f"holds the checkpoints {', '.join(sorted(steps))}. Name one of them."
    if (folder / "assets").is_dir():
        return "holds statistics (assets/) but no weights."
    found = ", ".join(sorted(child.name for child in folder.iterdir())[:8])
    return f"is no checkpoint; it holds {found or 'nothing'}."
