"""Live views send what happens, and no step waits for a viewer."""

import dataclasses
import socket
import threading
import time

import numpy as np
import pytest

from simloop.envs import registry
from simloop.envs.interface import RenderSettings
from simloop.harness.adapters.base import ANY_ROBOT, Adapter
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.planning.protocol import Protocol
from simloop.harness.recording.live_view import LiveView, Sender, connected
from simloop.harness.rollout.loop import run_episode
from simloop.policies.interface import Chunk, Policy, PolicySpec
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


class Timed(LiveView):
    """A live view that keeps how long the loop was in it, in seconds."""

    def __init__(self, *args):
        super().__init__(*args)
        self.spent = []

    def on_query(self, *args):
        started = time.perf_counter()
        super().on_query(*args)
        self.spent.append(time.perf_counter() - started)

    def on_step(self, record):
        started = time.perf_counter()
        super().on_step(record)
        self.spent.append(time.perf_counter() - started)


class Still(Policy):
    """Sees images and stands still."""

    def __init__(self, cameras):
        self.spec = PolicySpec("still", cameras=cameras, chunk_steps=10)

    def infer(self, queries):
        return [Chunk(np.zeros((10, 4), np.float32)) for _ in queries]


@pytest.mark.slow
@pytest.mark.parametrize("viewer", ["answers", "is stuck"])
def test_the_loop_is_in_a_live_view_for_microseconds(viewer):
    """Episodes of Meta-World with two images for every query, streamed to a viewer."""
    rr = pytest.importorskip("rerun", reason="no rerun-sdk to stream with: scripts/setup rerun")
    server = rr.RecordingStream("server", recording_id="server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server.serve_grpc(grpc_port=port)
    stuck, sender = threading.Event(), Sender()
    if viewer == "is stuck":
        sender.offer(stuck.wait)
    address = f"rerun+http://127.0.0.1:{port}/proxy"
    env = registry.suite("metaworld").make("reach-v3", RenderSettings())
    cameras = env.spec.cameras[:2]
    rules = Protocol("metaworld", replan_steps=10, max_steps=100)
    still = dataclasses.replace(SPEC, suite="metaworld", task="reach-v3", policy="still")
    view = Timed(lambda: connected(address, "timed"), sender)
    adapter = Adapter("metaworld", ANY_ROBOT, {camera: camera for camera in cameras})
    run_episode(env, still, Still(cameras), adapter, rules, [view])
    env.close()
    stuck.set()
    spent = 1e6 * np.array(view.spent)
    print(
        f"a viewer that {viewer}: {np.median(spent):.1f} us, at most {spent.max():.0f} us; {sender.dropped} dropped"
    )
    assert np.median(spent) < 1000
