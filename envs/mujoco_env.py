"""Base class of environments on MuJoCo: step counting, checks of actions and cameras, rendering, saved states.

A scene exists from `reset` until the physics becomes unstable or the environment is closed.

Axis letters: h image height, w image width, s state size, a action size, p privileged size.
"""

from __future__ import annotations

import abc
import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import mujoco
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from simloop.envs import registry
from simloop.envs.camera_view import CameraView, camera_view
from simloop.envs.checks import check_action
from simloop.envs.env_state import EnvState, Value
from simloop.envs.interface import (
    Env,
    RenderSettings,
    SimulationError,
    StepResult,
    TaskSpec,
    UnknownThingError,
    check_camera,
)
from simloop.envs.look import Look
from simloop.envs.rendering import (
    Renderer,
    cameras_at,
    close_renderers_first_at_exit,
    looked_at,
)
from simloop.envs.scene import SceneReader
from simloop.envs.scene_types import Scene
from simloop.envs.shared_model import ModelUse, SharedModel

# MuJoCo replaces a state that it cannot integrate with the initial one and continues; only these warnings show it.
UNSTABLE = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)


# Computed before each integration, so that they may lag behind the integration state: cameras and observations read
# them as they are.
POSITIONS = (
    "xpos", "xquat", "xmat", "xipos", "ximat", "geom_xpos", "geom_xmat", "site_xpos", "site_xmat",
    "cam_xpos", "cam_xmat", "light_xpos", "light_xdir",
)  # fmt: skip


