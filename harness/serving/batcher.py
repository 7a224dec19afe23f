"""Queries of many episodes, answered in batches: no timer, no lock step.

    arrive ──> encoded one by one ──> stacked and copied ──> the model runs ──> replies
               a host thread or the caller's, while the model runs        a device thread

As soon as the model is free it takes what is waiting. A full batch is stacked and copied to the device
while the one before it runs; one that is not full stays open until the model is free.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from simloop.harness.rollout.loop import Reply
from simloop.policies.interface import BatchedPolicy, InferenceResult, Query


@dataclass(eq=False)
class _Waiting:
    query: Query
    arrived: float
    done: Callable[[Reply | Exception], None]
    row: Any = None
    encode_s: float = 0.0


@dataclass
class _Batch:
    waiting: list[_Waiting]
    batch_size: int
    content: Any
    assemble_s: float


@dataclass
class WorkerLoad:
    """What a batcher has done and is doing."""

    waiting: int = 0
    """Queries that have arrived and are not being computed."""
    batches: int = 0
    rows: int = 0
    places: int = 0
    """Rows that there would have been room for."""
    busy_s: float = 0.0
    """In which the model ran."""
    running_for_s: float = 0.0
    """How long the present call has been running; 0 where none is."""
    longest_s: float = 0.0
    """The longest call that came to its end."""


class Batcher:
    """Gathers queries and hands them to a policy that answers a bucket of them at once.

    Args:
      buckets: Rows of a call, unused ones padded: the smallest of these that holds what is waiting. One
        alone makes answers independent of what else is waiting.
    """

    def __init__(self, policy: BatchedPolicy, batch_sizes: Sequence[int]):
        self._policy = policy
        self._batch_sizes = tuple(sorted(batch_sizes))
        self._lock = threading.Lock()
        self._host = threading.Condition(self._lock)
        self._device = threading.Condition(self._lock)
        self._arrived: deque[_Waiting] = deque()
        self._encoded: deque[_Waiting] = deque()
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

    async def ask(self, query: Query) -> Reply:
        """The answer to one query, when its turn has come. Raises what the policy raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()

        def settle(outcome: Reply | Exception) -> None:
            if future.done():
                return
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        self.put(query, lambda outcome: _discard(loop.call_soon_threadsafe(settle, outcome)))
        return await future

    def put(
        self, query: Query, done: Callable[[Reply | Exception], None], *, encode_here: bool = False
    ) -> None:
        """Ask without waiting; `done` is called from another thread, or from this one if encoding fails.

        Args:
          encode_here: Whether this thread may be kept for the encoding, which saves waking another.
        """
        waiting = _Waiting(query, time.perf_counter(), done)
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
        """What it has done so far and is doing now."""
        with self._lock:
            assembled = len(self._assembled.waiting) if self._assembled else 0
            return WorkerLoad(
                waiting=len(self._arrived) + len(self._encoded) + assembled,
                batches=self._load.batches,
                rows=self._load.rows,
                places=self._load.places,
                busy_s=self._load.busy_s,
                running_for_s=time.perf_counter() - self._began if self._began is not None else 0.0,
                longest_s=self._load.longest_s,
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
        """The host thread: encode what arrives; stack a batch as soon as it is full."""
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
        """Whether the model runs, a batch is full, and there is no other one before it that waits."""
        return (
            self._began is not None
            and self._assembled is None
            and not self._assembling
            and len(self._encoded) >= self._batch_sizes[-1]
        )

    def _take(self) -> list[_Waiting]:
        return [self._encoded.popleft() for _ in range(min(len(self._encoded), self._batch_sizes[-1]))]

    def _encode(self, waiting: _Waiting) -> bool:
        began = time.perf_counter()
        try:
            waiting.row = self._policy.encode(waiting.query)
        except Exception as error:
            waiting.done(error)
            return False
        waiting.encode_s = time.perf_counter() - began
        return True

    def _stack(self, waiting: list[_Waiting]) -> _Batch | None:
        batch_size = next(b for b in self._batch_sizes if b >= len(waiting))
        began = time.perf_counter()
        try:
            content = self._policy.assemble([one.row for one in waiting], batch_size)
        except Exception as error:
            for one in waiting:
                one.done(error)
            return None
        return _Batch(waiting, batch_size, content, time.perf_counter() - began)

    def _run_batches(self) -> None:
        """The device thread: the batch that is ready, or what there is."""
        while True:
            with self._lock:
                while not (self._closed or self._assembled or (self._encoded and not self._assembling)):
                    self._device.wait()
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

    def _note_end(self, began: float) -> None:
        """Nothing runs any more. Before anybody is answered, so that who is finds it counted."""
        seconds = time.perf_counter() - began
        with self._lock:
            self._began = None
            self._load.busy_s += seconds
            self._load.longest_s = max(self._load.longest_s, seconds)

    def _run(self, batch: _Batch, began: float) -> None:
        try:
            answer = self._policy.run(batch.content)
        except Exception as error:
            self._note_end(began)
            for one in batch.waiting:
                one.done(error)
            return
        self._note_end(began)
        with self._lock:
            self._load.batches += 1
            self._load.rows += len(batch.waiting)
            self._load.places += batch.batch_size
        for one, chunk in zip(batch.waiting, answer.chunks, strict=True):
            one.done(_reply(one, chunk, answer, batch, began))


def _discard(_: object) -> None:
    """For calls whose result nobody wants."""


def _reply(one: _Waiting, chunk: Any, answer: InferenceResult, batch: _Batch, began: float) -> Reply:
    host_s = one.encode_s + batch.assemble_s
    return Reply(
        chunk,
        host_s=host_s + answer.host_s,
        device_s=answer.device_s,
        post_s=answer.post_s,
        queue_s=max(0.0, began - one.arrived - host_s),
        batch=len(batch.waiting),
        batch_size=batch.batch_size,
    )
