"""`simloop quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from simloop.harness.commands.options import arg, say
from simloop.policies.inference.quantization import Kind
from simloop.terminal import Terminal


def command(
    policy: Annotated[Positional[str], arg("PRESET[@DIR]")],
    *,
    to: Kind,
    data: Annotated[Path, arg("DIR")],
    out: Annotated[Path, arg("DIR")],
    frames: Annotated[int, arg("N")] = 512,
    cameras: Annotated[tuple[str, ...], arg("MODEL=KEY [MODEL=KEY ...]", "keys named like the cameras")] = (),
) -> int:
    """Quantize the large matrix products of a policy to 8 bits and report how much its actions change.

    Example:

      simloop quantize pi0-tiny --to int8 --data runs/mt10-demonstrations --out runs/pi0-tiny-int8

    The result is a policy of its own: it runs as PRESET-int8@DIR or PRESET-fp8@DIR, and tables show that name.

    Args:
      policy: Policy to quantize.
      to: 8-bit integers or 8-bit floating-point numbers; GPUs since Hopper multiply both at twice the bfloat16 rate.
      data: Demonstrations (a LeRobotDataset): one half calibrates input ranges, the other measures the change.
      out: Folder of the checkpoint; must not exist.
      frames: Number of frames to take from the data, evenly spaced.
      cameras: Dataset key of each model camera, such as base_0_rgb=observation.images.base_0_rgb.
    """
    from simloop.harness.quantize import QuantizeOptions, quantize

    name = quantize(QuantizeOptions(policy, to, data, out, frames, cameras), Terminal())
    say(f"It runs as {name}.")
    return 0
