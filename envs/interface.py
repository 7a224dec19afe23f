"""What every simulated task looks like from outside.

An `Env` is one live simulation of one task. It differs from `gymnasium.Env` in one point that
decides the speed of an evaluation: stepping does not render. The caller asks for a camera when
somebody will look at it. `simloop.envs.gym` wraps any `Env` into a `gymnasium.Env` for those who want one.

Axis letters: h image height, w image width, s state size, a action size, p privileged size.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from simloop.envs.env_state import EnvState

RenderProfile = Literal["official", "fast"]


@dataclass(frozen=True)
class RenderSettings:
    """How a suite draws its cameras; part of every result's provenance.

    `official` is the suite's own quality, for published protocols. `fast` turns off shadows and
    multisampling, which on a software renderer saves most of the time and changes pixels.
    """

    profile: RenderProfile = "fast"
    height: int = 224
    width: int = 224


@dataclass(frozen=True)
class TaskSpec:
    """What is fixed about a task before any episode of it runs."""

    suite: str
    name: str
    """The suite's own name of the task, unique within the suite."""
    instruction: str
    """The sentence that a language-conditioned policy is given."""
    max_steps: int
    """Control steps after which an episode ends without success."""
    control_hz: float
    """Control steps per simulated second."""
    cameras: tuple[str, ...]
    """Names accepted by `Env.render`; the scene camera first."""
    state_names: tuple[str, ...]
    """Names, with units, of the entries of the proprioceptive state."""
    action_names: tuple[str, ...]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    privileged_size: int = 0
    """Length of the simulator's own view of the scene; 0 where the suite offers none."""
    initial_states: int | None = None
    """Number of initial states that come with the task: `Env.reset(i)` starts from state i modulo this
    number, and episode i of a run is state i. None where initial states are drawn from the seed."""

    @property
    def state_size(self) -> int:
        """Length of the proprioceptive state."""
        return len(self.state_names)

    @property
    def action_size(self) -> int:
        """Length of an action."""
        return len(self.action_names)


@dataclass(frozen=True)
class StepResult:
    """What one control step brought."""

    reward: float
    success: bool
    """Whether the suite counts the task as solved at this step."""


class Env(abc.ABC):
    """One live simulation of one task. Not thread-safe; rendering stays in the thread of the first call."""

    spec: TaskSpec

    @abc.abstractmethod
    def reset(self, seed: int) -> None:
        """Put the scene into the initial state that belongs to `seed`.

        The same seed gives the same initial state in every process, whatever was simulated before.
        No global random state is read or changed.
        """

    @abc.abstractmethod
    def step(self, action: Float32[np.ndarray, "a"] | Float64[np.ndarray, "a"]) -> StepResult:
        """Advance one control step.

        Raises:
          ActionError: If the action has another shape than the spec says, or an entry that is NaN,
            infinite or outside the bounds. Nothing has moved then.
          SimulationError: If the physics became unstable. The episode cannot go on; `reset` can.
          RuntimeError: Before the first `reset`, or after `spec.max_steps` steps.
        """

    @abc.abstractmethod
    def state(self) -> Float32[np.ndarray, "s"]:
        """Proprioceptive state in the order of `spec.state_names`, freshly allocated."""

    @abc.abstractmethod
    def privileged(self) -> Float64[np.ndarray, "p"]:
        """The simulator's own view of the scene, which only scripted experts may use."""

    @abc.abstractmethod
    def render(self, camera: str) -> UInt8[np.ndarray, "h w 3"]:
        """Draw a camera as a person would hold it (upright), freshly allocated.

        Raises:
          CameraError: If the task has no such camera.
        """

    @abc.abstractmethod
    def snapshot(self) -> Float64[np.ndarray, "_"]:
        """The simulator's integration state, by which two runs of an episode are compared.

        An episode cannot be continued from it alone, because suites keep more in Python; see `save`.
        """

    @abc.abstractmethod
    def save(self) -> EnvState:
        """Everything that the next steps of this episode depend on, independent of later steps."""

    @abc.abstractmethod
    def restore(self, state: EnvState) -> None:
        """Continue the episode of a saved state, whatever this environment simulated before.

        Steps, rewards, states and images are those that would have followed `save`, bit for bit on the same
        machine. The environment need not have been reset, and the state may come from another process.

        Raises:
          StateError: If the state was saved by another task, suite or version. Nothing has changed then.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Free the simulation and its GL context. Closing twice is allowed."""


