"""A video of an episode: all cameras side by side, in real time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np

from simloop.harness.rollout.loop import CameraFrames


class VideoRecorder:
    """Collects frames of an episode and encodes them as H.264 in an mp4 file.

    Memory stays small, since frames are encoded as they come.
    """

    def __init__(self, cameras: Sequence[str], every: int, control_hz: float):
        self._cameras = tuple(cameras)
        self._every = every
        self._rate = Fraction(control_hz / every).limit_denominator(1000)
        self._file = io.BytesIO()
        self._container = av.open(self._file, mode="w", format="mp4")
        self._stream: av.VideoStream | None = None

    def see(self, frames: CameraFrames, step: int, last: bool) -> None:
        """Record every `every`-th step, and the last."""
        if step % self._every and not last:
            return
        picture = _even(np.concatenate([frames[camera] for camera in self._cameras], axis=1))
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate)
            self._stream.height, self._stream.width = picture.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.options = {"crf": "20", "preset": "veryfast", "threads": "1"}
        for packet in self._stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
            self._container.mux(packet)

    def finish(self) -> bytes:
        """The whole mp4 file."""
        if self._stream is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()
        return self._file.getvalue()


def _even(picture: np.ndarray) -> np.ndarray:
    """The picture cut to an even height and width, which H.264 wants."""
    height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    return np.ascontiguousarray(picture[:height, :width])
