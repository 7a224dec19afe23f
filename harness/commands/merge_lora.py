"""`simloop merge-lora`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from simloop.harness.commands.options import arg, say


def command(
    adapter: Annotated[Positional[Path], arg("FOLDER")],
    *,
    base: Annotated[Path, arg("FOLDER")],
    out: Annotated[Path, arg("FOLDER")],
) -> int:
    """Merge adapters of PEFT (LoRA) into the policy that they were trained on.

    Adapters of openpi need no command: they are merged whenever their checkpoint is loaded.

    Example:

      simloop merge-lora outputs/pi0-lora/checkpoints/last/pretrained_model --base /data/pi0_base --out /data/pi0-mine

    Args:
      adapter: Folder with adapter_config.json and adapter_model.safetensors, and the settings of the policy.
      base: Folder of the policy that they were trained on (LeRobot's, or openpi's conversion to PyTorch).
      out: Folder to write, in the format of the policy; must not exist.
    """
    from simloop.policies.checkpoints.peft import merge_adapters

    count = merge_adapters(adapter, base, out)
    say(f"{count} layers of {base} were changed. simloop inspect {out} shows which preset it runs as.")
    return 0
