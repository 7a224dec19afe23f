"""Delays of the answers of one episode, in control steps."""

from __future__ import annotations

from collections import deque

from simloop.harness.planning.delay import LATENCY_STAGES, steps_of
from simloop.harness.planning.execution import Execution
from simloop.results.records.records import QueryRecord

REMEMBERED = 10
"""Queries whose delays the next one is expected to stay below, as in real-time chunking (arXiv:2506.07339)."""


class EpisodeDelays:
    """Draw the delay of each query, and predict it from the earlier ones of the episode."""

    def __init__(self, execution: Execution, control_hz: float):
        self._delay = execution.delay
        self._control_hz = control_hz
        self._last: deque[int] = deque(maxlen=REMEMBERED)

    def of(self, key: int, latency: QueryRecord) -> int:
        """Return the control steps from a query to the first action that its chunk can give.

        Args:
          key: Key of the query.
          latency: Its measured latency, which counts if the delay is live.
        """
        if self._delay.kind == "live":
            ms = sum(getattr(latency, stage) for stage in LATENCY_STAGES)
            steps = steps_of(ms / 1000, self._control_hz)
        else:
            steps = self._delay.steps(self._control_hz, key)
        self._last.append(steps)
        return steps

    def expected(self) -> int:
        """Return the delay that the next query is expected to have: the longest of the last ones.

        Before the first, it is the 95th percentile of measured latencies, or a constant delay itself.
        """
        if self._delay.constant:
            return self._delay.steps(self._control_hz, 0)
        if self._last:
            return max(self._last)
        return steps_of(self._delay.percentile_ms(95) / 1000, self._control_hz)
