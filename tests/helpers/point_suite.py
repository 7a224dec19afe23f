"""A tiny suite for tests of the loop: a point in the plane that wants to reach a goal.

It keeps the contract of `simloop.envs.interface` and costs microseconds. A task named after a fault breaks
in that way: `raises-in-reset`, `raises-in-step`, `raises-once` (the first time in a folder), `dies`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from simloop.envs.checks import check_action
from simloop.envs.env_state import EnvState
from simloop.envs.interface import Env, RenderSettings, StepResult, Suite, TaskSpec, check_camera

FOLDER_VARIABLE = "POINT_SUITE_FOLDER"


def point_task(name: str = "point", max_steps: int = 40) -> TaskSpec:
    return TaskSpec(
        suite="points",
        name=name,
        instruction="move to the goal",
        max_steps=max_steps,
        control_hz=20.0,
        cameras=("top", "hand"),
        state_names=("x_m", "y_m"),
        action_names=("dx", "dy"),
        action_low=(-1.0, -1.0),
        action_high=(1.0, 1.0),
        action_kinds=("displacement", "gripper"),
        privileged_size=4,
    )


class PointEnv(Env):
    def __init__(self, task: TaskSpec, render: RenderSettings):
        self.spec = task
        self.render_settings = render
        self._position = np.zeros(2)
        self._goal = np.zeros(2)
        self.renders = 0
        self.closed = False

    def reset(self, seed: int) -> None:
        if self.spec.name == "raises-in-reset":
            raise RuntimeError("the scene is broken")
        generator = np.random.default_rng(seed)
        self._position, self._goal = generator.uniform(-1, 1, 2), generator.uniform(-1, 1, 2)

    def step(self, action) -> StepResult:
        check_action(self.spec, action)
        if self.spec.name == "raises-in-step":
            raise RuntimeError("the solver diverged")
        if self.spec.name == "dies":
            os._exit(1)
        if self.spec.name == "raises-once":
            try:
                (Path(os.environ[FOLDER_VARIABLE]) / "raised").touch(exist_ok=False)
                raise RuntimeError("a passing fault")
            except FileExistsError:
                pass
        self._position = self._position + 0.1 * np.asarray(action, np.float64)
        distance = float(np.linalg.norm(self._goal - self._position))
        return StepResult(reward=-distance, success=distance < 0.1)

    def state(self) -> np.ndarray:
        return self._position.astype(np.float32)

    def privileged(self) -> np.ndarray:
        return np.concatenate([self._position, self._goal])

    def render(self, camera: str) -> np.ndarray:
        check_camera(self.spec, camera)
        self.renders += 1
        image = np.full((self.render_settings.height, self.render_settings.width, 3), 40, np.uint8)
        row, column = ((self._position % 2) / 2 * (np.array(image.shape[:2]) - 4)).astype(int)
        image[row : row + 4, column : column + 4] = (255, 0, 0) if camera == "top" else (0, 255, 0)
        return image

    def snapshot(self) -> np.ndarray:
        return np.concatenate([self._position, self._goal])

    def save(self) -> EnvState:
        return EnvState("points", self.spec.name, "1", 0, self.snapshot(), {})

    def restore(self, state: EnvState) -> None:
        state.require("points", self.spec.name, "1")
        self._position, self._goal = state.physics[:2].copy(), state.physics[2:].copy()

    def close(self) -> None:
        self.closed = True


class PointSuite(Suite):
    name = "points"
    default_group = "all"

    def __init__(self, env: type[PointEnv] = PointEnv) -> None:
        self._env = env

    def tasks(self):
        return [point_task()]

    def groups(self):
        return {"all": ("point",)}

    def make(self, task, render):
        return self._env(point_task(task), render)


def make_point_env(suite: str, task: str, render: RenderSettings) -> Env:
    assert suite == "points"
    return PointEnv(point_task(task), render)
