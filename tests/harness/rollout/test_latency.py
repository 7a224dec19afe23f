import numpy as np
import pytest

from simloop.harness.rollout.latency import Reply, query_record
from simloop.policies.interface import Chunk

CHUNK = Chunk(np.zeros((1, 2), np.float32))


def test_transport_is_the_time_between_query_and_reply_that_the_policy_does_not_report():
    reply = Reply(CHUNK, host_s=0.01, device_s=0.2, post_s=0.03, queue_s=0.1, batch=3, batch_size=4)
    row = query_record(7, reply, render_s=0.5, adapt_s=0.02, ask_s=0.4, turn_s=0.05)
    assert (row.index, row.batch, row.bucket) == (7, 3, 4)
    assert (row.render_ms, row.adapt_ms) == (500.0, 20.0)
    assert (row.host_ms, row.device_ms, row.post_ms) == (10.0, 200.0, 30.0)
    assert row.queue_ms == pytest.approx(150.0)
    assert row.transport_ms == pytest.approx(10.0)
    assert row.total_ms == pytest.approx(920.0)


def test_no_stage_is_negative_if_clocks_disagree():
    row = query_record(0, Reply(CHUNK, device_s=0.2), render_s=0.0, adapt_s=0.0, ask_s=0.1, turn_s=0.0)
    assert row.transport_ms == 0.0
    assert row.total_ms == row.device_ms
