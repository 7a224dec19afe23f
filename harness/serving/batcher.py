"""Batch the queries of many episodes, without a timer and without lock step.

    arrive ──> encoded one by one ──> stacked and copied ──> the model runs ──> replies
               host or caller thread, while the model runs    device thread

As soon as the model is free it takes the queries that wait. A full batch is stacked and copied to the device while the
one before it runs; a partial batch stays open until the model is free.
"""

from __future__ import annotations

import abc
import asyncio
import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from simloop.harness.rollout.latency import Reply, split_call
from simloop.policies.interface import (
    BatchedPolicy,
    Chunk,
    InferenceResult,
    Query,
    ending_nothing,
    require_result,
)

Done = Callable[[Reply | Exception], None]


@dataclass(eq=False)
class _Waiting:
    query: Query
    arrived: float
    done: Done
    waited_s: float
    """Seconds for which it had waited before it arrived here."""
    row: Any = None
    encoding_at: float = 0.0
    encoded_at: float = 0.0


@dataclass
class _Batch:
    waiting: list[_Waiting]
    batch_size: int
    content: Any
    assembling_at: float
    assembled_at: float


@dataclass
class WorkerLoad:
    """Counters of a batcher."""

    waiting: int = 0
    """Queries that have arrived and are not being computed."""
    batches: int = 0
    """Calls completed."""
    rows: int = 0
    """Queries in these calls."""
    places: int = 0
    """Rows of these calls, padding included."""
    busy_s: float = 0.0
    """Time in calls, and in assembling batches for which the model waited."""
    running_for_s: float = 0.0
    """Time since the current call began; 0 if there is none."""
    longest_s: float = 0.0
    """The longest call completed since the previous reading."""
    oldest_s: float = 0.0
    """Age of the oldest query that has arrived and is not answered; 0 if there is none."""


