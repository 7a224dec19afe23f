"""Frames to H.264 in mp4 files and back, frame for frame.

Axis letters: h image height, w image width.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

CODEC, PIXEL_FORMAT = "h264", "yuv444p"
"""Colours at full resolution: on small pictures halving it would smear the things that matter."""
CRF = 16
"""Quality of x264; 0 is lossless. On 96-pixel pictures 16 is wrong by 2.5 grey levels on average."""
KEYFRAME_EVERY = 20  # Frames; readers that jump decode at most so many to get to one.


class VideoError(ValueError):
    """A video that cannot be read, or holds other frames than it should."""


class VideoEncoder:
    """Encodes frames as they come, so that memory stays small."""

    def __init__(self, fps: int, crf: int = CRF):
        import av

        self._av = av
        self._file = io.BytesIO()
        self._container = av.open(self._file, mode="w", format="mp4")
        self._fps, self._crf = fps, crf
        self._stream: Any = None

    def add(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Append a frame. Height and width must be even."""
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._fps)
            self._stream.height, self._stream.width = frame.shape[:2]
            self._stream.pix_fmt = PIXEL_FORMAT
            # Without frames that look ahead, streams can be joined and cut by copying.
            self._stream.options = {
                "crf": str(self._crf),
                "preset": "veryfast",
                "threads": "1",
                "g": str(KEYFRAME_EVERY),
                "bf": "0",
            }
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        for packet in self._stream.encode(picture):
            self._container.mux(packet)

    def finish(self) -> bytes:
        """The whole mp4 file."""
        if self._stream is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()
        return self._file.getvalue()


def join_videos(parts: Sequence[bytes], lengths: Sequence[int], fps: int, out: Path) -> None:
    """Write videos of `VideoEncoder` one after the other into one file, without encoding them again.

    Args:
      parts: mp4 files of one size, alike in every setting.
      lengths: Number of frames of each.
      fps: TrainingFrames per second.
      out: Where to; an existing file is replaced.
    """
    import av

    with av.open(str(out), mode="w", format="mp4") as joined:
        stream: Any = None
        before = 0
        for part, length in zip(parts, lengths, strict=True):
            with av.open(io.BytesIO(part)) as source:
                if stream is None:
                    stream = joined.add_stream_from_template(source.streams.video[0])
                    stream.time_base = Fraction(1, fps)
                shift = Fraction(before, fps)
                for packet in source.demux(video=0):
                    if packet.dts is None:  # The empty packet at the end.
                        continue
                    scale = packet.time_base
                    packet.pts += round(shift / scale)
                    packet.dts += round(shift / scale)
                    packet.stream = stream
                    joined.mux(packet)
            before += length


def frames(path: Path, fps: float) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
    """Every frame of a video with its number, which is its time by the frame rate.

    Decodes with PyAV, or with OpenCV where only that is installed.

    Raises:
      VideoError: If the file cannot be read, or neither library is there.
    """
    try:
        import av
        from av.video.reformatter import VideoReformatter
    except ImportError:
        yield from _frames_opencv(path, fps)
        return
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            # Pictures are small: handing them from thread to thread takes twenty times as long as decoding them.
            stream.thread_type, stream.codec_context.thread_count = "NONE", 1
            converter = VideoReformatter()
            for frame in container.decode(stream):
                picture = converter.reformat(frame, format="rgb24", threads=1)
                yield round(float(frame.time) * fps), picture.to_ndarray()
    except (av.FFmpegError, IndexError) as error:
        raise VideoError(f"{path} cannot be decoded ({error}). Copy the dataset again.") from error


def _frames_opencv(path: Path, fps: float) -> Iterator[tuple[int, np.ndarray]]:
    try:
        import cv2
    except ImportError as error:
        raise VideoError(
            "Decoding videos needs PyAV (pip install av) or OpenCV; neither is installed. Or prepare the "
            "dataset on another machine (python -m simloop.policies.training prepare) and copy the result."
        ) from error
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise VideoError(f"{path} cannot be opened by OpenCV. Copy the dataset again.")
        while True:
            there, picture = capture.read()
            if not there:
                return
            time_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0  # Of the frame that has just been read.
            yield round(time_s * fps), cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
