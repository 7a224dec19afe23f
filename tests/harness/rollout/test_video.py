import io

import av
import numpy as np
import pytest

from simloop.envs.interface import RenderSettings
from simloop.harness.adapters.base import Adapter
from simloop.harness.rollout.camera_frames import CameraFrames
from simloop.harness.rollout.loop import run_episode
from simloop.harness.rollout.result import RolloutResult
from simloop.harness.rollout.video import VideoRecorder, size_problem
from simloop.harness.rollout.video_margin import BAR, COLOURS, HEIGHT, VideoMargin
from tests.harness.rollout.test_loop import one_spec, protocol
from tests.helpers.point_policies import PointPolicy
from tests.helpers.point_suite import PointEnv, point_task


def frames_of(video: bytes):
    with av.open(io.BytesIO(video)) as container:
        stream = container.streams.video[0]
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)], float(
            stream.average_rate
        )


@pytest.mark.parametrize(("every", "count"), [(1, 10), (2, 6), (4, 4), (100, 2)])
def test_shows_all_cameras_side_by_side_in_real_time_with_first_and_last_frame(every, count):
    env = PointEnv(point_task(), RenderSettings("fast", 48, 64))
    recorder = VideoRecorder(one_spec(), ("top", "hand"), every, env.spec.control_hz, 9)
    adapter = Adapter("points", "point")
    rules = protocol(max_steps=9, render=env.render_settings)
    run_episode(env, one_spec(), PointPolicy(noise=5.0), adapter, rules, [recorder])
    frames, rate = frames_of(recorder.attachments["video"])
    assert len(frames) == count
    assert rate == pytest.approx(20 / every, rel=1e-2)
    assert frames[0].shape == (48 + HEIGHT, 128, 3)
    red = (frames[0][:48, :64].astype(int) - frames[0][:48, 64:].astype(int))[..., 0]
    assert red.max() > 100, "the left half shows the camera `top`, whose point is red"


def test_crops_odd_sizes_to_even_ones():
    env = PointEnv(point_task(), RenderSettings("fast", 31, 45))
    env.reset(0)
    recorder = VideoRecorder(one_spec(), ("top",), 1, 20.0, 9)
    recorder.on_reset(CameraFrames(env, env.render_settings), env)
    recorder.on_end(RolloutResult())
    frames, _ = frames_of(recorder.attachments["video"])
    assert frames[0].shape == (30 + HEIGHT, 44, 3)


def test_has_no_content_if_the_episode_broke():
    env = PointEnv(point_task(), RenderSettings("fast", 16, 16))
    env.reset(0)
    recorder = VideoRecorder(one_spec(), ("top",), 1, 20.0, 9)
    recorder.on_reset(CameraFrames(env, env.render_settings), env)
    recorder.close()
    recorder.close()
    assert not recorder.attachments


def test_the_margin_lies_below_the_pixels_and_shows_step_queries_and_outcome():
    margin = VideoMargin(one_spec(), max_steps=100)
    frame = np.full((40, 201, 3), 77, np.uint8)
    margin.on_query(0)
    margin.on_query(50)
    running, ended = margin.below(frame, 60), margin.below(frame, 80, "success")
    assert np.array_equal(running[:40], frame)
    assert running.shape == (40 + HEIGHT, 201, 3)
    bar = running[40]
    assert (bar[100] == bar[0]).all(), "a query was made at step 50"
    assert (bar[99] != bar[100]).any()
    assert (bar[120] != bar[121]).any(), "60 of 100 steps are executed"
    assert (running[40 + BAR :] != ended[40 + BAR :]).any()
    assert tuple(ended[40, 150]) == COLOURS["success"]


def test_images_are_scaled_to_the_video_size():
    env = PointEnv(point_task(), RenderSettings("fast", 24, 32))
    env.reset(0)
    recorder = VideoRecorder(one_spec(), ("top", "hand"), 1, 20.0, 9, height=96)
    recorder.on_reset(CameraFrames(env, env.render_settings), env)
    recorder.on_end(RolloutResult())
    frames, _ = frames_of(recorder.attachments["video"])
    assert frames[0].shape == (96 + HEIGHT, 256, 3)


@pytest.mark.parametrize("height", [0, 15, 100_000])
def test_sizes_that_no_video_has_are_refused_in_a_sentence(height):
    assert f"got {height}" in size_problem(height)
    assert not size_problem(None)
