import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simloop.harness.rollout.latency import Reply, query_record, split_call
from simloop.policies.interface import Chunk, InferenceResult

CHUNK = Chunk(np.zeros((1, 2), np.float32))
STAGES = ("render", "adapt", "retry", "transport", "queue", "host", "device", "post", "turn")
SECONDS = st.floats(-0.5, 2.0)


def stages(row) -> dict[str, float]:
    return {stage: getattr(row, f"{stage}_ms") for stage in STAGES}


def test_transport_is_the_time_between_query_and_reply_that_nothing_else_explains():
    reply = Reply(
        CHUNK, host_s=0.01, device_s=0.2, post_s=0.03, queue_s=0.1, retry_s=0.02, batch=3, batch_size=4
    )
    row = query_record(7, reply, render_s=0.5, adapt_s=0.02, ask_s=0.42, turn_s=0.05)
    assert (row.index, row.batch, row.bucket) == (7, 3, 4)
    assert stages(row) == pytest.approx(
        dict(zip(STAGES, (500, 20, 20, 10, 100, 10, 200, 30, 50), strict=True))
    )
    assert row.total_ms == pytest.approx(940.0)


@given(*[SECONDS] * 6, st.floats(0, 3))
def test_stages_are_never_negative_and_add_up_to_the_measured_total(
    host_s, device_s, post_s, queue_s, retry_s, turn_s, ask_s
):
    reply = Reply(CHUNK, host_s, device_s, post_s, queue_s, retry_s)
    row = query_record(0, reply, render_s=0.25, adapt_s=0.125, ask_s=ask_s, turn_s=turn_s)
    assert min(stages(row).values()) >= 0
    assert sum(stages(row).values()) == pytest.approx(row.total_ms, abs=2e-3)
    assert row.total_ms == pytest.approx(1e3 * (0.375 + ask_s), abs=1e-4)


def test_stages_that_do_not_fit_between_query_and_reply_count_as_transport():
    row = query_record(0, Reply(CHUNK, device_s=0.2), render_s=0.0, adapt_s=0.0, ask_s=0.1, turn_s=0.0)
    assert (row.transport_ms, row.device_ms, row.total_ms) == (100.0, 0.0, 100.0)


@pytest.mark.parametrize(
    ("reported", "split"),
    [
        (InferenceResult([CHUNK]), (0.0, 1.0, 0.0)),
        (InferenceResult([CHUNK], host_s=0.25, device_s=0.5, post_s=0.125), (0.25, 0.625, 0.125)),
        (InferenceResult([CHUNK], host_s=1.0), (1.0, 0.0, 0.0)),
        (InferenceResult([CHUNK], host_s=5.0, device_s=0.5), (0.0, 1.0, 0.0)),
        (InferenceResult([CHUNK], post_s=-1.0), (0.0, 1.0, 0.0)),
    ],
)
def test_the_stages_of_a_call_add_up_to_its_duration_whatever_the_policy_reports(reported, split):
    assert split_call(reported, 1.0) == split
