"""Adapters: from a suite's observation to a policy's query, and from its chunk to the suite's actions.

Axis letters: h image height, w image width, s robot state size, t actions of a chunk, a action size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, UInt8

from simloop.envs.checks import check_vector
from simloop.envs.interface import Env, TaskSpec
from simloop.harness.adapters.openpi_observation import RobotConvention
from simloop.harness.errors import SimloopError
from simloop.policies.interface import PolicySpec, Query

ANY_ROBOT = "any"
"""Robot convention of policies that use cameras, state and actions of the suite as they are."""


class AdapterError(SimloopError):
    """A policy and a suite that do not fit each other."""


def _upright(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return image


def _suite_state(env: Env) -> Float32[np.ndarray, "s"]:
    return env.state()


@dataclass(frozen=True)
class Adapter:
    """Connects one suite to one robot convention of policies."""

    suite: str
    robot: str
    cameras: Mapping[str, str] = field(default_factory=dict)
    """Camera of the suite by model camera name. Cameras that the robot lacks are absent."""
    convention: RobotConvention = field(default_factory=RobotConvention)
    """Converts between robot and model; by default states and actions are those of the suite."""
    image: Callable[[np.ndarray], np.ndarray] = _upright
    """Converts the suite's image, uint8 [h, w, 3], to the orientation that the robot's policies were trained with."""
    state: Callable[[Env], np.ndarray] = _suite_state
    """Returns the robot's state [s] in the convention of the robot."""

    def check(self, policy: PolicySpec, task: TaskSpec) -> None:
        """Raise `AdapterError` unless the policy can be queried about the task."""
        where = f"{task.suite}/{task.name}"
        have = {model: camera for model, camera in self.cameras.items() if camera in task.cameras}
        missing = [camera for camera in policy.cameras if camera not in have]
        another = "Pick a policy made for this robot (simloop list policies)"
        offered = task.cameras if self.robot == ANY_ROBOT else have
        if missing:
            raise AdapterError(
                f"{where} gives {policy.robot!r} policies the cameras {_listed(offered)}; policy {policy.name!r} "
                f"needs {_listed(missing)}. {another} or add the camera to the adapter in harness/adapters/."
            )
        size = self.convention.state_size or task.state_size
        if policy.state_size not in (None, size):
            raise AdapterError(
                f"{where} has a robot state of {size} numbers ({', '.join(task.state_names)}); policy "
                f"{policy.name!r} was made for {policy.state_size}. {another}."
            )
        if policy.action_size not in (None, task.action_size):
            raise AdapterError(
                f"{where} takes actions of {task.action_size} numbers ({', '.join(task.action_names)}); policy "
                f"{policy.name!r} gives {policy.action_size}. {another}."
            )
        if policy.uses_privileged and task.privileged_size == 0:
            raise AdapterError(
                f"{where} offers no simulator state; policy {policy.name!r} cannot act without it."
            )

    def state_names(self, task: TaskSpec) -> tuple[str, ...]:
        """Names of the entries of the robot's state, those of the suite where they are the same."""
        if self.convention.state_size is None:
            return task.state_names
        parts = self.convention.state.items()
        return tuple(f"{key.split('/')[-1]}_{i}" for key, size in parts for i in range(size))

    def query(
        self,
        env: Env,
        policy: PolicySpec,
        images: Mapping[str, UInt8[np.ndarray, "h w 3"]],
        instruction: str,
        key: int,
        episode: str = "",
        step: int = 0,
    ) -> Query:
        """Return the query for the environment's present state.

        Args:
          env: The environment.
          policy: Decides which inputs the query has.
          images: Images by camera name of the suite.
          instruction: The sentence that the policy is given.
          key: Key of the randomness in the answer.
          episode: Stable id of the episode.
          step: Control steps executed so far.

        Raises:
          EnvError: If the environment's state is not that of its task.
        """
        task = env.spec
        state, privileged = self.state(env), env.privileged() if policy.uses_privileged else None
        check_vector(task, "state", state, self.convention.state_size or task.state_size)
        if privileged is not None:
            check_vector(task, "privileged state", privileged, task.privileged_size)
        return Query(
            task=task.name,
            instruction=instruction,
            key=key,
            state=self.convention.model_state(state.astype(np.float64)).astype(np.float32),
            images={model: self.image(images[self.cameras[model]]) for model in policy.cameras},
            privileged=privileged,
            action_low=np.asarray(task.action_low, np.float64),
            action_high=np.asarray(task.action_high, np.float64),
            episode=episode,
            step=step,
        )

    def actions(self, task: TaskSpec, actions: Float32[np.ndarray, "t padded"]) -> Float32[np.ndarray, "t a"]:
        """Convert a chunk of the policy to actions of the task, clipped to its bounds as simulators do."""
        converted = self.convention.robot_actions(actions.astype(np.float64)).astype(np.float32)
        low, high = np.asarray(task.action_low, np.float32), np.asarray(task.action_high, np.float32)
        return np.clip(converted, low, high)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
