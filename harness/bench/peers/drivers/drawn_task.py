"""A task of Meta-World with two cameras of 224 pixels and fast rendering, and random actions. Runs without simloop."""

import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE

CAMERAS = ("corner4", "gripperPOV")
PIXELS = 224
CHUNK_STEPS, ACTION_SIZE = 10, 4


def draw_fast(model):
    """Draw without multisampling and shadows; call it before the first image of the model."""
    model.vis.quality.offsamples = 0
    model.vis.quality.shadowsize = 0


class DrawnTask:
    """An environment that draws its cameras whenever it is observed."""

    def __init__(self, task, seed):
        self.env = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{task}-goal-observable"](seed=seed)
        draw_fast(self.env.model)
        self.renderer = mujoco.Renderer(self.env.model, PIXELS, PIXELS)

    def reset(self, seed):
        """Return the state: hand position and gripper opening."""
        return self.env.reset(seed=seed)[0][:ACTION_SIZE]

    def step(self, action):
        """Return state, reward and success."""
        state, reward, _, _, info = self.env.step(action)
        return state[:ACTION_SIZE], float(reward), bool(info["success"])

    def images(self):
        """Return an image [224, 224, 3] of every camera."""
        return {camera: self._image(camera) for camera in CAMERAS}

    def _image(self, camera):
        self.renderer.update_scene(self.env.data, camera)
        return self.renderer.render()

    def close(self):
        """Free the renderer and the simulation."""
        self.renderer.close()
        self.env.close()


class RandomChunks:
    """A policy that answers chunks of uniformly random actions at once."""

    def __init__(self):
        self._random = np.random.default_rng(0)

    def __call__(self):
        """Return actions [10, 4]."""
        return self._random.uniform(-1, 1, (CHUNK_STEPS, ACTION_SIZE)).astype(np.float32)
