"""`simloop collect`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from simloop.harness.commands.options import FLAT, arg, say
from simloop.harness.engine.resources import Resources
from simloop.terminal import Terminal


@dataclass(frozen=True)
class CollectOptions:
    """Options of `simloop collect` beside those of the engine."""

    out: Annotated[Path, arg("DIR")]
    """Folder of the dataset; must not exist."""
    suite: Annotated[str, arg("S")] = "metaworld"
    """Suite of the tasks."""
    tasks: Annotated[tuple[str, ...], arg("T [T ...]")] = ("MT10",)
    """Tasks or groups of tasks (simloop list tasks)."""
    episodes: Annotated[int, arg("N")] = 50
    """Demonstrations per task."""
    seed: Annotated[int, arg("S")] = 0
    """Root of the seeds of initial states, which differ from those of runs."""
    robot: Annotated[str, arg("R")] = "metaworld_hand"
    """Robot convention of cameras and state."""
    cameras: Annotated[tuple[str, ...], arg("C [C ...]", "all cameras of the robot")] = ()
    """Names of model cameras, such as base_0_rgb."""
    image_size: Annotated[int, arg("N")] = 96
    """Height and width of the images in pixels."""
    noise: Annotated[float, arg("X")] = 0.0
    """Standard deviation of the noise on executed actions, in half ranges; recorded actions have none."""
    roll_in: Annotated[str, arg("P[@DIR]", "no policy")] = ""
    """Policy that acts first in each episode (DAgger); its steps are not recorded."""
    roll_in_steps: Annotated[int, arg("N")] = 150
    """Largest number of steps of that policy; the number is drawn uniformly from 0 to N."""
    keep_failures: bool = False
    """Also keep episodes that did not succeed."""
    render: Literal["official", "fast"] = "fast"
    """official is the suite's own image quality; fast is without shadows and multisampling."""


def command(options: Annotated[CollectOptions, FLAT], resources: Annotated[Resources, FLAT]) -> int:
    """Record demonstrations of scripted experts as a LeRobotDataset.

    Example:

      simloop collect --tasks MT10 --episodes 50 --noise 0.2 --out runs/mt10-demonstrations

    Ctrl-C keeps finished demonstrations; the same command resumes. Runs refuse to evaluate a policy on the
    initial states of its demonstrations.
    """
    from simloop.envs.interface import RenderSettings
    from simloop.harness.demonstrations.collect import Collection, collect

    fields = vars(options) | {"render": RenderSettings(options.render)}
    out = fields.pop("out")
    say(f"The dataset is in {collect(Collection(**fields), out, resources, Terminal())}.")
    return 0
