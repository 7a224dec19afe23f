"""A policy server of openpi's protocol that answers one query at a time in its event loop, as openpi's own does.

python -m simloop.harness.bench.one_at_a_time POLICY
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from simloop.harness.planning.policy_names import load_policy
from simloop.harness.remote.wire import pack
from simloop.harness.rollout.latency import Reply
from simloop.harness.rollout.loop import ask_here
from simloop.harness.serving.policy_service import ClientSession, OpenpiService
from simloop.policies.interface import Query


async def main(name: str) -> None:
    """Serve until the process is ended."""
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.exceptions import ConnectionClosed

    policy = load_policy(name)
    policy.prepare(1)

    async def ask(query: Query) -> Reply:
        return ask_here(policy, query)

    service = OpenpiService(policy.spec, ask)

    async def handle(connection: ServerConnection) -> None:
        session = ClientSession(1)
        await connection.send(pack({}))
        with contextlib.suppress(ConnectionClosed):
            async for frame in connection:
                assert isinstance(frame, bytes)
                answer = await service.answer(session, frame)
                assert answer is not None
                await connection.send(answer)

    async with serve(handle, "127.0.0.1", 0, compression=None, max_size=None) as server:
        host, port = next(iter(server.sockets)).getsockname()[:2]
        print(f"Serving at ws://{host}:{port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