class ActionError(ValueError):
    """An action that the task cannot execute."""


class SimulationError(RuntimeError):
    """A simulation that lost its physics: what follows would be an error, not a failure of the policy."""


class CameraError(ValueError):
    """A camera that the task does not have."""


class SuiteNotInstalledError(ImportError):
    """A suite whose packages are not installed; the text says the one command that installs them."""

    user_facing = True


NOT_INSTALLED = "not installed"


def install_command(extra: str) -> str:
    """Shell command that installs an extra: `scripts/setup` in a source tree, else pip."""
    if (Path(__file__).resolve().parents[1] / "scripts" / "setup").is_file():
        return f"scripts/setup {extra}"
    return f"pip install 'simloop[{extra}]'"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def check_action(spec: TaskSpec, action: np.ndarray) -> None:
    """Raise `ActionError` unless the action can be executed as it is; nothing is clipped in silence."""
    where = f"{spec.suite}/{spec.name}"
    if np.shape(action) != (spec.action_size,):
        raise ActionError(
            f"{where} takes an action of shape ({spec.action_size},) = {', '.join(spec.action_names)}; "
            f"got shape {np.shape(action)}."
        )
    if not np.all(np.isfinite(action)):
        raise ActionError(
            f"{where} got an action with NaN or infinite entries: {np.asarray(action).tolist()}."
        )
    # Bounds are rounded as the action was: 0.1 in single precision is a little above 0.1 and yet allowed.
    low, high = np.asarray(spec.action_low, action.dtype), np.asarray(spec.action_high, action.dtype)
    outside = (action < low) | (action > high)
    if np.any(outside):
        i = int(np.argmax(outside))
        raise ActionError(
            f"{where} takes {spec.action_names[i]} in [{low[i]:g}, {high[i]:g}]; got {float(action[i]):g}. "
            "Clip it in the adapter if the policy is meant to saturate."
        )


def check_camera(spec: TaskSpec, camera: str) -> None:
    """Raise `CameraError` unless the task renders the camera."""
    if camera not in spec.cameras:
        raise CameraError(
            f"{spec.suite}/{spec.name} renders cameras {', '.join(map(repr, spec.cameras))}; got {camera!r}."
        )


class Suite(abc.ABC):
    """A family of tasks from one source."""

    name: str
    packages: tuple[str, ...] = ()
    """Distributions that the tasks come from; none where the suite is part of simloop."""
    extra: str | None = None
    """The extra of simloop that brings these packages; None where they are always installed."""
    default_group: str
    """The group of tasks that is run when nobody names one."""
    golden_tasks: tuple[str, ...] = ()
    """Tasks of which pictures and states are kept to compare machines by; see `simloop.envs.golden`."""

    @property
    def source(self) -> str:
        """Packages and versions that the tasks come from, for the provenance."""
        return ", ".join(f"{package} {_version(package)}" for package in self.packages)

    def is_installed(self) -> bool:
        """Whether simulations of the suite can be made here."""
        return NOT_INSTALLED not in map(_version, self.packages)

    def require_installed(self) -> None:
        """Raise `SuiteNotInstalledError` unless simulations of the suite can be made here."""
        missing = [package for package in self.packages if _version(package) == NOT_INSTALLED]
        if missing:
            command = install_command(self.extra) if self.extra else f"pip install {' '.join(missing)}"
            raise SuiteNotInstalledError(
                f"Suite {self.name!r} is not installed: {' and '.join(missing)} cannot be found. Install it with: "
                f"{command}"
            )

    @abc.abstractmethod
    def tasks(self) -> Sequence[TaskSpec]:
        """Every task of the suite, in a fixed order."""

    @abc.abstractmethod
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Named sets of tasks, such as a published benchmark: group name to task names."""

    @abc.abstractmethod
    def make(self, task: str, render: RenderSettings) -> Env:
        """Start a simulation of one task.

        Raises:
          SuiteNotInstalledError: If the suite's packages are not there, with the command that installs them.
          KeyError: If `task` is not the exact name of a task; `simloop.envs.registry` resolves what people write.
        """
