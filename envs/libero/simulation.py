"""One live LIBERO task.

Axis letters: h image height, w image width, s state size, a action size, p privileged size.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import mujoco
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from envs.interface import (
    Env,
    RenderSettings,
    SimulationError,
    StepResult,
    TaskSpec,
    check_action,
    check_camera,
)
from envs.libero.initial_states import initial_states
from envs.libero.package import BDDL_FILES, RandomizationError
from envs.libero.problem import make_problem
from envs.libero.tasks import GROUP_OF_TASK
from envs.rendering import Renderer

# Fixtures such as stoves and cabinets are no part of an initial state: LIBERO draws their places from NumPy's
# global generator. The evaluations behind the published numbers seed it with this number.
FIXTURE_SEED = 7
MAX_DRAWS = 100  # Of places, until no two things overlap. LIBERO's own reset would try for ever.

SETTLE_STEPS = 10  # Things start a little above the table; they have landed by then.
SETTLE_ACTION = np.array([0.0] * 6 + [-1.0])  # Hold still and open the fingers.

COLLISION_GROUP = 0  # Geoms that are there to be touched, not to be seen.

# MuJoCo replaces a state that it cannot integrate by the initial one and goes on; these warnings tell.
UNSTABLE = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)


class LiberoEnv(Env):
    """A LIBERO task as its authors wrote it: physics, controller and success are theirs.

    Episodes start from the recorded initial states, with the fixtures where they stand in the first episode of
    openpi's evaluation, whatever came before. What is observed is what robosuite's own observations would show:
    they lag two physics steps of 2 ms behind the end of a control step.
    """

    def __init__(self, spec: TaskSpec, render: RenderSettings) -> None:
        self.spec = spec
        self._render_settings = render
        self._initial_states = initial_states(spec.name)
        with _numpy_seeded(FIXTURE_SEED):
            self._sim = make_problem(BDDL_FILES / GROUP_OF_TASK[spec.name] / f"{spec.name}.bddl")
        self._renderer: Renderer | None = None
        self._steps = 0
        self._ready = False
        self._closed = False

    def reset(self, seed: int) -> None:
        """Start from the initial state `seed` modulo their number, and let things settle."""
        if self._closed:
            raise RuntimeError(f"{self.spec.suite}/{self.spec.name} has been closed; make a new one.")
        self._ready = False
        with _numpy_seeded(FIXTURE_SEED):
            self._place_fixtures()
            self._sim.start_from(self._initial_states[seed % len(self._initial_states)])
            for _ in range(SETTLE_STEPS):
                self._sim.step(SETTLE_ACTION)
        self._steps = 0
        self._check_physics("while things settled")
        self._ready = True

    def _place_fixtures(self) -> None:
        for _ in range(MAX_DRAWS):
            with contextlib.suppress(RandomizationError):
                self._sim.reset()
                return
        raise SimulationError(
            f"{self.spec.suite}/{self.spec.name}: no place for every thing was found in {MAX_DRAWS} draws."
        )

    def step(self, action: Float32[np.ndarray, "a"] | Float64[np.ndarray, "a"]) -> StepResult:
        self._require_reset("step")
        check_action(self.spec, action)
        if self._steps == self.spec.max_steps:
            raise RuntimeError(
                f"{self.spec.suite}/{self.spec.name} ends after {self.spec.max_steps} steps; reset it first."
            )
        self._steps += 1
        _, reward, success, _ = self._sim.step(np.asarray(action, np.float64))
        self._check_physics(f"at step {self._steps}")
        return StepResult(reward=float(reward), success=bool(success))

    def state(self) -> Float32[np.ndarray, "s"]:
        self._require_reset("state")
        return self._sim.hand_state().astype(np.float32)

    def privileged(self) -> Float64[np.ndarray, "p"]:
        self._require_reset("privileged")
        return self._sim.hand_and_things()

    def render(self, camera: str) -> UInt8[np.ndarray, "h w 3"]:
        check_camera(self.spec, camera)
        self._require_reset("render")
        model = self._sim.mujoco_model
        if self._renderer is None:
            self._renderer = Renderer(model, self._render_settings, hidden_geom_groups=(COLLISION_GROUP,))
        with self._sim.as_observed() as observed:
            return self._renderer.render(observed, camera)

    def snapshot(self) -> Float64[np.ndarray, "_"]:
        """MuJoCo's integration state. The controller's target and the fixtures' places are no part of it."""
        self._require_reset("snapshot")
        model, data = self._sim.mujoco_model, self._sim.mujoco_data
        state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        return state

    def close(self) -> None:
        if self._closed:
            return
        self._closed, self._ready = True, False
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self._sim.close()

    def _check_physics(self, when: str) -> None:
        if any(self._sim.mujoco_data.warning[kind].number for kind in UNSTABLE):
            self._ready = False
            raise SimulationError(
                f"{self.spec.suite}/{self.spec.name}: MuJoCo lost the physics {when} "
                "(NaN, infinite or huge state). Reset the episode."
            )

    def _require_reset(self, call: str) -> None:
        if not self._ready:
            done = (
                "has been closed; make a new one"
                if self._closed
                else "has no scene yet; call reset(seed) first"
            )
            raise RuntimeError(f"{call}: {self.spec.suite}/{self.spec.name} {done}.")


@contextlib.contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator for code that knows no other, and put everything back afterwards."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
