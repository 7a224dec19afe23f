"""The interface of simulated tasks: `Suite`, `TaskSpec` and `Env`.

An `Env` is one live simulation of one task. It differs from `gymnasium.Env` in one point that decides the speed of an
evaluation: stepping does not render. Cameras are rendered on request. `simloop.envs.gym` wraps any `Env` as a
`gymnasium.Env`.

Axis letters: h image height, w image width, s state size, a action size, p privileged size.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from simloop.envs.camera_view import CameraView
from simloop.envs.env_state import EnvState
from simloop.envs.look import Look
from simloop.envs.scene_types import Scene

RenderProfile = Literal["official", "fast"]

ActionKind = Literal["displacement", "target", "gripper"]
"""`displacement`: relative to the present pose, zero is standing still. `target`: absolute, standing still is repeating
the last one. `gripper`: opens or closes, standing still is repeating the last one."""


@dataclass(frozen=True)
class RenderSettings:
    """Size and quality of rendered images; part of the provenance of every result.

    `official` is the quality of the suite itself, for published protocols. `fast` turns off shadows and
    multisampling, which saves most of the time of a software renderer and changes pixels.
    """

    profile: RenderProfile = "fast"
    height: int = 224
    """In pixels, as is `width`."""
    width: int = 224
    camera_positions: tuple[tuple[str, tuple[float, float, float]], ...] = ()
    """Cameras that stand elsewhere than the suite puts them, with their positions [x, y, z] in metres in the frame of
    the world; directions stay. Simulations in MuJoCo have them, others refuse."""


class Instruction(NamedTuple):
    """An instruction of a task, and where it is written."""

    source: str
    """`suite` where the suite has one sentence for the task, `episode` where it has one for each episode; else
    `filename`, `bddl` or another name of the suite's."""
    text: str


@dataclass(frozen=True)
class TaskSpec:
    """The properties of a task that all of its episodes share."""

    suite: str
    name: str
    """The suite's own name of the task, unique within the suite."""
    instruction: str
    """Instruction for language-conditioned policies, the suite's choice where it has several. Where each episode has
    its own, what they have in common; see `Env.instruction`."""
    max_steps: int
    """Control steps after which an episode ends without success."""
    control_hz: float
    """Control steps per simulated second."""
    cameras: tuple[str, ...]
    """Names accepted by `Env.render`; the scene camera first."""
    state_names: tuple[str, ...]
    """Names, with units, of the entries of the proprioceptive state."""
    action_names: tuple[str, ...]
    """Names of the entries of an action."""
    action_low: tuple[float, ...]
    """Lower bounds of the entries of an action, inclusive."""
    action_high: tuple[float, ...]
    """Upper bounds of the entries of an action, inclusive."""
    privileged_size: int = 0
    """Length of `Env.privileged`; 0 if the suite has none."""
    action_kinds: tuple[ActionKind, ...] | None = None
    """What each entry of an action commands, which decides how the robot holds still and how actions are averaged. None
    if unknown; protocols that need it are refused then."""
    initial_states: int | None = None
    """Number of recorded initial states: `Env.reset(i)` starts from state i modulo this number, and episode i of a
    run uses state i. None if initial states are drawn from the seed."""
    instructions: tuple[Instruction, ...] = ()
    """Instructions by source where the suite has several that may differ, `instruction` first."""

    @property
    def state_size(self) -> int:
        """Length of the proprioceptive state."""
        return len(self.state_names)

    @property
    def action_size(self) -> int:
        """Length of an action."""
        return len(self.action_names)

    def instruction_from(self, source: str = "suite") -> Instruction:
        """Return the instruction of a source; that of `suite` is the suite's choice, with its own source.

        Raises:
          InstructionError: If the task has none from there.
        """
        choices = self.instructions or (Instruction("suite", self.instruction),)
        found = {"suite": choices[0]} | {one.source: one for one in choices}
        if source not in found:
            raise InstructionError(
                f"{self.suite}/{self.name} has instructions from {', '.join(found)}; got {source!r}."
            )
        return found[source]


@dataclass(frozen=True)
class StepResult:
    """Reward and success of one control step."""

    reward: float
    success: bool
    """Whether the suite counts the task as solved at this step."""


