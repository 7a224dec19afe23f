"""Live views send what happens, and no step waits for a viewer."""

import threading
import time

import pytest

from simloop.envs.interface import RenderSettings
from simloop.harness.adapters.base import ANY_ROBOT, Adapter
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.planning.protocol import Protocol
from simloop.harness.recording.live_view import LiveView, Sender
from simloop.harness.rollout.loop import run_episode
from simloop.policies.scripted import scripted_policy
from tests.helpers.point_suite import PointEnv, point_task

SPEC = EpisodeSpec("random", "points", "test", "point", 0, seed=1, key=2)
STEPS = 20


def played(view: LiveView) -> float:
    """Play an episode with a live view; returns its duration in seconds."""
    env = PointEnv(point_task(max_steps=STEPS), RenderSettings(height=32, width=32))
    rules = Protocol("points", replan_steps=4)
    policy = scripted_policy("random")
    started = time.perf_counter()
    run_episode(env, SPEC, policy, Adapter("points", ANY_ROBOT), rules, [view])
    return time.perf_counter() - started


def test_a_viewer_that_is_stuck_delays_no_step_and_loses_messages():
    stuck, sender = threading.Event(), Sender(waiting=5)
    view = LiveView(lambda: stuck.wait(60), sender)
    assert played(view) < 5
    assert sender.dropped > STEPS - 10
    stuck.set()


def test_a_viewer_that_breaks_does_not_end_the_episode():
    def broken():
        raise ConnectionError("the viewer was closed")

    sender = Sender()
    played(LiveView(broken, sender))
    sender.wait()
    assert sender.dropped > STEPS


def test_the_viewer_is_sent_actions_rewards_and_chunks(tmp_path):
    rr = pytest.importorskip("rerun", reason="no rerun-sdk to read recordings with: scripts/setup rerun")
    from rerun.chunk import RrdReader

    sender, path = Sender(), tmp_path / "live.rrd"
    stream = rr.RecordingStream("simloop", recording_id="live")
    stream.save(path)
    played(LiveView(lambda: stream, sender))
    sender.wait()
    stream.disconnect()
    rows: dict[str, int] = {}
    for chunk in RrdReader(path).stream():
        rows[chunk.entity_path] = rows.get(chunk.entity_path, 0) + chunk.num_rows
    assert sender.dropped == 0
    assert rows["/executed/dx"] == rows["/executed/dy"] == rows["/reward/sum"] == STEPS
    assert rows["/chunk"] == STEPS, "a chunk of random is one action"
    assert rows["/outcome"] == rows["/instruction"] == 1
