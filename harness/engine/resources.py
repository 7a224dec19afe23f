"""Resources of a run. They do not change its results, except for rounding on other devices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from tyro.conf import arg

from simloop.harness.errors import SimloopError
from simloop.policies.kernels import Kernels


class EngineError(SimloopError):
    """A condition under which no episode of a policy can be played."""


@dataclass(frozen=True)
class Floors:
    """Lower limits of the timeouts, in seconds. Timeouts grow with the durations measured in the run."""

    make: float = 300.0
    """Creating an environment of a task."""
    reset: float = 120.0
    """Resetting an environment."""
    step: float = 30.0
    """One control step."""
    render: float = 60.0
    """Rendering one camera."""
    query: float = 300.0
    """One batch of a policy, and the arrival of its replies."""
    silence: float = 120.0
    """No heartbeat, for which native code that blocks the whole process may be the cause."""
    start: float = 900.0
    """No progress of a policy worker towards being ready, such as loading weights or compiling one program."""

    def __post_init__(self) -> None:
        """Refuse timeouts that would end every process."""
        for name, seconds in vars(self).items():
            if not seconds > 0:
                raise EngineError(f"--timeouts.{name} must be above 0 s; got {seconds:g}.")


def _optional(metavar: str, default: str) -> object:
    return arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


@dataclass(frozen=True)
class Resources:
    """Resources of a run. Those that are None are chosen by measurement, at the start and during the run."""

    env_actors: Annotated[int | None, _optional("N", "one per core, as memory allows")] = None
    """Processes with environments. Does not change results."""
    envs_per_actor: Annotated[int | None, _optional("N", "as many as keep cores or policies busy")] = None
    """Environments per env actor: one is simulated while others wait for actions. Does not change results."""
    workers: Annotated[int | None, _optional("N", "as many as the env actors can use, up to one per GPU")] = (
        None
    )
    """Policy workers per policy. Does not change results if they run on the same kind of device."""
    max_attempts: Annotated[int, arg(metavar="N")] = 2
    """Attempts after which an episode that fails is an error. Failures caused by another episode do not count."""
    actor_memory_gib: Annotated[float | None, _optional("G", "act when a node runs short of memory")] = None
    """Memory beyond which an env actor is replaced."""
    ray_address: Annotated[str | None, _optional("HOST:PORT|auto", "this machine alone")] = None
    """A running Ray cluster to use."""
    timeouts: Floors = field(default_factory=Floors)
    gpus_per_worker: Annotated[int, arg(metavar="N")] = 1
    """GPUs per policy worker: batches are split over all of them (if N divides --batch-size), weights over as few as
    can hold them. Changes answers by rounding, as another kind of GPU does."""
    kernels: Annotated[tuple[str, ...], _optional("xla|OPERATION=LIBRARY [...]", "xla")] = ()
    """Implementations of attention and gated products on GPUs: image_attention, prompt_attention and
    action_attention by xla, cudnn or tokamax; gated_product by xla or tokamax. Changes answers by rounding."""

    def __post_init__(self) -> None:
        """Refuse counts and kernels that cannot be used."""
        for option in ("env_actors", "envs_per_actor", "workers", "gpus_per_worker", "max_attempts"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise EngineError(f"--{option.replace('_', '-')} must be at least 1; got {value}.")
        if self.actor_memory_gib is not None and not self.actor_memory_gib > 0:
            raise EngineError(f"--actor-memory-gib must be above 0; got {self.actor_memory_gib:g}.")
        try:
            self.parsed_kernels()
        except ValueError as error:
            raise EngineError(f"--kernels: {error}") from error

    def parsed_kernels(self) -> Kernels:
        """Return the value of --kernels."""
        return Kernels.from_words(self.kernels)
