"""Frames to H.264 in mp4 files and back, frame for frame.

Axis letters: h image height, w image width.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
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
JOINABLE = {"g": str(KEYFRAME_EVERY), "bf": "0"}
"""Options without frames that look ahead, so that streams can be joined and cut by copying."""


class VideoError(ValueError):
    """A video that cannot be read, or holds other frames than it should."""


class VideoEncoder:
    """Encode frames as they come, so that memory stays small.

    Args:
      fps: Frames per second.
      crf: Quality of x264; lower is better, 0 is lossless.
      pixel_format: Pixel format of the stream.
      options: Further options of x264. The defaults let streams be joined and cut without encoding them again.
    """

    def __init__(
        self,
        fps: int | Fraction,
        crf: int = CRF,
        pixel_format: str = PIXEL_FORMAT,
        options: Mapping[str, str] = JOINABLE,
    ):
        import av

        self._av = av
        self._file = io.BytesIO()
        self._container = av.open(self._file, mode="w", format="mp4")
        self._fps, self._pixel_format = fps, pixel_format
        self._options = {"crf": str(crf), "preset": "veryfast", "threads": "1", **options}
        self._stream: Any = None

    def add(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Append a frame. Height and width must be even."""
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._fps)
            self._stream.height, self._stream.width = frame.shape[:2]
            self._stream.pix_fmt = self._pixel_format
            self._stream.options = self._options
        image = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        for packet in self._stream.encode(image):
            self._container.mux(packet)

    def finish(self) -> bytes:
        """Return the whole mp4 file."""
        if self._stream is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()
        return self._file.getvalue()

    def close(self) -> None:
        """Free the encoder of a video that is not finished. Closing twice is allowed."""
        self._container.close()


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