class Answering(abc.ABC):
    """Takes queries at any time, from any thread, and answers them with one policy."""

    @abc.abstractmethod
    def put(self, query: Query, done: Done, *, encode_here: bool = False, waited_s: float = 0.0) -> None:
        """Add a query without waiting; `done` receives its outcome in another thread, or here if encoding fails.

        Args:
          encode_here: Encode the query in this thread, which saves waking another one.
          waited_s: Seconds for which the query has waited for this thread.
        """

    @abc.abstractmethod
    def load(self) -> WorkerLoad:
        """Return the present counters."""

    @abc.abstractmethod
    def close(self) -> None:
        """End the threads; queries that wait are not answered."""

    async def ask(self, query: Query) -> Reply:
        """Return the reply to one query. Raises any error of the policy."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()

        def settle(outcome: Reply | Exception) -> None:
            if future.done():
                return
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        def done(outcome: Reply | Exception) -> None:
            loop.call_soon_threadsafe(settle, outcome)

        self.put(query, done)
        return await future


class Batcher(Answering):
    """Gather queries and answer them with a policy, a batch per call.

    Args:
      policy: Runs in threads of the batcher.
      batch_sizes: Rows of a call; the smallest that holds the waiting queries is used, and padded. A single batch size
        makes answers independent of the other queries.
      patience: Share of the duration of the last call for which the next one may wait for as many queries as that
        answered or left waiting. Clients that query again at once then share calls, instead of one of them going
        ahead each time.
    """

    def __init__(self, policy: BatchedPolicy, batch_sizes: Sequence[int], patience: float = 0.0):
        self._patience = patience
        self._last = (0, 0.0)
        """Queries to expect, those of the last call and those that waited at its end, and its seconds."""
        self._policy = policy
        self._batch_sizes = tuple(sorted(batch_sizes))
        self._lock = threading.Lock()
        self._host = threading.Condition(self._lock)
        self._device = threading.Condition(self._lock)
        self._arrived: deque[_Waiting] = deque()
        self._encoded: deque[_Waiting] = deque()
        self._unanswered: dict[int, float] = {}
        """When each query arrived that is not answered, in the order of arrival."""
        self._assembled: _Batch | None = None
        self._assembling = False
        self._began: float | None = None
        self._load = WorkerLoad()
        self._closed = False
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("host", self._prepare_batches), ("device", self._run_batches))
        ]
        for thread in self._threads:
            thread.start()

    def put(self, query: Query, done: Done, *, encode_here: bool = False, waited_s: float = 0.0) -> None:
        """Add a query without waiting; see `Answering.put`."""
        arrived = time.perf_counter()

        def answer(outcome: Reply | Exception) -> None:
            self._unanswered.pop(id(waiting), None)
            done(outcome)

        waiting = _Waiting(query, arrived, answer, waited_s)
        self._unanswered[id(waiting)] = arrived
        if encode_here:
            self._take_in(waiting)
            return
        with self._lock:
            self._arrived.append(waiting)
            self._host.notify()

    def _take_in(self, waiting: _Waiting) -> None:
        if self._encode(waiting):
            with self._lock:
                self._encoded.append(waiting)
                self._device.notify()
                if self._may_stack():
                    self._host.notify()

    def load(self) -> WorkerLoad:
        """Return the present counters."""
        with self._lock:
            assembled = len(self._assembled.waiting) if self._assembled else 0
            longest_s, self._load.longest_s = self._load.longest_s, 0.0
            now = time.perf_counter()
            return dataclasses.replace(
                self._load,
                waiting=len(self._arrived) + len(self._encoded) + assembled,
                running_for_s=now - self._began if self._began is not None else 0.0,
                longest_s=longest_s,
                oldest_s=now - next(iter(list(self._unanswered.values())), now),
            )

    def close(self) -> None:
        """End the threads; queries that wait are not answered."""
        with self._lock:
            self._closed = True
            self._host.notify()
            self._device.notify()
        for thread in self._threads:
            thread.join(10)

    def _prepare_batches(self) -> None:
        """Host thread: encode queries as they arrive; stack a batch as soon as it is full."""
        while True:
            full: list[_Waiting] = []
            with self._lock:
                while not (self._closed or self._arrived or self._may_stack()):
                    self._host.wait()
                if self._closed:
                    return
                if self._may_stack():
                    full = self._take()
                    self._assembling = True
                else:
                    waiting = self._arrived.popleft()
            if full:
                batch = self._stack(full)
                with self._lock:
                    self._assembling = False
                    self._assembled = batch
                    self._device.notify()
            else:
                self._take_in(waiting)

    def _may_stack(self) -> bool:
        """Return whether the model runs, a full batch of queries waits, and no other batch is stacked."""
        return (
            self._began is not None
            and self._assembled is None
            and not self._assembling
            and len(self._encoded) >= self._batch_sizes[-1]
        )

    def _take(self) -> list[_Waiting]:
        return [self._encoded.popleft() for _ in range(min(len(self._encoded), self._batch_sizes[-1]))]

    def _encode(self, waiting: _Waiting) -> bool:
        waiting.encoding_at = time.perf_counter()
        try:
            with self._ending_nothing():
                waiting.row = self._policy.encode(waiting.query)
        except Exception as error:
            waiting.done(error)
            return False
        waiting.encoded_at = time.perf_counter()
        return True

    def _stack(self, waiting: list[_Waiting]) -> _Batch | None:
        batch_size = next(b for b in self._batch_sizes if b >= len(waiting))
        began = time.perf_counter()
        try:
            with self._ending_nothing():
                content = self._policy.assemble([one.row for one in waiting], batch_size)
        except Exception as error:
            for one in waiting:
                one.done(error)
            return None
        return _Batch(waiting, batch_size, content, began, time.perf_counter())

    def _run_batches(self) -> None:
        """Device thread: run the batch that is stacked, or the queries that wait."""
        while True:
            with self._lock:
                while not (self._closed or self._assembled or (self._encoded and not self._assembling)):
                    self._device.wait()
                self._gather()
                if self._closed:
                    return
                batch, self._assembled = self._assembled, None
                waiting = [] if batch else self._take()
                began = self._began = time.perf_counter()
                if self._may_stack():
                    self._host.notify()
            if batch is None:
                batch = self._stack(waiting)
            if batch is None:
                self._note_end(began)
            else:
                self._run(batch, began)

    def _gather(self) -> None:
        """Wait, within bounds, until as many queries have arrived as are to be expected."""
        rows, seconds = self._last
        until = time.perf_counter() + self._patience * seconds
        while not (self._closed or self._assembled) and len(self._encoded) < rows:
            left_s = until - time.perf_counter()
            if left_s <= 0 or not self._device.wait(left_s):
                return

    def _ending_nothing(self) -> AbstractContextManager[None]:
        return ending_nothing(self._policy.spec.name)

    def _note_end(self, began: float) -> None:
        """Record the end of a call, before its queries are answered."""
        seconds = time.perf_counter() - began
        with self._lock:
            self._began = None
            self._load.busy_s += seconds
            self._load.longest_s = max(self._load.longest_s, seconds)

    def _run(self, batch: _Batch, began: float) -> None:
        started = time.perf_counter()  # Later than `began` if this thread has stacked the batch.
        try:
            with self._ending_nothing():
                result = self._policy.run(batch.content)
            ended = time.perf_counter()
            require_result(self._policy.spec, result, len(batch.waiting))
        except Exception as error:
            self._note_end(began)
            for one in batch.waiting:
                one.done(error)
            return
        self._note_end(began)
        with self._lock:
            expected = len(batch.waiting) + len(self._encoded) + len(self._arrived)
            self._last = (min(expected, self._batch_sizes[-1]), ended - started)
            self._load.batches += 1
            self._load.rows += len(batch.waiting)
            self._load.places += batch.batch_size
        for one, chunk in zip(batch.waiting, result.chunks, strict=True):
            one.done(_reply(one, chunk, result, batch, started, ended))


def _reply(
    one: _Waiting, chunk: Chunk, result: InferenceResult, batch: _Batch, started: float, ended: float
) -> Reply:
    """Divide the time from the arrival of a query to the end of its call, started -> ended, without a gap."""
    host_s, device_s, post_s = split_call(result, ended - started)
    waits = (
        one.waited_s,
        one.encoding_at - one.arrived,
        batch.assembling_at - one.encoded_at,
        started - batch.assembled_at,
    )
    return Reply(
        chunk,
        host_s=one.encoded_at - one.encoding_at + batch.assembled_at - batch.assembling_at + host_s,
        device_s=device_s,
        post_s=post_s,
        queue_s=sum(waits),
        batch=len(batch.waiting),
        batch_size=batch.batch_size,
    )
