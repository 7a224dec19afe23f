"""Latency of policy queries, split into stages.

    render   adapt   ask                                                           adapt
    |--------|-------|-------------------------------------------------------------|-------|
    cameras  query   retry + transport + queue + host + device + post + turn       actions

Every stage has one meaning on every transport:

| stage | time |
|---|---|
| render | rendering the cameras of the policy |
| adapt | converting the observation to the query, and the chunk to actions |
| retry | before the query is sent for the last time: connecting, restarts with loading and compiling, lost tries |
| transport | both ways between env actor and policy |
| queue | waiting for the policy: for its host thread, for other rows of the batch, for the device |
| host | preprocessing on the host, and assembling of the batch |
| device | the call of the model, until its results are on the host |
| post | unnormalizing and decoding of actions |
| turn | from the arrival of the reply until its episode goes on: the process simulates other environments |

Retry, queue, host, device, post and turn are measured where they happen, as disjoint parts of the time between query
and reply; transport is the rest of it. All clocks are monotonic clocks of one machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from simloop.policies.interface import Chunk, InferenceResult
from simloop.results.records.records import QueryRecord

CLOCK_RESOLUTION_S = 1e-6
"""By so much may the parts of a measured time exceed it, because sums of floats are rounded."""


@dataclass(frozen=True)
class Reply:
    """A policy's answer to one query, with the time in seconds that each stage took before it arrived."""

    chunk: Chunk
    host_s: float = 0.0
    device_s: float = 0.0
    post_s: float = 0.0
    queue_s: float = 0.0
    retry_s: float = 0.0
    batch: int = 1
    """Queries answered in the same call."""
    batch_size: int = 1
    """Rows of that call, padding included."""
    arrived_at: float | None = None
    """`time.perf_counter` when the reply reached the process that simulates; None if the episode goes on at once."""

    @property
    def stages_s(self) -> float:
        """Sum of the stages on the policy's side, in seconds."""
        return self.queue_s + self.host_s + self.device_s + self.post_s


def split_call(result: InferenceResult, call_s: float) -> tuple[float, float, float]:
    """Return the seconds of host, device and post that make up a call of a policy.

    The policy reports host and post, and what passed on the way to a server and in its queue; the rest of the call is
    device. Reports that do not fit into the call are ignored.
    """
    others = (result.host_s, result.post_s, result.queue_s, result.transport_s, result.retry_s)
    device_s = call_s - sum(others)
    if min(*others, device_s) < 0:
        return 0.0, call_s, 0.0
    return result.host_s, device_s, result.post_s


def reply_from(chunk: Chunk, result: InferenceResult, call_s: float, *, waited_s: float = 0.0) -> Reply:
    """Return the reply to the only query of a call.

    Args:
      call_s: Duration of the call.
      waited_s: Seconds for which the query waited before the call.
    """
    host_s, device_s, post_s = split_call(result, call_s)
    fits = host_s + device_s + post_s < call_s
    return Reply(
        chunk,
        host_s,
        device_s,
        post_s,
        queue_s=waited_s + (result.queue_s if fits else 0.0),
        retry_s=result.retry_s if fits else 0.0,
    )


def query_record(
    index: int, reply: Reply, *, render_s: float, adapt_s: float, ask_s: float, turn_s: float
) -> QueryRecord:
    """Return the ledger's row of one query. Its stages are not negative and add up to the measured total.

    If the stages in the reply do not fit into `ask_s`, because the policy measured them by a wrong clock, all of
    `ask_s` is transport.

    Args:
      index: Number of the query in the episode.
      reply: The answer, with the stages of the policy's side.
      render_s: Time to render the policy's cameras.
      adapt_s: Time of the adapter and the perturbation, before the query and after the reply.
      ask_s: Time between query and reply.
      turn_s: Last part of `ask_s`, after the reply had arrived.
    """
    transport_s = ask_s - reply.retry_s - reply.stages_s - turn_s
    parts = (reply.retry_s, reply.queue_s, reply.host_s, reply.device_s, reply.post_s, turn_s)
    if min(parts) < 0 or transport_s < -CLOCK_RESOLUTION_S:
        reply = Reply(reply.chunk, batch=reply.batch, batch_size=reply.batch_size)
        transport_s, turn_s = ask_s, 0.0

    def ms(seconds: float) -> float:
        return round(1e3 * max(0.0, seconds), 4)

    return QueryRecord(
        index=index,
        render_ms=ms(render_s),
        adapt_ms=ms(adapt_s),
        retry_ms=ms(reply.retry_s),
        transport_ms=ms(transport_s),
        queue_ms=ms(reply.queue_s),
        host_ms=ms(reply.host_s),
        device_ms=ms(reply.device_s),
        post_ms=ms(reply.post_s),
        turn_ms=ms(turn_s),
        total_ms=ms(render_s + adapt_s + ask_s),
        batch=reply.batch,
        bucket=reply.batch_size,
    )
