"""Video of an episode: all cameras side by side, in real time, with a margin that says what is shown."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from simloop.envs.interface import Env
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.rollout.camera_frames import CameraFrames
from simloop.harness.rollout.latency import Reply
from simloop.harness.rollout.observers import Recorder, StepRecord
from simloop.harness.rollout.result import RolloutResult
from simloop.harness.rollout.video_margin import VideoMargin
from simloop.policies.interface import Query
from simloop.results.records.paths import VIDEO

CRF = 20
"""Quality of x264; lower is better."""


MAX_HEIGHT = 2160


def size_problem(height: int | None) -> str:
    """Why images of a video cannot have this height; empty if they can."""
    if height is None or 16 <= height <= MAX_HEIGHT:
        return ""
    return f"--video-size must be from 16 to {MAX_HEIGHT} pixels; got {height}."


class VideoRecorder(Recorder):
    """Record the first, every `every`-th and the last step as an mp4 file (H.264).

    Frames are encoded as they come, so that memory stays small.

    Args:
      cameras: Cameras of the suite, left to right.
      every: Control steps between two frames.
      control_hz: Control steps per second.
      max_steps: Step limit of the episode.
      height: Pixels to which the images of cameras are scaled; None to leave them as they are rendered.
    """

    def __init__(
        self,
        spec: EpisodeSpec,
        cameras: Sequence[str],
        every: int,
        control_hz: float,
        max_steps: int,
        height: int | None = None,
    ):
        from simloop.policies.files.video import (
            VideoEncoder,
        )  # Imports PyAV, which runs without videos do not need.

        super().__init__()
        rate = Fraction(control_hz / every).limit_denominator(1000)
        self._cameras = tuple(cameras)
        self._every = every
        self._height = height
        self._margin = VideoMargin(spec, max_steps)
        self._encoder = VideoEncoder(rate, CRF, pixel_format="yuv420p", options={})

    def on_reset(self, frames: CameraFrames, env: Env) -> None:
        self._add(frames, 0)

    def on_query(self, query: Query, reply: Reply) -> None:
        self._margin.on_query(query.step)

    def on_step(self, record: StepRecord) -> None:
        if record.ended or (record.step + 1) % self._every == 0:
            outcome = "success" if record.success else "failure" if record.ended else ""
            self._add(record.frames, record.step + 1, outcome)

    def on_end(self, result: RolloutResult) -> None:
        self.attachments[VIDEO] = self._encoder.finish()

    def close(self) -> None:
        self._encoder.close()

    def _add(self, frames: CameraFrames, step: int, outcome: str = "") -> None:
        image = np.concatenate([self._scaled(frames[camera]) for camera in self._cameras], axis=1)
        height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2  # H.264 requires even sizes.
        self._encoder.add(self._margin.below(image[:height, :width], step, outcome))

    def _scaled(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "height _ 3"]:
        if self._height is None:
            return image
        width = round(image.shape[1] * self._height / image.shape[0])
        return np.asarray(Image.fromarray(image).resize((width, self._height), Image.Resampling.LANCZOS))
