"""Camera images of the current control step, rendered on demand and shared by policy and observers.

Axis letters: h image height, w image width.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from simloop.envs.checks import check_image
from simloop.envs.interface import Env, RenderSettings
from simloop.harness.rollout.phase_timer import PhaseTimer, PhaseTimers

Clock = Callable[[], float]


class CameraFrames:
    """Images of an environment's cameras; each camera is rendered at most once per control step.

    Args:
      env: The environment.
      render: Settings that the environment was made with.
      clock: Measures the rendering, in seconds.
      timer: Records that the episode is rendering.
    """

    def __init__(
        self,
        env: Env,
        render: RenderSettings,
        clock: Clock = time.perf_counter,
        timer: PhaseTimer | None = None,
    ):
        self._env = env
        self._render = render
        self._clock = clock
        self._timer = timer or PhaseTimers().enter()
        self._images: dict[str, UInt8[np.ndarray, "h w 3"]] = {}
        self._seconds: dict[str, float] = {}
        self.renders = 0
        """Images rendered so far."""

    def __getitem__(self, camera: str) -> UInt8[np.ndarray, "h w 3"]:
        """Return the camera's image of the current step.

        Raises:
          CameraError: If the task has no such camera.
          EnvError: If the environment gives no image of the promised size.
        """
        if camera not in self._images:
            started = self._clock()
            with self._timer.span("render"):
                image = self._env.render(camera)
            check_image(self._env.spec, camera, image, self._render)
            self._images[camera] = image
            self._seconds[camera] = self._clock() - started
            self.renders += 1
        return self._images[camera]

    def seconds(self, camera: str) -> float:
        """Return the time in seconds that rendering the camera's current image took."""
        return self._seconds[camera]

    def clear(self) -> None:
        """Drop all images because the scene has changed."""
        self._images.clear()
        self._seconds.clear()
