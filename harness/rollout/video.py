"""Video of an episode: all cameras side by side, in real time."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from simloop.envs.interface import Env
from simloop.harness.rollout.camera_frames import CameraFrames
from simloop.harness.rollout.observers import Recorder, StepRecord
from simloop.harness.rollout.result import RolloutResult
from simloop.policies.files.video import VideoEncoder
from simloop.results.records.paths import VIDEO

CRF = 20
"""Quality of x264; lower is better."""


class VideoRecorder(Recorder):
    """Record the first, every `every`-th and the last step as an mp4 file (H.264).

    Frames are encoded as they come, so that memory stays small.
    """

    def __init__(self, cameras: Sequence[str], every: int, control_hz: float):
        super().__init__()
        rate = Fraction(control_hz / every).limit_denominator(1000)
        self._cameras = tuple(cameras)
        self._every = every
        self._encoder = VideoEncoder(rate, CRF, pixel_format="yuv420p", options={})

    def on_reset(self, frames: CameraFrames, env: Env) -> None:
        self._add(frames)

    def on_step(self, record: StepRecord) -> None:
        if record.ended or (record.step + 1) % self._every == 0:
            self._add(record.frames)

    def on_end(self, result: RolloutResult) -> None:
        self.attachments[VIDEO] = self._encoder.finish()

    def close(self) -> None:
        self._encoder.close()

    def _add(self, frames: CameraFrames) -> None:
        image = np.concatenate([frames[camera] for camera in self._cameras], axis=1)
        height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2  # H.264 requires even sizes.
        self._encoder.add(image[:height, :width])
