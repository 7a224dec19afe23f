"""Meta-World as a served suite under the interpreter of simloop: one environment, in this process and in a child."""

import dataclasses

import numpy as np

from simloop.envs import registry
from simloop.envs.interface import Env, RenderProfile, RenderSettings

SUITE = registry.suite("metaworld")
TASKS = {
    spec.name: {
        name: value for name, value in dataclasses.asdict(spec).items() if name not in ("suite", "name")
    }
    for spec in SUITE.tasks()
}


class Served:
    """An environment of simloop with the methods of a served one."""

    def __init__(self, env: Env):
        self._env = env
        self.reset, self.state, self.render = env.reset, env.state, env.render
        self.snapshot, self.privileged, self.close = env.snapshot, env.privileged, env.close

    def step(self, action: np.ndarray) -> tuple[float, bool]:
        """Advance a control step."""
        result = self._env.step(action)
        return result.reward, result.success


def make(task: str, height: int, width: int, profile: RenderProfile) -> Served:
    """Make the environment of a task."""
    return Served(SUITE.make(task, RenderSettings(profile, height, width)))
