"""Latency of policy queries, split into stages.

    render   adapt           ask                                      adapt
    |--------|---------------|-----------------------------------------|--------|
    cameras  state, images   transport + queue + host + device + post  actions

The policy's side reports queue, host, device and post; the rest of the time between query and reply is transport.
All clocks are monotonic clocks of one process, except for `Reply.sent_at`.
"""

from __future__ import annotations

from dataclasses import dataclass

from simloop.policies.interface import Chunk
from simloop.results.records.records import QueryRecord


@dataclass(frozen=True)
class Reply:
    """A policy's answer to one query, with the time in seconds that each stage took on the policy's side."""

    chunk: Chunk
    host_s: float = 0.0
    """Preprocessing on the host."""
    device_s: float = 0.0
    """Copies to and from the device, and the model."""
    post_s: float = 0.0
    """Unnormalizing and decoding of actions."""
    queue_s: float = 0.0
    """Waiting for the policy to become free."""
    batch: int = 1
    """Queries answered in the same call."""
    batch_size: int = 1
    """Rows of that call, padding included."""
    sent_at: float | None = None
    """`time.perf_counter` when the reply left a policy worker on the same machine; None if it came from elsewhere."""

    @property
    def stages_s(self) -> float:
        """Sum of the stages on the policy's side, in seconds."""
        return self.queue_s + self.host_s + self.device_s + self.post_s


def query_record(
    index: int, reply: Reply, *, render_s: float, adapt_s: float, ask_s: float, turn_s: float
) -> QueryRecord:
    """Return the ledger's row of one query.

    Args:
      index: Number of the query in the episode.
      reply: The answer, with the stages of the policy's side.
      render_s: Time to render the policy's cameras.
      adapt_s: Time of the adapter and the perturbation, before the query and after the reply.
      ask_s: Time between query and reply.
      turn_s: Part of `ask_s` during which the reply waited while this process simulated other environments; counted
        as queue.
    """
    queue_s = reply.queue_s + turn_s
    transport_s = max(0.0, ask_s - reply.stages_s - turn_s)

    def ms(seconds: float) -> float:
        return round(1e3 * seconds, 4)

    return QueryRecord(
        index=index,
        render_ms=ms(render_s),
        adapt_ms=ms(adapt_s),
        transport_ms=ms(transport_s),
        queue_ms=ms(queue_s),
        host_ms=ms(reply.host_s),
        device_ms=ms(reply.device_s),
        post_ms=ms(reply.post_s),
        total_ms=ms(render_s + adapt_s + transport_s + reply.stages_s + turn_s),
        batch=reply.batch,
        bucket=reply.batch_size,
    )
