import io

import av
import pytest

from simloop.envs.interface import RenderSettings
from simloop.harness.adapters.base import Adapter
from simloop.harness.rollout.camera_frames import CameraFrames
from simloop.harness.rollout.loop import run_episode
from simloop.harness.rollout.result import RolloutResult
from simloop.harness.rollout.video import VideoRecorder
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
    recorder = VideoRecorder(("top", "hand"), every, env.spec.control_hz)
    adapter = Adapter("points", "point")
    rules = protocol(max_steps=9, render=env.render_settings)
    run_episode(env, one_spec(), PointPolicy(noise=5.0), adapter, rules, [recorder])
    frames, rate = frames_of(recorder.attachments["video"])
    assert len(frames) == count
    assert rate == pytest.approx(20 / every, rel=1e-2)
    assert frames[0].shape == (48, 128, 3)
    red = (frames[0][:, :64].astype(int) - frames[0][:, 64:].astype(int))[..., 0]
    assert red.max() > 100, "the left half shows the camera `top`, whose point is red"


def test_crops_odd_sizes_to_even_ones():
    env = PointEnv(point_task(), RenderSettings("fast", 31, 45))
    env.reset(0)
    recorder = VideoRecorder(("top",), 1, 20.0)
    recorder.on_reset(CameraFrames(env, env.render_settings), env)
    recorder.on_end(RolloutResult())
    frames, _ = frames_of(recorder.attachments["video"])
    assert frames[0].shape == (30, 44, 3)


def test_has_no_content_if_the_episode_broke():
    env = PointEnv(point_task(), RenderSettings("fast", 16, 16))
    env.reset(0)
    recorder = VideoRecorder(("top",), 1, 20.0)
    recorder.on_reset(CameraFrames(env, env.render_settings), env)
    recorder.close()
    recorder.close()
    assert not recorder.attachments
