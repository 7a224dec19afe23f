"""Commands that make policies: demonstrations, and trainings on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional
from tyro.conf import arg as _arg

from simloop.harness.commands.options import arg
from simloop.harness.engine.resources import Resources
from simloop.policies.inference.quantization import Kind
from simloop.policies.training.config import TrainConfig


def collect(
    *,
    out: Annotated[Path, arg("DIR")],
    suite: Annotated[str, arg("S")] = "metaworld",
    tasks: Annotated[tuple[str, ...], arg("T [T ...]")] = ("MT10",),
    episodes: Annotated[int, arg("N")] = 50,
    seed: Annotated[int, arg("S")] = 0,
    robot: Annotated[str, arg("R")] = "metaworld_hand",
    cameras: Annotated[tuple[str, ...], arg("C [C ...]", "all of the robot's")] = (),
    image_size: Annotated[int, arg("N")] = 96,
    noise: Annotated[float, arg("X")] = 0.0,
    roll_in: Annotated[str, arg("P[@DIR]", "nobody")] = "",
    roll_in_steps: Annotated[int, arg("N")] = 150,
    keep_failures: bool = False,
    render: Literal["official", "fast"] = "fast",
    resources: Annotated[Resources, _arg(name="")] = Resources(),  # noqa: B008
) -> int:
    """Record demonstrations of scripted experts as a LeRobotDataset.

    Example:

      simloop collect --tasks MT10 --episodes 50 --noise 0.2 --out runs/mt10-demonstrations

    Ctrl-C keeps what is done; the same command goes on from there. Runs refuse to test a policy on the
    initial states that it was trained on.

    Args:
      out: Folder of the dataset; must not exist.
      suite: Suite of the tasks.
      tasks: Tasks or groups of tasks (simloop list tasks).
      episodes: Demonstrations per task.
      seed: Root of the initial states, which are other ones than those of runs.
      robot: Robot convention of cameras and state.
      cameras: Model camera names, such as base_0_rgb.
      image_size: Height and width of the frames.
      noise: Standard deviation of the noise on executed actions, in half ranges; 0.1 to 0.3 makes policies
        sturdier. What is recorded is what the expert would have done.
      roll_in: Policy that plays first in every episode, so that the expert shows the way back from where that
        policy gets to (DAgger). Its own steps are not recorded.
      roll_in_steps: It plays for 0 to N steps, every number as likely.
      keep_failures: Keep attempts that did not succeed as well.
      render: As in runs.
    """
    from simloop.envs.interface import RenderSettings
    from simloop.harness.demonstrations.collect import Collection
    from simloop.harness.demonstrations.collect import collect as collect_demonstrations

    wanted = Collection(
        suite,
        tasks,
        episodes,
        seed,
        robot,
        cameras,
        image_size,
        noise,
        keep_failures,
        RenderSettings(render),
        roll_in=roll_in,
        roll_in_steps=roll_in_steps,
    )
    console = Console()
    folder = collect_demonstrations(wanted, out, resources, console)
    console.print(f"The dataset is in {folder}.", highlight=False, soft_wrap=True)
    return 0


def quantize(
    policy: Annotated[Positional[str], arg("PRESET[@DIR]")],
    *,
    to: Kind,
    data: Annotated[Path, arg("DIR")],
    out: Annotated[Path, arg("DIR")],
    frames: Annotated[int, arg("N")] = 512,
    cameras: Annotated[tuple[str, ...], arg("MODEL=KEY [MODEL=KEY ...]", "by their names")] = (),
) -> int:
    """Make a policy whose large products are computed in 8 bits, and say how much its actions change.

    Example:

      simloop quantize pi0-tiny --to int8 --data runs/mt10-demonstrations --out runs/pi0-tiny-int8

    It is another policy: it runs as PRESET-int8@DIR or PRESET-fp8@DIR, and tables show it under that name.

    Args:
      policy: What to make it of.
      to: Integers, or floating-point numbers with 3 bits of mantissa; GPUs since Hopper multiply both twice as
        fast as bfloat16.
      data: Demonstrations (a LeRobotDataset): real observations, on half of which the ranges of inputs are
        measured, and on the other half the change of actions.
      out: Folder of the checkpoint; must not exist.
      frames: CameraFrames to take of the data, evenly spread.
      cameras: MODEL_CAMERA=DATASET_KEY for each camera; base_0_rgb=observation.images.base_0_rgb and so on
        without.
    """
    from simloop.harness.quantize import QuantizeOptions
    from simloop.harness.quantize import quantize as quantize_policy

    console = Console()
    name = quantize_policy(QuantizeOptions(policy, to, data, out, frames, cameras), console)
    console.print(f"It runs as {name}.", highlight=False, soft_wrap=True)
    return 0


def train(
    config: Annotated[TrainConfig, _arg(name="")],
    *,
    eval_every: Annotated[int | None, arg("N", "never")] = None,
    eval_suite: Annotated[str, arg("S")] = "metaworld",
    eval_tasks: Annotated[tuple[str, ...], arg("T [T ...]")] = ("MT10",),
    eval_episodes: Annotated[int, arg("N")] = 5,
) -> int:
    """Train a policy on demonstrations.

    Example:

      simloop train --preset pi0-tiny --data runs/mt10-demonstrations --out runs/pi0-tiny

    Ctrl-C or a kill loses what came after the last checkpoint; the same command goes on from there.

    Args:
      eval_every: Steps between two closed-loop evaluations of the averaged weights.
      eval_suite: Suite of these evaluations.
      eval_tasks: Tasks of these evaluations.
      eval_episodes: Episodes per task in each of them.
    """
    from simloop.harness.train import train as train_policy

    train_policy(config, eval_every, eval_suite, eval_tasks, eval_episodes, Console())
    return 0
