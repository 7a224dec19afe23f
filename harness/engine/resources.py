"""What a run may use. Nothing here changes its results, up to rounding on other devices."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from simloop.harness.errors import SimloopError
from simloop.policies.models.kernels import Kernels


class EngineError(SimloopError):
    """Something without which no episode of a policy can be played."""


@dataclass(frozen=True)
class Floors:
    """Deadlines, in seconds, that never fall below these however fast the phases are."""

    make: float = 300.0
    """For starting a simulation of a task."""
    reset: float = 120.0
    """For putting it into an initial state."""
    step: float = 30.0
    """For one control step."""
    render: float = 60.0
    """For drawing one camera."""
    query: float = 300.0
    """For one call of a policy, and for its answer to arrive."""
    silence: float = 120.0
    """For any sign of life at all: code in C may hold a whole process."""
    start: float = 900.0
    """For a policy worker to come a step further towards being ready: weights loaded, one more program compiled."""

    def __post_init__(self) -> None:
        """Refuse what would end everything at once."""
        for name, seconds in vars(self).items():
            if not seconds > 0:
                raise EngineError(f"--deadlines.{name} must be above 0 s; got {seconds:g}.")


def _unless_given(metavar: str, default: str) -> object:
    return arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


@dataclass(frozen=True)
class Resources:
    """What a run may use; what is None is found out by measuring, at the start and while it runs."""

    env_actors: Annotated[int | None, _unless_given("N", "one per core, as memory allows")] = None
    """Processes that simulate. Does not change results."""
    envs_per_actor: Annotated[int | None, _unless_given("N", "as many as keep the scarcer side busy")] = None
    """Environments of each, of which one is simulated while others wait for actions. Does not change results."""
    workers: Annotated[int | None, _unless_given("N", "as many as simulators can use, up to one per GPU")] = (
        None
    )
    """Workers for each policy. Does not change results where they run on the same kind of device."""
    max_attempts: Annotated[int, arg(metavar="N")] = 2
    """Tries at an episode that breaks before it is an error. Episodes that a neighbour took down are not charged."""
    actor_memory_gib: Annotated[float | None, _unless_given("G", "act when the machine runs short")] = None
    """A simulator process that grows beyond this is replaced."""
    ray_address: Annotated[str | None, _unless_given("HOST:PORT|auto", "this machine alone")] = None
    """A running Ray cluster to use."""
    timeouts: Floors = field(default_factory=Floors)
    gpus_per_worker: Annotated[int, arg(metavar="N")] = 1
    """GPUs that each worker spreads its policy over: rows of a batch over all of them (where N divides --batch-size),
    weights over as few as can hold them. Changes answers by rounding, as another kind of GPU does."""
    kernels: Annotated[
        tuple[str, ...], _unless_given("xla|OPERATION=LIBRARY [...]", "the fastest, found before it answers")
    ] = ()
    """What computes attention and gated products of learned policies on GPUs: image_attention, prompt_attention and
    action_attention by xla, cudnn or tokamax, gated_product by xla or tokamax; xla alone for all. Changes answers by
    rounding; a run keeps what it was started with."""

    def __post_init__(self) -> None:
        """Refuse counts that cannot run."""
        for option in ("env_actors", "envs_per_actor", "workers", "gpus_per_worker", "max_attempts"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise EngineError(f"--{option.replace('_', '-')} must be at least 1; got {value}.")
        try:
            Kernels.from_words(self.kernels)
        except ValueError as error:
            raise EngineError(f"--kernels: {error}") from error
        if self.actor_memory_gib is not None and not self.actor_memory_gib > 0:
            raise EngineError(f"--actor-memory-gib must be above 0; got {self.actor_memory_gib:g}.")


def usable_cores() -> int:
    """Cores that this process may keep busy, by its affinity and by the limit of its container."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))
