"""Wrap any task as a `gymnasium.Env`.

import gymnasium
import simloop.envs.gym

simloop.envs.gym.register()
env = gymnasium.make("simloop/metaworld.reach-v3", cameras=("corner2", "gripperPOV"))
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from simloop.envs import registry
from simloop.envs.interface import Env, RenderProfile, RenderSettings, TaskSpec, check_camera

NAMESPACE = "simloop"


class GymEnv(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """One task with the interface of gymnasium.

    An observation is `{"state": float32 [s], camera: uint8 [h, w, 3], ...}`. Every step renders every camera in
    `cameras`, which costs many times the physics with a software renderer; pass `cameras=()` to train from the state
    alone. An episode terminates with its first success. `gymnasium.make` adds the TimeLimit that truncates it after
    `spec.max_steps`. The instruction is in `info["instruction"]`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (declared so by gymnasium)

    def __init__(
        self,
        suite: str,
        task: str,
        *,
        cameras: Sequence[str] | None = None,
        render_mode: str | None = "rgb_array",
        height: int = 224,
        width: int = 224,
        profile: RenderProfile = "fast",
    ) -> None:
        """Make the environment.

        Args:
          suite: Name of the suite.
          task: Name of the task, with or without its version.
          cameras: Cameras in the observation; by default the task's scene camera alone.
          render_mode: `rgb_array` if `render` returns the image of the first camera, None if it returns nothing.
          height: Height of the images in pixels.
          width: Width of the images in pixels.
          profile: Quality of the images; see `RenderSettings`.

        Raises:
          UnknownNameError: If there is no such suite or task.
          CameraError: If the task has no such camera.
        """
        specs = registry.resolve_tasks(suite, [task])
        if len(specs) != 1:
            raise ValueError(f"A gymnasium environment has one task; {task!r} is a group of {len(specs)}.")
        self.spec_of_task: TaskSpec = specs[0]
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is 'rgb_array' or None; got {render_mode!r}.")
        self.render_mode = render_mode
        self.metadata = {**type(self).metadata, "render_fps": round(self.spec_of_task.control_hz)}
        self._cameras = tuple(cameras) if cameras is not None else self.spec_of_task.cameras[:1]
        for camera in self._cameras:
            check_camera(self.spec_of_task, camera)
        self._env: Env = registry.suite(suite).make(
            self.spec_of_task.name, RenderSettings(profile=profile, height=height, width=width)
        )
        self.action_space = gymnasium.spaces.Box(
            np.asarray(self.spec_of_task.action_low, np.float32),
            np.asarray(self.spec_of_task.action_high, np.float32),
        )
        state = gymnasium.spaces.Box(-np.inf, np.inf, (self.spec_of_task.state_size,), np.float32)
        image = gymnasium.spaces.Box(0, 255, (height, width, 3), np.uint8)
        self.observation_space = gymnasium.spaces.Dict({"state": state} | dict.fromkeys(self._cameras, image))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start the episode of `Env.reset(seed)`; without a seed, the next episode of the sequence of the last seed.

        There are no options.
        """
        super().reset(seed=seed)
        self._env.reset(int(self.np_random.integers(2**63)) if seed is None else seed)
        return self._observation(), self._info(success=False)

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        result = self._env.step(np.asarray(action))
        return self._observation(), result.reward, result.success, False, self._info(success=result.success)

    def render(self) -> np.ndarray | None:
        if self.render_mode is None:
            return None
        return self._env.render((self._cameras or self.spec_of_task.cameras)[0])

    def close(self) -> None:
        self._env.close()

    def _observation(self) -> dict[str, np.ndarray]:
        return {"state": self._env.state()} | {camera: self._env.render(camera) for camera in self._cameras}

    def _info(self, *, success: bool) -> dict[str, Any]:
        return {"instruction": self._env.instruction() or self.spec_of_task.instruction, "success": success}


def gym_id(task: TaskSpec) -> str:
    """Id of a task, such as `simloop/metaworld.reach-v3`; tasks without a version get `-v0`."""
    versioned = task.name if re.search(r"-v\d+$", task.name) else f"{task.name}-v0"
    return f"{NAMESPACE}/{task.suite}.{versioned}"


def register() -> tuple[str, ...]:
    """Register every task of every suite with gymnasium and return their ids. Repeated calls have no effect."""
    ids = []
    for suite in registry.suites():
        for task in registry.suite(suite).tasks():
            ids.append(gym_id(task))
            if ids[-1] not in gymnasium.registry:
                gymnasium.register(
                    id=ids[-1],
                    entry_point=GymEnv,
                    max_episode_steps=task.max_steps,
                    kwargs={"suite": suite, "task": task.name},
                )
    return tuple(ids)
