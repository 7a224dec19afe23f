"""Serve a policy until it is stopped, or in the background of a Python program."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from simloop.harness.serving.batch_sizes import choose
from simloop.harness.serving.batcher import Answering
from simloop.harness.serving.concurrent_calls import answering
from simloop.harness.serving.policy_service import (
    OpenpiService,
    PolicyService,
    ServiceError,
    VlaEvalService,
    convention_of,
)
from simloop.harness.serving.websocket_server import Listening, WebsocketServer
from simloop.policies.interface import BatchedPolicy, GuidanceMethod, PolicySpec

ServedProtocol = Literal["openpi", "vla-eval"]
PATIENCE = 0.25
"""Clients that were answered together query again within a fraction of a call, or do something else."""


@dataclass(frozen=True)
class Serving:
    """How a policy is served."""

    protocol: ServedProtocol = "openpi"
    batch_sizes: tuple[int, ...] = (8,)
    """Rows of a call. Several are measured, and follow the number of queries that wait."""
    seed: int = 0
    """Root of the noise of clients that send no keys."""
    guidance: tuple[GuidanceMethod, ...] = ()
    """Methods of guidance that clients of openpi's protocol may ask for."""
    replan_steps: int | None = None
    """For vla-eval, whose clients take one action at a time: actions of a chunk before the next query."""


@dataclass(frozen=True)
class Ready:
    """A policy that can answer."""

    service: PolicyService
    answering: Answering
    batch_sizes: tuple[int, ...]


def make_ready(policy: BatchedPolicy, serving: Serving) -> Ready:
    """Compile a policy for its batch sizes, so that no client waits for that.

    Raises:
      ServiceError: If no client speaks the robot convention of the policy, or it does not follow the guidance.
    """
    convention_of(policy.spec)
    _require_guidance(policy.spec, serving)
    batch_sizes, _ = choose(policy, serving.batch_sizes)
    queries = answering(policy, batch_sizes, PATIENCE)
    if serving.protocol == "vla-eval":
        steps = serving.replan_steps
        return Ready(
            VlaEvalService(policy.spec, queries.ask, seed=serving.seed, replan_steps=steps),
            queries,
            batch_sizes,
        )
    spec = dataclasses.replace(policy.spec, guidance=serving.guidance)
    about = _about(spec, policy.identity(), batch_sizes)
    service = OpenpiService(spec, queries.ask, seed=serving.seed, about=about)
    return Ready(service, queries, batch_sizes)


def serve(ready: Ready, listening: Listening, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; answers under way are finished.

    Raises:
      ServeError: If the address cannot be listened at.
    """

    async def main() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await WebsocketServer(ready.service, listening).run(stop, on_ready)

    try:
        asyncio.run(main())
    finally:
        ready.answering.close()


@contextlib.contextmanager
def served_in_background(ready: Ready, listening: Listening) -> Iterator[str]:
    """Serve in a thread of this process; yields `HOST:PORT`.

    Raises:
      ServeError: If the address cannot be listened at.
    """
    started = threading.Event()
    state: dict[str, Any] = {}

    async def main() -> None:
        state["stop"], state["loop"] = asyncio.Event(), asyncio.get_running_loop()

        def on_ready(address: str) -> None:
            state["address"] = address
            started.set()

        await WebsocketServer(ready.service, listening).run(state["stop"], on_ready)

    def run() -> None:
        try:
            asyncio.run(main())
        except Exception as error:
            state["error"] = error
        finally:
            started.set()

    thread = threading.Thread(target=run, name="serve", daemon=True)
    thread.start()
    started.wait()
    if "address" not in state:
        raise state["error"]
    try:
        yield state["address"]
    finally:
        state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join(60)
        ready.answering.close()


def _require_guidance(spec: PolicySpec, serving: Serving) -> None:
    """Raise `ServiceError` if clients could ask for guidance that the policy does not follow."""
    if serving.guidance and serving.protocol != "openpi":
        raise ServiceError(f"Clients of {serving.protocol} send no guidance; leave out --guidance.")
    if missing := [method for method in serving.guidance if method not in spec.guidance]:
        raise ServiceError(
            f"{spec.name} follows guidance by {', '.join(spec.guidance) or 'no method'}; got --guidance "
            f"{' '.join(missing)}."
        )


def _about(spec: PolicySpec, fingerprint: Mapping[str, str], batch_sizes: Sequence[int]) -> dict[str, Any]:
    """What simloop's own client is told about the policy."""
    return {
        "policy": spec.name,
        "weights": spec.weights,
        "robot": spec.robot,
        "batch_size": max(batch_sizes),
        "chunk_steps": spec.chunk_steps,
        "action_size": spec.action_size,
        "guidance": list(spec.guidance),
        "max_delay": spec.max_delay,
        "fingerprint": dict(fingerprint),
    }
