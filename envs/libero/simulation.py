"""Environment of a LIBERO task.

Axis letters: s state size, a action size, p privileged size.
"""

from __future__ import annotations

import simloop.envs.rendering  # noqa: F401  # isort: skip  (Selects OpenGL before MuJoCo imports another one.)

import contextlib
import random
from collections.abc import Iterator, Mapping

import mujoco
import numpy as np
from jaxtyping import Float32, Float64

from simloop.envs.env_state import Value
from simloop.envs.interface import RenderSettings, SimulationError, StepResult, TaskSpec
from simloop.envs.libero.initial_states import initial_states
from simloop.envs.libero.package import BDDL_FILES, RandomizationError
from simloop.envs.libero.problem import make_problem
from simloop.envs.libero.tasks import task_files
from simloop.envs.mujoco_env import MujocoEnv
from simloop.envs.scene import SceneReader
from simloop.envs.shared_model import ModelUse

# Recorded initial states exclude fixtures such as stoves and cabinets: LIBERO draws their poses from NumPy's global
# generator, which published evaluations seed with this number.
FIXTURE_SEED = 7
MAX_DRAWS = 100  # Attempts to place all objects without overlap. LIBERO's own reset has no limit.

SETTLE_STEPS = 10  # Objects start slightly above the table and have landed after this many steps.
SETTLE_ACTION = np.array([0.0] * 6 + [-1.0])  # Hold still and open the fingers.


class LiberoEnv(MujocoEnv):
    """A LIBERO task with the physics, controller and success criterion of LIBERO itself.

    Episodes start from the recorded initial states, with fixtures posed as in the first episode of openpi's
    evaluation. States and images are those of robosuite's own observations, which lag two physics steps of 2 ms
    behind the end of a control step.
    """

    _hidden_geom_groups = (0,)  # Collision shapes.

    def __init__(self, spec: TaskSpec, render: RenderSettings, task: str | None = None) -> None:
        """Build the scene.

        Args:
          task: Name of the task in LIBERO or LIBERO-PRO where the spec has another one.
        """
        super().__init__(spec, render)
        self._initial_states = initial_states(task or spec.name)
        folder, name = task_files(task or spec.name)
        with _numpy_seeded(FIXTURE_SEED):
            self._sim = make_problem(BDDL_FILES / folder / f"{name}.bddl")

    @property
    def _model_use(self) -> ModelUse:
        use: ModelUse = self._sim.model_use
        return use

    @property
    def _physics(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        return self._sim.mujoco_model, self._sim.mujoco_data

    def _reset(self, seed: int) -> None:
        """Start from initial state `seed` modulo their number, and let the objects settle."""
        with _numpy_seeded(FIXTURE_SEED):
            self._place_fixtures()
            self._sim.start_from(self._initial_states[seed % len(self._initial_states)])
            for _ in range(SETTLE_STEPS):
                self._sim.step(SETTLE_ACTION)

    def _place_fixtures(self) -> None:
        for _ in range(MAX_DRAWS):
            with contextlib.suppress(RandomizationError):
                self._sim.reset()
                return
        raise SimulationError(
            f"{self._name}: the fixtures could not be placed without overlap in {MAX_DRAWS} draws."
        )

    def _step(self, action: Float64[np.ndarray, "a"]) -> StepResult:
        solved = self._sim.step(action)
        return StepResult(reward=float(solved), success=solved)

    def _state(self) -> Float32[np.ndarray, "s"]:
        return np.asarray(self._sim.hand_state(), np.float32)

    def _privileged(self) -> Float64[np.ndarray, "p"]:
        return np.asarray(self._sim.hand_and_objects())

    def _save(self) -> dict[str, Value]:
        return dict(self._sim.save())

    def _restore(self, values: Mapping[str, Value]) -> None:
        self._sim.restore(values)

    def _scene_reader(self) -> SceneReader:
        sim = self._sim
        return SceneReader(sim.mujoco_model, sim.things(), [sim.hand()], sim.regions)

    @contextlib.contextmanager
    def _observed(self) -> Iterator[mujoco.MjData]:
        with self._sim.as_observed() as observed:
            yield observed

    def _free(self) -> None:
        self._sim.close()


@contextlib.contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Seed the global generators for code that uses them, and restore their states afterwards."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
