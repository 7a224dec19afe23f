"""ffmpeg decodes the videos of simloop."""

import shutil
import subprocess

import numpy as np
import pytest

from simloop.policies.files.video import VideoEncoder, decode_frames
from tests.helpers.demonstrations import CAMERAS, picture, small_dataset

pytestmark = pytest.mark.slow


def frames_of(file, height, width):
    """All frames as ffmpeg decodes them; it must not complain."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("To compare with ffmpeg: apt-get install ffmpeg.")
    command = ["ffmpeg", "-v", "error", "-i", str(file), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stderr == b""
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)


def test_ffmpeg_decodes_videos_of_episodes_as_simloop_does(tmp_path):
    encoder = VideoEncoder(20)
    for step in range(30):
        encoder.add(picture(np.array([step / 30, -step / 30]), CAMERAS[0], 96))
    (tmp_path / "a.mp4").write_bytes(encoder.finish())
    theirs = frames_of(tmp_path / "a.mp4", 96, 96)
    ours = np.stack([frame for _, frame in decode_frames(tmp_path / "a.mp4")])
    assert len(theirs) == 30
    assert np.abs(theirs.astype(int) - ours).max() <= 2


def test_ffmpeg_decodes_every_frame_of_a_dataset(tmp_path):
    small_dataset(tmp_path / "data", 3, size=64)
    files = sorted((tmp_path / "data" / "videos").rglob("*.mp4"))
    assert [len(frames_of(file, 64, 64)) for file in files] == [24 + 25 + 26] * len(CAMERAS)
