"""Play a random policy on tasks of Meta-World with `inspect_robots.eval`, in one process.

Arguments: folder for the logs, control steps per episode, tasks.
"""

import sys

import inspect_robots
import numpy as np
from drawn_task import ACTION_SIZE, CAMERAS, CHUNK_STEPS, PIXELS, DrawnTask, RandomChunks
from inspect_robots.embodiment import RESETTABLE, SEEDABLE, EmbodimentBase, EmbodimentInfo
from inspect_robots.policy import PolicyBase, PolicyConfig, PolicyInfo
from inspect_robots.scene import Scene
from inspect_robots.spaces import ActionSemantics, Box, CameraSpec, ObservationSpace
from inspect_robots.task import Task
from inspect_robots.types import Action, ActionChunk, Observation, StepResult

ACTIONS = Box(
    (ACTION_SIZE,),
    low=-np.ones(ACTION_SIZE),
    high=np.ones(ACTION_SIZE),
    semantics=ActionSemantics("eef_delta_pos", frame="world", gripper="continuous"),
)
OBSERVATIONS = ObservationSpace(
    cameras=tuple(CameraSpec(camera, PIXELS, PIXELS) for camera in CAMERAS),
    state_keys=frozenset({"eef_pos", "gripper"}),
)


class Sawyer(EmbodimentBase):
    """Meta-World's arm; every scene is a task."""

    info = EmbodimentInfo(
        "sawyer",
        action_space=ACTIONS,
        observation_space=OBSERVATIONS,
        control_hz=80.0,
        is_simulated=True,
        capabilities=frozenset({SEEDABLE, RESETTABLE}),
    )

    def __init__(self):
        self._task = None

    def reset(self, scene, *, seed=None):
        """Make the task of a scene."""
        self.close()
        self._instruction = scene.instruction
        self._task = DrawnTask(scene.id, seed)
        return self._observe(self._task.reset(seed))

    def step(self, action):
        """Execute one action and draw."""
        state, reward, success = self._task.step(action.data)
        return StepResult(
            self._observe(state),
            reward=reward,
            terminated=success,
            termination_reason="success" if success else None,
            info={"success": success},
        )

    def _observe(self, state):
        return Observation(
            images=self._task.images(),
            state={"eef_pos": state[:3], "gripper": state[3:]},
            instruction=self._instruction,
        )

    def close(self):
        """Free the task."""
        if self._task is not None:
            self._task.close()


class RandomPolicy(PolicyBase):
    """Chunks of random actions."""

    info = PolicyInfo("random-chunks", action_space=ACTIONS, observation_space=OBSERVATIONS)
    config = PolicyConfig(action_horizon=CHUNK_STEPS)

    def __init__(self):
        self._chunks = RandomChunks()

    def act(self, observation):
        """Answer one observation."""
        return ActionChunk([Action(action) for action in self._chunks()])


def main(folder, steps, *tasks):
    """Play one episode of every task; returns the exit status."""
    scenes = [Scene(task, instruction=task) for task in tasks]
    task = Task("metaworld", scenes, scorer="success_at_end", max_steps=int(steps))
    embodiment = Sawyer()
    (log,) = inspect_robots.eval(task, RandomPolicy(), embodiment, log_dir=folder)
    embodiment.close()
    print(log)
    return 0 if log.status == "success" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
