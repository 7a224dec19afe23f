"""An environment that a child process simulates.

A process that ends, by whatever cause, is replaced: the episode is played again up to the present moment, and its
rewards are compared. A call that loses several processes fails.

Axis letters: h image height, w image width, s state size, a action size, p privileged size.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from simloop.envs.checks import check_action, check_cameras_stay
from simloop.envs.env_state import EnvState, StateError
from simloop.envs.interface import Env, RenderSettings, StepResult, TaskSpec, UnknownThingError, check_camera
from simloop.envs.scene_types import Contact, GripperPose, Pose, Scene
from simloop.envs.served.connection import START_S, Connection, Program, ServedSuiteError, ServedSuiteLost

T = TypeVar("T")

PROCESSES = 3
"""Processes that a call, or the description of a suite, may lose before it fails."""


class ServedEnv(Env):
    """A task of a served suite.

    Where the suite cannot save, a saved state holds the seed and the actions since, which `restore` plays again.
    """

    def __init__(self, spec: TaskSpec, program: Program, render: RenderSettings, version: str) -> None:
        """Start the process.

        Args:
          version: What the simulation consists of; saved states of others are refused.
        """
        check_cameras_stay(spec, render)
        self.spec = spec
        self._program, self._render, self._version = program, render, version
        self._closed = False
        self._steps = 0
        self._calls: list[tuple[str, tuple[Any, ...], Any]] = []
        """Calls since the last `reset` or `restore`, and that one, with their results."""
        self._methods: tuple[str, ...] = ()
        """Those that the environment of the suite has beside the necessary ones."""
        self._connection: Connection | None = None
        self._use(lambda connection: None)

    @property
    def pid(self) -> int | None:
        """Process that watches the one that simulates; None if there is none."""
        return self._connection.pid if self._connection else None

    def _use(self, request: Callable[[Connection], T]) -> T:
        """Send a request to the process, and to the one that replaces it if it ends."""
        if self._closed:
            raise RuntimeError(f"{self._name} has been closed; make a new one.")
        for left in reversed(range(PROCESSES)):
            try:
                if self._connection is None:
                    self._connection = self._started()
                return request(self._connection)
            except ServedSuiteLost as lost:
                self._connection = None
                if not left:
                    raise
                warnings.warn(f"{lost}\nIt is started again.", stacklevel=4)
        raise AssertionError

    def _started(self) -> Connection:
        """Start a process and bring it to the present moment of the episode."""
        connection = Connection(self._program, self._render)
        size = self._render.height, self._render.width, self._render.profile
        try:
            made = connection.ask("make", self.spec.name, *size, self._program.arguments, within_s=START_S)
            self._methods = tuple(made)
            for method, arguments, result in self._calls:
                if connection.ask(method, *arguments) != result:
                    raise ServedSuiteError(
                        f"{self._name} lost its process, and does not repeat its episodes: {method} gave another "
                        "result than before. Find what it draws beside the seed."
                    )
        except BaseException:
            connection.close()
            raise
        return connection

    def _change(self, name: str, *arguments: Any) -> Any:
        """Ask the process for a change of the simulation, and remember it."""
        if name in ("reset", "restore"):
            self._calls.clear()
        try:
            result = self._use(lambda connection: connection.ask(name, *arguments))
        except BaseException:
            self._calls.clear()  # The scene is in no state that is known.
            raise
        self._calls.append((name, arguments, result))
        return result

    def reset(self, seed: int) -> None:
        self._change("reset", seed)
        self._steps = 0

    def step(self, action: Float32[np.ndarray, "a"] | Float64[np.ndarray, "a"]) -> StepResult:
        check_action(self.spec, action)
        self._require_reset("step")
        if self._steps == self.spec.max_steps:
            raise RuntimeError(f"{self._name} ends after {self.spec.max_steps} steps; reset it first.")
        reward, success = self._change("step", np.array(action, np.float64))
        self._steps += 1
        return StepResult(float(reward), bool(success))

    def state(self) -> Float32[np.ndarray, "s"]:
        self._require_reset("state")
        return self._use(lambda connection: connection.state.copy())

    def privileged(self) -> Float64[np.ndarray, "p"]:
        """What the suite tells, nothing by default."""
        if "privileged" not in self._methods:
            return np.zeros(0)
        return np.asarray(self._observe("privileged"), np.float64)

    def render(self, camera: str) -> UInt8[np.ndarray, "h w 3"]:
        check_camera(self.spec, camera)
        self._require_reset("render")
        return self._use(lambda connection: connection.render(camera))

    def snapshot(self) -> Float64[np.ndarray, "_"]:
        return np.asarray(self._observe("snapshot"), np.float64)

    def save(self) -> EnvState:
        if "restore" in self._methods:
            values = self._observe("save")
        else:
            self._require_reset("save")
            (_, (seed,), _), *played = self._calls
            actions = [arguments[0] for _, arguments, _ in played]
            values = {"seed": seed, "actions": np.array(actions).reshape(-1, self.spec.action_size)}
        return EnvState(self.spec.suite, self.spec.name, self._version, self._steps, self.snapshot(), values)

    def restore(self, state: EnvState) -> None:
        state.require(self.spec.suite, self.spec.name, self._version)
        if "restore" in self._methods:
            self._change("restore", state.physics, dict(state.values))
            self._steps = state.steps
            return
        self.reset(int(state.values["seed"]))  # type: ignore[arg-type]
        for action in np.asarray(state.values["actions"]):
            self.step(action)
        if not np.array_equal(self.snapshot(), state.physics):
            raise StateError(
                f"{self._name} does not repeat its episodes: {state.steps} actions from seed {state.values['seed']} "
                "lead elsewhere. Find what it draws beside the seed."
            )

    def instruction(self) -> str | None:
        return str(self._observe("instruction")) if "instruction" in self._methods else None

    def movable(self) -> tuple[str, ...]:
        return tuple(self._observe("movable")) if self._moves() else ()

    def move(self, thing: str, offset: Sequence[float]) -> None:
        if thing not in self.movable():
            raise UnknownThingError(self.spec, thing, self.movable())
        self._change("move", thing, list(map(float, offset)))

    def _moves(self) -> bool:
        """Whether things can be moved; states that are saved as actions would leave out the moves."""
        return {"movable", "move", "restore"} <= set(self._methods)

    def scenes(self, snapshots: Sequence[Float64[np.ndarray, "_"]]) -> list[Scene] | None:
        if "scenes" not in self._methods:
            return None
        return [_scene(found) for found in self._observe("scenes", list(snapshots))]

    def close(self) -> None:
        self._closed = True
        if self._connection is not None:
            self._connection.close()

    @property
    def _name(self) -> str:
        return f"{self.spec.suite}/{self.spec.name}"

    def _observe(self, name: str, *arguments: Any) -> Any:
        self._require_reset(name)
        return self._use(lambda connection: connection.ask(name, *arguments))

    def _require_reset(self, call: str) -> None:
        if not self._calls:
            raise RuntimeError(f"{call}: {self._name} has no scene; call reset(seed) first.")


def _scene(found: dict[str, Any]) -> Scene:
    """A scene as `Env.scenes` returns it, of the plain values of a served suite."""
    return Scene(
        float(found["time_s"]),
        {name: Pose(*map(np.array, pose)) for name, pose in found["poses"].items()},
        tuple(Contact(*contact) for contact in found["contacts"]),
        tuple(found["held"]),
        tuple(
            GripperPose(np.array(position), float(opening)) for position, opening in found.get("grippers", ())
        ),
    )
