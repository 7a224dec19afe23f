"""Open checkpoints of any known format."""

from __future__ import annotations

from pathlib import Path

from simloop.policies.checkpoints.array_source import CheckpointError
from simloop.policies.checkpoints.checkpoint import Checkpoint
from simloop.policies.checkpoints.lerobot import open_lerobot, read_config
from simloop.policies.checkpoints.native import open_own
from simloop.policies.checkpoints.openpi import is_openpi_orbax, open_openpi_orbax, open_openpi_pytorch
from simloop.policies.checkpoints.peft import ADAPTER_WEIGHTS
from simloop.policies.checkpoints.preset_file import with_preset_file
from simloop.policies.files.manifest import MANIFEST
from simloop.untrusted import require_links_inside

KNOWN = (
    f"simloop's own ({MANIFEST}), openpi's (params/), openpi's PyTorch conversion (model.safetensors) and "
    "LeRobot's (config.json with a type, model.safetensors)"
)
PICKLED = ("*.pt", "*.pth", "*.bin", "*.ckpt", "*.pkl")
LEROBOT_KEYS = {"type", "input_features"}
"""Keys of `config.json` that openpi's conversion does not write; the first versions of LeRobot wrote no type."""
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Open a folder with weights; reads names, shapes and settings, but no array.

    The format is detected from the files: simloop's manifest, then openpi's `params`, then safetensors, which are
    LeRobot's if `config.json` has a type or features, and openpi's otherwise. Pickled files are never opened. A file
    `preset.toml` in the folder adds what its owner states.

    Raises:
      CheckpointError: If the format is unknown or the folder is damaged.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.exists():
        raise CheckpointError(
            f"There is no {path}. A checkpoint is a local folder; download checkpoints from buckets or hubs first."
        )
    if folder.is_file():
        raise CheckpointError(f"{path} is a file; name its folder.")
    if not any((folder / name).is_file() for name in WEIGHTS) and (folder / "pretrained_model").is_dir():
        folder = folder / "pretrained_model"  # LeRobot's folder of the policy within a step.
    is_own, is_orbax = (folder / MANIFEST).is_file(), is_openpi_orbax(folder)
    has_weights = any((folder / name).is_file() for name in WEIGHTS)
    if is_own or is_orbax or has_weights:
        require_links_inside(folder, error=CheckpointError)
    if is_own:
        opened = open_own(folder)
    elif is_orbax:
        opened = open_openpi_orbax(folder)
    elif has_weights:
        of_lerobot = not LEROBOT_KEYS.isdisjoint(read_config(folder))
        opened = open_lerobot(folder) if of_lerobot else open_openpi_pytorch(folder)
    else:
        raise CheckpointError(f"{path} {_reason(folder)} Known formats are {KNOWN}.")
    return with_preset_file(opened)


def _reason(folder: Path) -> str:
    """Why a folder is not a checkpoint, and what to do."""
    if (folder / ADAPTER_WEIGHTS).is_file():
        return (
            "contains adapters of PEFT without their policy. Merge them: simloop merge-lora FOLDER --base POLICY --out "
            "FOLDER."
        )
    if any(next(folder.glob(pattern), None) for pattern in PICKLED):
        return (
            "contains pickled weights, which could execute code when loaded and are never opened. Convert them "
            "to safetensors."
        )
    steps = [
        child.name for child in folder.iterdir() if is_openpi_orbax(child) or (child / MANIFEST).is_file()
    ]
    if steps:
        return f"contains the checkpoints {', '.join(sorted(steps))}. Name one of them."
    if (folder / "assets").is_dir():
        return "contains statistics (assets/) but no weights."
    found = ", ".join(sorted(child.name for child in folder.iterdir())[:8])
    return f"is not a checkpoint; it contains {found or 'nothing'}."
