"""No message crashes or blocks server or client, or makes their memory grow. A campaign: SIMLOOP_MUTATIONS=1000000."""

import asyncio
import time

import numpy as np
import psutil
import pytest

from simloop.harness.remote.connection import Connection, ConnectionLost, ServerError
from simloop.harness.remote.protocols import OpenpiProtocol, Server, VlaEvalProtocol, vla_eval_message
from simloop.harness.serving.policy_service import ClientSession
from simloop.harness.serving.serve import Serving, make_ready
from simloop.harness.serving.stub_policy import Stub, StubPolicy
from simloop.harness.serving.websocket_server import Listening, WebsocketServer
from simloop.policies.interface import Query
from tests.helpers.attacks import FIRST_MUTATION, MUTATIONS
from tests.helpers.policy_servers import POINT_ROBOT
from tests.helpers.wire_fuzz import messages

IMAGE = np.zeros((4, 4, 3), np.uint8)
OBSERVATIONS = {
    "openpi": {
        "observation/image": IMAGE,
        "observation/wrist_image": IMAGE,
        "observation/state": np.zeros(4),
        "prompt": "reach",
        "simloop": {"id": 1, "key": 2},
    },
    "vla-eval": vla_eval_message(
        "observation",
        {"images": {"agentview": IMAGE, "wrist": IMAGE}, "states": np.zeros(4), "task_description": "x"},
        3,
    ),
}
ACTIONS = np.zeros((5, 4), np.float32)
ANSWERS = {
    "openpi": {
        "actions": ACTIONS,
        "server_timing": {"infer_ms": 2.0, "queue_ms": np.float32(1)},
        "simloop": {"id": 1, "undecodable": [1, 2]},
    },
    "vla-eval": vla_eval_message("action", {"actions": ACTIONS}, 1),
}
BLIND = Query("point", "move to the goal", 1, np.zeros(2, np.float32))
"""Images of a query would be resized for every message."""
KEYS = {"openpi": "binary", "vla-eval": "text"}
SLOWEST_S = 2.0
"""Longest processor time of one message; what waits for ever exceeds the time of the test."""
GROWTH_MIB = 64.0
"""Largest growth of the process over a campaign, after its first tenth."""
FEW = 100


class Bounds:
    """The longest processor time of a message, and the growth of the process."""

    def __init__(self, count: int):
        self._from, self._seen, self._before = count // 10, 0, 0.0
        self.slowest_s, self._began = 0.0, time.process_time()

    def message(self) -> None:
        now = time.process_time()
        self.slowest_s, self._began = max(self.slowest_s, now - self._began if self._seen else 0.0), now
        self._seen += 1
        if self._seen == self._from:
            self._before = self._resident_mib()

    def require(self) -> None:
        assert self.slowest_s < SLOWEST_S
        assert self._resident_mib() - self._before < GROWTH_MIB

    @staticmethod
    def _resident_mib() -> float:
        return psutil.Process().memory_info().rss / 2**20


def fuzz_server(protocol: str, count: int, first: int = 0) -> set[str]:
    """Outcomes of messages to a server."""
    ready = make_ready(StubPolicy(Stub(cameras=("base_0_rgb", "left_wrist_0_rgb"))), Serving(protocol))
    bounds = Bounds(count)

    async def answered() -> set[str]:
        server, session, outcomes = WebsocketServer(ready.service, Listening()), ClientSession(1), set()
        for message in messages(OBSERVATIONS[protocol], KEYS[protocol], count, first):
            outcome, answer = await server._answer(session, message)
            assert answer is None or len(answer) < 10_000
            outcomes.add(outcome)
            bounds.message()
        return outcomes

    try:
        outcomes = asyncio.run(answered())
    finally:
        ready.answering.close()
    bounds.require()
    return outcomes


class Socket:
    """A connection that brings one prepared frame after every request."""

    def __init__(self):
        self.frame = b""
        self.asked = False
        self.socket = self

    def send(self, message):
        self.asked = True

    def recv(self, timeout):
        if not self.asked:
            raise TimeoutError
        self.asked = False
        return self.frame

    def shutdown(self, how):
        pass

    def close(self):
        pass


def fuzz_client(protocol: str, count: int, first: int = 0) -> set[str]:
    """Outcomes of answers to a client."""
    bounds, outcomes = Bounds(count), set()
    server, asked = Server({"simloop": {"batch_size": 1}} if protocol == "openpi" else {}), BLIND
    for message in messages(ANSWERS[protocol], KEYS[protocol], count, first):
        socket = Socket()
        socket.frame = message
        speaks = (OpenpiProtocol if protocol == "openpi" else VlaEvalProtocol)(POINT_ROBOT)  # Counts from 1.
        try:
            answer = speaks.ask(Connection(socket, "fuzz"), server, asked, 5.0)
            assert answer.actions.dtype == np.float32
            assert answer.actions.ndim == 2
            outcomes.add("ok")
        except (ServerError, ConnectionLost):
            outcomes.add("refused")
        bounds.message()
    bounds.require()
    return outcomes


@pytest.mark.parametrize("protocol", ["openpi", "vla-eval"])
@pytest.mark.parametrize("fuzz", [fuzz_server, fuzz_client])
def test_strange_messages_are_answered_or_refused(fuzz, protocol):
    assert fuzz(protocol, FEW) <= {"ok", "refused"}


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("protocol", ["openpi", "vla-eval"])
@pytest.mark.parametrize("fuzz", [fuzz_server, fuzz_client])
def test_a_campaign_of_strange_messages_is_answered_or_refused(fuzz, protocol):
    assert fuzz(protocol, MUTATIONS // 4, FIRST_MUTATION) == {"ok", "refused"}
