"""The commands `simloop bench ...`. Each imports only what it needs, so that help comes at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from simloop.harness.errors import SimloopError
from simloop.policies.bench.bench_config import BenchConfig

if TYPE_CHECKING:
    from simloop.harness.bench.workload import EngineWorkload

bench = SubcommandApp()
"""A part of the command line of `simloop.harness.cli`."""

Seconds = Annotated[float, arg(metavar="S")]


@dataclass(frozen=True)
class EpisodeOptions:
    """What is played while something is measured."""

    suite: Annotated[str, arg(metavar="S")] = "metaworld"
    """Suite of the task."""
    task: Annotated[str, arg(metavar="T")] = "reach-v3"
    """Task that is simulated."""
    max_steps: Annotated[int, arg(metavar="N")] = 100
    """Control steps per episode."""
    replan_steps: Annotated[int, arg(metavar="N")] = 10
    """Actions between two queries."""
    batch_size: Annotated[int, arg(metavar="N")] = 4
    """Rows of a call of the policy."""
    images: bool = True
    """Whether the policy looks through the robot's cameras."""

    def workload(self) -> EngineWorkload:
        """The same with a policy."""
        from simloop.envs.registry import resolve_tasks
        from simloop.harness.bench.workload import EngineWorkload

        task, *others = resolve_tasks(self.suite, [self.task])
        if others:
            raise SimloopError(
                f"--task {self.task} is {1 + len(others)} tasks; name one, such as {task.name}."
            )
        return EngineWorkload(
            self.suite, task.name, self.images, self.max_steps, self.replan_steps, self.batch_size
        )


@bench.command(name="engine")
def engine(
    played: Annotated[EpisodeOptions, arg(name="")], *, seconds: Seconds = 20.0, compare: bool = True
) -> int:
    """Measure how much of this machine the engine makes use of, and what it costs.

    Prints, as Markdown: queries per second of the simulators alone, of the policy alone and of both together,
    where either is the scarcer one; what a query costs beyond simulating and the model; and steps per second
    beside gymnasium's AsyncVectorEnv. The policy is a stub that takes a set time for a batch.

    Args:
      seconds: Length of each measurement; there are about twenty.
      compare: Whether to measure AsyncVectorEnv as well.
    """
    from simloop.harness.bench.engine_throughput import run

    return run(played.workload(), seconds, Console(), compare=compare)


@bench.command(name="query")
def query(played: Annotated[EpisodeOptions, arg(name="")], *, seconds: Seconds = 20.0) -> int:
    """Measure what a query costs in time on cores, which can be done on a busy machine too.

    Args:
      seconds: Length of each measurement.
    """
    from simloop.harness.bench.query_latency import ENVIRONMENTS, run

    return run(played.workload(), ENVIRONMENTS, seconds, Console())


@bench.command(name="driver")
def driver(*, seconds: Seconds = 20.0) -> int:
    """Measure how many episodes per second one driver hands out and writes down.

    Args:
      seconds: Length of the measurement.
    """
    from simloop.harness.bench.driver_load import run

    return run(seconds, Console())


@bench.command(name="policy")
def policy(
    preset: Annotated[Positional[str], arg(metavar="PRESET")], config: Annotated[BenchConfig, arg(name="")]
) -> int:
    """Measure latency and throughput of a policy, and each stage beside its roofline.

    Example:

      simloop bench policy pi05_libero --random-weights --batches 1 8 32

    Prints Markdown tables: latency and throughput by batch size; time, roofline and XLA's FLOPs by stage.

    Args:
      preset: Preset, such as pi0-tiny.
    """
    from simloop.policies.bench.benchmark import benchmark_policy

    return benchmark_policy(preset, config)
