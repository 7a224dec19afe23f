"""Answer queries by calls that wait for something else, such as a server: several at once, one query each."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Sequence

from simloop.harness.rollout.latency import Reply, reply_from
from simloop.harness.serving.batcher import Answering, Batcher, Done, WorkerLoad
from simloop.policies.interface import BatchedPolicy, InferenceResult, Query, ending_nothing, require_result


@dataclasses.dataclass(eq=False)
class _Call:
    query: Query
    done: Done
    arrived: float
    waited_s: float
    """Seconds for which it had waited before it arrived here."""
    began: float = 0.0


class ConcurrentCalls(Answering):
    """Answer each query by a call of its own, in the order of arrival.

    Args:
      policy: Its `infer` is called by `policy.concurrent_calls` threads.
    """

    def __init__(self, policy: BatchedPolicy):
        self._policy = policy
        self._arrived: deque[_Call] = deque()
        self._running: list[_Call] = []
        """Calls under way, the oldest first."""
        self._changed = threading.Condition()
        self._load = WorkerLoad()
        self._busy_since = 0.0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._answer, name="call", daemon=True)
            for _ in range(policy.concurrent_calls)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, query: Query, done: Done, *, encode_here: bool = False, waited_s: float = 0.0) -> None:
        """Add a query without waiting; `done` receives its outcome in another thread."""
        with self._changed:
            self._arrived.append(_Call(query, done, time.perf_counter(), waited_s))
            self._changed.notify()

    def load(self) -> WorkerLoad:
        """Return the present counters."""
        with self._changed:
            now = time.perf_counter()
            longest_s, self._load.longest_s = self._load.longest_s, 0.0
            running_s = now - self._running[0].began if self._running else 0.0
            busy_now_s = now - self._busy_since if self._running else 0.0
            oldest = min((call.arrived for call in (*self._running, *self._arrived)), default=now)
            return dataclasses.replace(
                self._load,
                waiting=len(self._arrived),
                busy_s=self._load.busy_s + busy_now_s - running_s,
                running_for_s=running_s,
                longest_s=longest_s,
                oldest_s=now - oldest,
            )

    def close(self) -> None:
        """Let the threads end after their calls; queries that wait are not answered."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _answer(self) -> None:
        while (call := self._next()) is not None:
            try:
                with ending_nothing(self._policy.spec.name):
                    result = self._policy.infer([call.query], 1)
                require_result(self._policy.spec, result, 1)
                outcome: Reply | Exception = self._reply(call, result)
            except Exception as error:
                outcome = error
            self._note_end(call, isinstance(outcome, Reply))
            call.done(outcome)

    def _next(self) -> _Call | None:
        with self._changed:
            while not (self._closed or self._arrived):
                self._changed.wait()
            if self._closed:
                return None
            call = self._arrived.popleft()
            call.began = time.perf_counter()
            if not self._running:
                self._busy_since = call.began
            self._running.append(call)
            return call

    def _note_end(self, call: _Call, answered: bool) -> None:
        with self._changed:
            now = time.perf_counter()
            self._running.remove(call)
            if not self._running:
                self._load.busy_s += now - self._busy_since
            self._load.longest_s = max(self._load.longest_s, now - call.began)
            if answered:
                self._load.batches += 1
                self._load.rows += 1
                self._load.places += 1

    def _reply(self, call: _Call, result: InferenceResult) -> Reply:
        waited_s = call.waited_s + call.began - call.arrived
        return reply_from(result.chunks[0], result, time.perf_counter() - call.began, waited_s=waited_s)


def answering(policy: BatchedPolicy, batch_sizes: Sequence[int], patience: float = 0.0) -> Answering:
    """Return what answers queries with a policy that is prepared: in batches, or by concurrent calls.

    Args:
      patience: As for `Batcher`.
    """
    return ConcurrentCalls(policy) if policy.concurrent_calls else Batcher(policy, batch_sizes, patience)
