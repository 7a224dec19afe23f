"""H.264 videos in mp4 files: encode, concatenate and decode, frame for frame.

Axis letters: h image height, w image width.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from simloop.untrusted import open_regular

CODEC, PIXEL_FORMAT = "h264", "yuv444p"
"""Colours at full resolution, since halving it would blur small objects in small images."""
CRF = 16
"""Quality of x264; 0 is lossless. At 16, 96-pixel images are off by 2.5 grey levels on average."""
JOINABLE = {"g": "20", "bf": "0"}
"""Options of x264 without B-frames, so that streams can be concatenated and cut by copying packets. Readers that seek
decode at most 20 frames."""


MAX_PIXELS = 8192 * 8192
"""Of a frame that is decoded."""
LOSSLESS_FPS = 10
"""Frames per second of lossless videos, whose frames are counted rather than timed."""


class VideoError(ValueError):
    """A video that cannot be decoded."""


class VideoEncoder:
    """Encode frames as they arrive, so that no more than a few are in memory.

    Args:
      fps: Frames per second.
      crf: Quality of x264; lower is better, 0 is lossless.
      pixel_format: Pixel format of the stream.
      options: Additional options of x264.
      codec: `libx264`, or `libx264rgb` for frames that are not converted to another colour space.
    """

    def __init__(
        self,
        fps: int | Fraction,
        crf: int = CRF,
        pixel_format: str = PIXEL_FORMAT,
        options: Mapping[str, str] = JOINABLE,
        codec: str = "libx264",
    ):
        self._file = io.BytesIO()
        self._container = av.open(self._file, mode="w", format="mp4")
        self._fps, self._pixel_format, self._codec = fps, pixel_format, codec
        self._options = {"crf": str(crf), "preset": "veryfast", "threads": "1", **options}
        self._stream: av.VideoStream | None = None

    def add(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Append a frame; an odd last row or column is cut off unless the codec is `libx264rgb`."""
        height, width = frame.shape[:2]
        if self._codec == "libx264":
            height, width = height // 2 * 2, width // 2 * 2
        if self._stream is None:
            self._stream = self._container.add_stream(self._codec, rate=self._fps)
            self._stream.height, self._stream.width = height, width
            self._stream.pix_fmt = self._pixel_format
            self._stream.options = self._options
        image = np.ascontiguousarray(frame[:height, :width])
        for packet in self._stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
            self._container.mux(packet)

    def finish(self) -> bytes:
        """Close the encoder; returns the mp4 file."""
        if self._stream is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()
        return self._file.getvalue()

    def close(self) -> None:
        """Free an encoder that is not finished; may be called twice."""
        self._container.close()


def lossless_encoder() -> VideoEncoder:
    """Encoder of videos whose frames are decoded to the last bit; fast rather than small."""
    options = {"preset": "ultrafast"}
    return VideoEncoder(LOSSLESS_FPS, 0, pixel_format="rgb24", options=options, codec="libx264rgb")


def concatenate_videos(parts: Sequence[bytes], lengths: Sequence[int], fps: int, out: Path) -> None:
    """Concatenate videos of `VideoEncoder` by copying packets, without encoding again.

    Args:
      parts: mp4 files of equal size and encoder settings.
      lengths: Number of frames of each.
      fps: Frames per second.
      out: File to write; an existing one is replaced.
    """
    with av.open(str(out), mode="w", format="mp4") as target:
        stream = None
        before = 0
        for part, length in zip(parts, lengths, strict=True):
            with av.open(io.BytesIO(part)) as source:
                if stream is None:
                    stream = target.add_stream_from_template(source.streams.video[0])
                    stream.time_base = Fraction(1, fps)
                shift = Fraction(before, fps)
                for packet in source.demux(video=0):
                    if packet.dts is None:  # The empty packet at the end.
                        continue
                    packet.pts += round(shift / packet.time_base)
                    packet.dts += round(shift / packet.time_base)
                    packet.stream = stream
                    target.mux(packet)
            before += length


def decode_frames(path: Path) -> Iterator[tuple[float, UInt8[np.ndarray, "h w 3"]]]:
    """Every frame of a video with its time in seconds.

    Raises:
      VideoError: If the file is absent or cannot be decoded.
    """
    try:
        # Of other formats some are lists of further files or addresses, which would be opened.
        with open_regular(path, error=VideoError) as file, av.open(file, format="mp4") as container:
            stream = container.streams.video[0]
            if stream.width * stream.height > MAX_PIXELS:
                raise VideoError(
                    f"{path} has frames of {stream.width} x {stream.height} pixels, more than are read."
                )
            # For small frames, passing them between threads takes twenty times as long as decoding them.
            stream.thread_type, stream.codec_context.thread_count = "NONE", 1
            converter = VideoReformatter()
            for frame in container.decode(stream):
                image = converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
                yield float(frame.time), image
    except (av.FFmpegError, LookupError, AttributeError, OSError, TypeError, ValueError) as error:
        if isinstance(error, VideoError):
            raise
        raise VideoError(f"{path} cannot be decoded ({error}). Restore it from a copy.") from error


def lossless_frames(path: Path) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Frames of a video of `lossless_encoder`, in order and to the last bit.

    Raises:
      VideoError: If the file cannot be decoded.
    """
    for _, frame in decode_frames(path):
        yield frame
