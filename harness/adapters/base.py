"""From a suite's observation to a policy's query, and from its answer to the suite's action.

Axis letters: h image height, w image width, s robot state size, t actions of a chunk, a action size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Float32, UInt8

from simloop.envs.interface import Env, TaskSpec
from simloop.harness.errors import SimloopError
from simloop.policies.interface import PolicySpec, Query


class AdapterError(SimloopError):
    """A policy and a suite that do not fit each other."""


def _upright(image: np.ndarray) -> np.ndarray:
    return image


def _own_state(env: Env) -> np.ndarray:
    return env.state()


def clipped_actions(task: TaskSpec, actions: Float[np.ndarray, "t a"]) -> Float32[np.ndarray, "t a"]:
    """Clip every entry to the task's bounds, as the simulators themselves do."""
    low = np.asarray(task.action_low, np.float32)
    high = np.asarray(task.action_high, np.float32)
    return np.clip(actions.astype(np.float32), low, high)


@dataclass(frozen=True)
class Adapter:
    """A table of conventions that joins one suite to one robot convention of policies."""

    suite: str
    robot: str
    cameras: Mapping[str, str] = field(default_factory=dict)
    """Model camera name to the suite's camera. Cameras that the robot lacks are not listed."""
    image: Callable[[np.ndarray], np.ndarray] = _upright
    """From the suite's picture, uint8 [h, w, 3], to the one that the robot's policies were trained with."""
    state: Callable[[Env], np.ndarray] = _own_state
    """The state vector in the robot's convention, float32 [s]."""
    state_size: int | None = None
    """Length of that vector; None where it is the suite's own."""
    actions: Callable[[TaskSpec, np.ndarray], np.ndarray] = clipped_actions
    """Converts a chunk, float32 [t, a], to actions that the task accepts, float32 [t, a]."""

    def check(self, policy: PolicySpec, task: TaskSpec) -> None:
        """Raise `AdapterError` unless the policy can be asked about the task."""
        where = f"{task.suite}/{task.name}"
        have = {model: camera for model, camera in self.cameras.items() if camera in task.cameras}
        missing = [camera for camera in policy.cameras if camera not in have]
        if missing:
            raise AdapterError(
                f"{where} gives {policy.robot!r} policies the cameras {_listed(have)}; policy {policy.name!r} "
                f"needs {_listed(missing)}. Pick a policy made for this robot (simloop list policies) or add "
                "the camera to the adapter in harness/adapters/."
            )
        size = task.state_size if self.state_size is None else self.state_size
        if policy.state_size is not None and policy.state_size != size:
            raise AdapterError(
                f"{where} has a robot state of {size} numbers ({', '.join(task.state_names)}); policy "
                f"{policy.name!r} was made for {policy.state_size}. Pick a policy made for this robot "
                "(simloop list policies)."
            )
        if policy.action_size is not None and policy.action_size != task.action_size:
            raise AdapterError(
                f"{where} takes actions of {task.action_size} numbers ({', '.join(task.action_names)}); policy "
                f"{policy.name!r} gives {policy.action_size}. Pick a policy made for this robot "
                "(simloop list policies)."
            )
        if policy.uses_privileged and task.privileged_size == 0:
            raise AdapterError(
                f"{where} offers no simulator state; policy {policy.name!r} cannot act without it."
            )

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
          images: Images by camera name of the suite.
          instruction: The sentence that the policy is given.
          key: Key of the randomness in the answer.
          episode: Stable id of the episode.
          step: Control steps executed so far.
        """
        task = env.spec
        return Query(
            task=task.name,
            instruction=instruction,
            key=key,
            state=self.state(env),
            images={model: self.image(images[self.cameras[model]]) for model in policy.cameras},
            privileged=env.privileged() if policy.uses_privileged else None,
            action_low=np.asarray(task.action_low, np.float64),
            action_high=np.asarray(task.action_high, np.float64),
            episode=episode,
            step=step,
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