class Env(abc.ABC):
    """One live simulation of one task. Not thread-safe: it stays in the thread that made it.

    Environments of a thread may share what does not change, such as meshes and textures; none affects another.
    """

    spec: TaskSpec

    @abc.abstractmethod
    def reset(self, seed: int) -> None:
        """Start an episode from the initial state of `seed`.

        The same seed gives the same initial state in every process, whatever was simulated before. Global random
        state is neither read nor changed.
        """

    @abc.abstractmethod
    def step(self, action: Float32[np.ndarray, "a"] | Float64[np.ndarray, "a"]) -> StepResult:
        """Advance one control step.

        Raises:
          ActionError: If the action has a shape other than the spec's, or an entry that is NaN, infinite or outside
            the bounds. The simulation has not advanced then.
          SimulationError: If the physics became unstable. The episode cannot continue; call `reset` or `restore`.
          RuntimeError: Before the first `reset`, or after `spec.max_steps` steps.
        """

    @abc.abstractmethod
    def state(self) -> Float32[np.ndarray, "s"]:
        """Proprioceptive state in the order of `spec.state_names`, freshly allocated."""

    @abc.abstractmethod
    def privileged(self) -> Float64[np.ndarray, "p"]:
        """Ground truth about the scene, for scripted experts only."""

    @abc.abstractmethod
    def render(self, camera: str) -> UInt8[np.ndarray, "h w 3"]:
        """Image of a camera, RGB and upright, freshly allocated.

        Raises:
          CameraError: If the task has no such camera.
        """

    def view(self, camera: str) -> CameraView | None:
        """Where a camera is at the present moment, and how it projects; None where the suite does not tell.

        The view is that of the image of `render`: a point of the scene appears at the pixel to which it is projected.

        Raises:
          CameraError: If the task has no such camera.
        """
        check_camera(self.spec, camera)
        return None

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

    def instruction(self) -> str | None:
        """Instruction of the present episode, where each has its own; None where all have that of the task."""
        return None

    def movable(self) -> tuple[str, ...]:
        """Names of the things that `move` can move; empty if the suite cannot move any."""
        return ()

    def move(self, thing: str, offset: Sequence[float]) -> None:
        """Move a thing by an offset [x, y, z] in metres in the frame of the world, for experiments.

        Raises:
          UnknownThingError: If the thing is not among `movable`.
        """
        raise UnknownThingError(self.spec, thing, self.movable())

    def look(self, look: Look) -> None:
        """Change how the scene looks, until the next call; the physics stays as it is.

        Raises:
          LookError: If the suite can change nothing about it.
          CameraError: If the look moves a camera that the task does not have.
        """
        if not look.plain:
            raise LookError(f"{self.spec.suite}/{self.spec.name} can move neither cameras nor lights.")

    def scenes(self, snapshots: Sequence[Float64[np.ndarray, "_"]]) -> list[Scene] | None:
        """Things, contacts and grasps at earlier moments of the episode; None where the suite does not tell.

        Reading many at once costs less than reading each while the episode is at that moment.

        Args:
          snapshots: What `snapshot` returned at the moments. Nothing has been moved by `move` since.
        """
        return None

    @abc.abstractmethod
    def close(self) -> None:
        """Free the simulation. Closing twice is allowed.

        What it shared, such as a GL context, is freed at the latest when an environment of another task is made.
        """


class InstructionError(ValueError):
    """A source from which the task has no instruction."""

    user_facing = True


class ActionError(ValueError):
    """An action that the task cannot execute."""

    user_facing = True


class SimulationError(RuntimeError):
    """Unstable physics: the episode is an error, not a failure of the policy."""


class EnvError(RuntimeError):
    """An observation that breaks the contract of `Env`: the episode is an error, not a failure of the policy."""


class CameraError(ValueError):
    """A camera that the task does not have or cannot move."""

    user_facing = True


class LookError(ValueError):
    """A look that the environment cannot give to its scene."""

    user_facing = True


class UnknownThingError(ValueError):
    """A thing that the environment cannot move."""

    user_facing = True

    def __init__(self, task: TaskSpec, thing: str, movable: Sequence[str]):
        super().__init__(
            f"{task.suite}/{task.name} can move {', '.join(map(repr, movable)) or 'nothing'}; got {thing!r}."
        )


class SuiteNotInstalledError(ImportError):
    """A suite whose packages are not installed; the message contains the command that installs them."""

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
    """Distributions that the suite consists of; empty if it is part of simloop."""
    module: str = ""
    """Module that `make` imports, which env actors import while policies load; empty if it imports nothing heavy."""
    extra: str | None = None
    """The extra of simloop that installs these packages; None if they are dependencies of simloop."""
    default_group: str
    """Group of tasks that runs by default."""
    changes_look: bool = False
    """Whether `Env.look` of its environments can move cameras and lights."""
    golden_tasks: tuple[str, ...] = ()
    """Tasks with recorded images and states, by which machines are compared; see `simloop.envs.golden`."""

    @property
    def source(self) -> str:
        """Packages and versions that the suite consists of, for the provenance."""
        return ", ".join(f"{package} {version}" for package, version in self.versions().items())

    def versions(self) -> dict[str, str]:
        """Versions of the packages that the suite consists of, in the interpreter that simulates."""
        return {package: _version(package) for package in self.packages}

    def renderer(self) -> str:
        """Name what draws the images of the suite, after a test image: by default the OpenGL of this process.

        Raises:
          RenderingError: If it cannot draw.
        """
        from simloop.envs.rendering import render_test_frame  # Imports MuJoCo.

        return render_test_frame(RenderSettings("fast", 64, 64)).gl_renderer

    def is_installed(self) -> bool:
        """Whether the packages of the suite are installed."""
        return NOT_INSTALLED not in map(_version, self.packages)

    def require_installed(self) -> None:
        """Raise `SuiteNotInstalledError` unless the packages of the suite are installed."""
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
        """Task names by group, such as a published benchmark."""

    def unavailable(self, name: str) -> str | None:
        """Say what a task or group needs that is not there; None if the suite has no such task or group at all."""
        return None

    @abc.abstractmethod
    def make(self, task: str, render: RenderSettings) -> Env:
        """Make an environment of one task.

        Raises:
          SuiteNotInstalledError: If the packages of the suite are missing.
          KeyError: If `task` is not the exact name of a task; `simloop.envs.registry` resolves names typed by users.
        """