class MujocoEnv(Env):
    """A task on one MuJoCo model. Suites implement the methods that begin with an underscore."""

    _upside_down_cameras: ClassVar[frozenset[str]] = frozenset()
    """Cameras that the model mounts upside down."""
    _hidden_geom_groups: ClassVar[tuple[int, ...]] = ()
    """Groups of geoms that are not rendered, such as collision shapes."""

    def __init__(self, spec: TaskSpec, render: RenderSettings) -> None:
        """Prepare an environment without a scene. The first image creates the GL context."""
        self.spec = spec
        for camera, _ in render.camera_positions:
            check_camera(spec, camera)
        self._render_settings = render
        self._renderer: Renderer | None = None
        self._own_use: ModelUse | None = None
        self._scenes: SceneReader | None = None
        self._look = Look()
        self._steps = 0
        self._ready = False
        self._closed = False
        close_renderers_first_at_exit()  # The packages of the suite have been imported.

    @property
    def _model_use(self) -> ModelUse:
        """The use of the compiled model: by default one for this environment alone.

        A suite that shares the models of its tasks returns what it got from `share_model`.
        """
        if self._own_use is None:
            self._own_use = ModelUse(SharedModel(self._physics[0], ()))
        return self._own_use

    @property
    @abc.abstractmethod
    def _physics(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """The model and the data that MuJoCo integrates."""

    @abc.abstractmethod
    def _reset(self, seed: int) -> None:
        """Build the initial state of `seed` as `reset` promises."""

    @abc.abstractmethod
    def _step(self, action: Float64[np.ndarray, "a"]) -> StepResult:
        """Advance one control step with a valid action."""

    @abc.abstractmethod
    def _state(self) -> Float32[np.ndarray, "s"]:
        """Implement `state`."""

    @abc.abstractmethod
    def _privileged(self) -> Float64[np.ndarray, "p"]:
        """Implement `privileged`."""

    @abc.abstractmethod
    def _save(self) -> dict[str, Value]:
        """Copies of the values in Python that later steps and observations depend on."""

    @abc.abstractmethod
    def _restore(self, values: Mapping[str, Value]) -> None:
        """Set what `_save` returned, in a simulation that has been reset with any seed."""

    @contextlib.contextmanager
    def _observed(self) -> Iterator[mujoco.MjData]:
        """The data that images show: by default those that MuJoCo integrates."""
        yield self._physics[1]

    @abc.abstractmethod
    def _scene_reader(self) -> SceneReader:
        """Make the reader of `scenes` for the compiled model."""

    @abc.abstractmethod
    def _free(self) -> None:
        """Free the simulation; called once."""

    def reset(self, seed: int) -> None:
        self._require_open()
        self._ready = False
        self._reset(seed)
        self._check_physics("during the reset")
        self._steps = 0
        self._ready = True

    def step(self, action: Float32[np.ndarray, "a"] | Float64[np.ndarray, "a"]) -> StepResult:
        self._require_reset("step")
        check_action(self.spec, action)
        if self._steps == self.spec.max_steps:
            raise RuntimeError(f"{self._name} ends after {self.spec.max_steps} steps; reset it first.")
        self._steps += 1
        try:
            # In double precision, so that the result does not depend on the dtype of equal actions.
            result = self._step(np.asarray(action, np.float64))
            self._check_physics(f"at step {self._steps}")
        except SimulationError:
            self._ready = False
            raise
        return result

    def state(self) -> Float32[np.ndarray, "s"]:
        self._require_reset("state")
        return self._state()

    def privileged(self) -> Float64[np.ndarray, "p"]:
        self._require_reset("privileged")
        return self._privileged()

    def render(self, camera: str) -> UInt8[np.ndarray, "h w 3"]:
        check_camera(self.spec, camera)
        self._require_reset("render")
        if self._renderer is None:
            self._renderer = self._model_use.renderer(
                self._render_settings, self._upside_down_cameras, self._hidden_geom_groups
            )
        with self._drawn() as data:
            return self._renderer.render(data, camera, self._look.brightness)

    def view(self, camera: str) -> CameraView:
        check_camera(self.spec, camera)
        self._require_reset("view")
        settings, model = self._render_settings, self._physics[0]
        with self._drawn() as data:
            return camera_view(model, data, camera, settings, camera in self._upside_down_cameras)

    def look(self, look: Look) -> None:
        for camera in look.cameras:
            check_camera(self.spec, camera)
        self._look = look

    @contextlib.contextmanager
    def _drawn(self) -> Iterator[mujoco.MjData]:
        """The observed data, with cameras and lights where the settings and the present look have them."""
        positions = self._render_settings.camera_positions
        with (
            self._observed() as data,
            cameras_at(self._physics[0], data, positions) if positions else contextlib.nullcontext(),
            self._looked_at(data),
        ):
            yield data

    def _looked_at(self, data: mujoco.MjData) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._look.plain else looked_at(self._physics[0], data, self._look)

    def scenes(self, snapshots: Sequence[Float64[np.ndarray, "_"]]) -> list[Scene]:
        self._require_open()
        if self._scenes is None:
            self._scenes = self._scene_reader()
        return [self._scenes.read(snapshot) for snapshot in snapshots]

    def snapshot(self) -> Float64[np.ndarray, "_"]:
        """MuJoCo's integration state. Poses of bodies without joints follow from the seed and are not part of it."""
        self._require_reset("snapshot")
        model, data = self._physics
        state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        return state

    def save(self) -> EnvState:
        physics, (_, data) = self.snapshot(), self._physics
        values: dict[str, Value] = {
            f"model.{name}": array.copy() for name, array in self._model_use.changed.items()
        }
        values |= {f"data.{name}": getattr(data, name).copy() for name in POSITIONS}
        values |= {f"suite.{name}": value for name, value in self._save().items()}
        return EnvState(self.spec.suite, self.spec.name, self._version, self._steps, physics, values)

    def restore(self, state: EnvState) -> None:
        self._require_open()
        state.require(self.spec.suite, self.spec.name, self._version)
        if not self._ready:
            self.reset(0)
        self._restore({name[6:]: value for name, value in state.values.items() if name.startswith("suite.")})
        model, data = self._physics
        for name, array in self._model_use.changed.items():
            array[:] = state.values[f"model.{name}"]
        mujoco.mj_resetData(model, data)
        self._set_integration_state(state.physics)
        mujoco.mj_forward(model, data)
        self._set_integration_state(state.physics)  # `mj_forward` has moved the solver's starting point.
        for name in POSITIONS:
            getattr(data, name)[:] = state.values[f"data.{name}"]
        self._steps = state.steps

    @functools.cached_property
    def _version(self) -> str:
        """Packages of the suite; finding their versions takes longer than a control step."""
        return registry.suite(self.spec.suite).source

    def _set_integration_state(self, state: Float64[np.ndarray, "_"]) -> None:
        # MuJoCo takes no read-only arrays, as which they arrive from other processes.
        mujoco.mj_setState(*self._physics, state.copy(), mujoco.mjtState.mjSTATE_INTEGRATION)

    def movable(self) -> tuple[str, ...]:
        """Names of the bodies with a free joint."""
        return tuple(self._free_joints())

    def move(self, thing: str, offset: Sequence[float]) -> None:
        self._require_reset("move")
        if thing not in (addresses := self._free_joints()):
            raise UnknownThingError(self.spec, thing, self.movable())
        model, data = self._physics
        data.qpos[addresses[thing] : addresses[thing] + 3] += offset
        mujoco.mj_forward(model, data)
        self._moved()

    def _free_joints(self) -> dict[str, int]:
        """Address of the position in `qpos` by name of the body."""
        self._require_reset("movable")
        model, _ = self._physics
        return {
            mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_BODY, body): int(address)
            for kind, body, address in zip(model.jnt_type, model.jnt_bodyid, model.jnt_qposadr, strict=True)
            if kind == mujoco.mjtJoint.mjJNT_FREE
        }

    def _moved(self) -> None:
        """Update what the suite keeps of the scene in Python, after a thing has been moved."""

    def close(self) -> None:
        if self._closed:
            return
        self._closed, self._ready = True, False
        self._renderer = None
        self._free()
        self._model_use.close()

    @property
    def _name(self) -> str:
        return f"{self.spec.suite}/{self.spec.name}"

    def _unstable(self, when: str, why: str) -> SimulationError:
        return SimulationError(
            f"{self._name}: the physics became unstable {when} ({why}). Reset the episode."
        )

    def _check_physics(self, when: str) -> None:
        if any(self._physics[1].warning[kind].number for kind in UNSTABLE):
            raise self._unstable(when, "NaN, infinite or huge state")

    def _require_open(self) -> None:
        """Check that the environment is open, and put its values into the model."""
        if self._closed:
            raise RuntimeError(f"{self._name} has been closed; make a new one.")
        self._model_use.enter()

    def _require_reset(self, call: str) -> None:
        """Check that there is a scene, and put the environment's values into the model."""
        if not self._ready:
            reason = (
                "has been closed; make a new one" if self._closed else "has no scene; call reset(seed) first"
            )
            raise RuntimeError(f"{call}: {self._name} {reason}.")
        self._model_use.enter()
