"""Questions of many episodes, answered in batches: no timer, no lock step.

As soon as the model is free it takes what is waiting. While it works, the next questions gather.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from harness.rollout import Reply
from policies.interface import Answer, Query


@dataclass(frozen=True)
class _Waiting:
    query: Query
    since: float
    reply: asyncio.Future[Reply]


class Batcher:
    """Gathers queries and hands them to a model that answers up to `bucket` of them at once."""

    def __init__(self, infer: Callable[[list[Query]], Answer], bucket: int, executor: Executor):
        self._infer = infer
        self._bucket = bucket
        self._executor = executor
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None

    async def ask(self, query: Query) -> Reply:
        """The answer to one query, when its turn has come. Raises what the model raises."""
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        await self._waiting.put(_Waiting(query, time.perf_counter(), reply))
        return await reply

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._bucket and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            began = time.perf_counter()
            try:
                answer = await loop.run_in_executor(self._executor, self._infer, [w.query for w in batch])
            except Exception as error:
                for waiting in batch:
                    if not waiting.reply.done():
                        waiting.reply.set_exception(error)
                continue
            for waiting, chunk in zip(batch, answer.chunks, strict=True):
                if not waiting.reply.done():
                    waiting.reply.set_result(
                        Reply(
                            chunk,
                            host_s=answer.host_s,
                            device_s=answer.device_s,
                            post_s=answer.post_s,
                            queue_s=began - waiting.since,
                            batch=len(batch),
                            bucket=self._bucket,
                        )
                    )
