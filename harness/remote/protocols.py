"""Protocols of policy servers as their clients speak them: what is sent first, and how a query becomes an answer."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from jaxtyping import Float32

from simloop.harness.remote.connection import Connection, Frame, ServerError
from simloop.harness.remote.robots import IMAGE_HW, ServedRobot
from simloop.harness.remote.wire import Keys, WireError, described, pack, unpack, unpack_map
from simloop.policies.interface import GuidanceMethod, Query

TRACEBACK_CHARS = 2_000
"""Characters of a server's traceback that are kept, from its end."""
OnWait = Callable[[float], None] | None


@dataclass(frozen=True)
class Answer:
    """A server's answer to one query."""

    actions: Float32[np.ndarray, "t a"]
    infer_s: float | None = None
    """Seconds that the server spent on inference; None if it does not say."""
    queue_s: float = 0.0
    """Seconds that the query waited at the server, where it says so."""
    undecodable: tuple[int, ...] | None = None
    """As `Chunk.undecodable`."""


@dataclass(frozen=True)
class Server:
    """What a server says about itself when a connection is opened."""

    metadata: Mapping[str, Any]

    @property
    def own(self) -> Mapping[str, Any]:
        """What `simloop serve` adds; empty for other servers."""
        own = self.metadata.get("simloop")
        return own if isinstance(own, Mapping) else {}

    @property
    def parallel(self) -> int:
        """Queries that the server answers at once; 1 unless it says more."""
        told = self.own.get("batch_size")
        return told if isinstance(told, int) and 1 <= told <= 256 else 1

    @property
    def guidance(self) -> tuple[GuidanceMethod, ...]:
        """Methods of guidance that it follows."""
        told = self.own.get("guidance")
        return tuple(one for one in get_args(GuidanceMethod) if isinstance(told, list) and one in told)

    @property
    def sha256(self) -> str:
        """Hash of everything that it says."""
        return hashlib.sha256(json.dumps(self.metadata, sort_keys=True, default=repr).encode()).hexdigest()


class ServerProtocol(abc.ABC):
    """The client's side of a protocol, for one robot."""

    name: str
    keys: Keys

    def __init__(self, robot: ServedRobot):
        self._robot = robot

    @abc.abstractmethod
    def greet(self, connection: Connection, timeout_s: float) -> Server:
        """Exchange what is said once on a new connection."""

    def keeps_state(self, server: Server) -> bool:
        """Whether the server's answers may depend on earlier queries of the connection."""
        return False

    @abc.abstractmethod
    def begin(self, connection: Connection, server: Server, query: Query, timeout_s: float) -> None:
        """Say that a query is the first of an episode, where the protocol has a message for it."""

    @abc.abstractmethod
    def ask(
        self, connection: Connection, server: Server, query: Query, timeout_s: float, on_wait: OnWait = None
    ) -> Answer:
        """Send a query and return its answer.

        Raises:
          ConnectionLost: If the query may be sent again on another connection.
          ServerError: If the server reports an error, or answers with something else than its protocol says.
        """


class OpenpiProtocol(ServerProtocol):
    """The protocol of openpi's policy server, with RoboArena's requests where a server announces them."""

    name = "openpi"
    keys = "binary"

    def __init__(self, robot: ServedRobot):
        super().__init__(robot)
        self._ids = itertools.count(1)

    def greet(self, connection: Connection, timeout_s: float) -> Server:
        """Read the metadata, which the server sends first."""
        return Server(_map_of(connection.receive(timeout_s), "metadata"))

    def keeps_state(self, server: Server) -> bool:
        """RoboArena's servers may ask for a session id, to keep a history."""
        return bool(server.metadata.get("needs_session_id"))

    def begin(self, connection: Connection, server: Server, query: Query, timeout_s: float) -> None:
        """Send RoboArena's reset; openpi has none."""
        if _is_roboarena(server):
            reset = {"endpoint": "reset", "session_id": query.episode}
            _error_of(
                connection.exchange(pack(reset), timeout_s, may_repeat=True), allowed="reset successful"
            )

    def ask(
        self, connection: Connection, server: Server, query: Query, timeout_s: float, on_wait: OnWait = None
    ) -> Answer:
        """Send an observation."""
        number = next(self._ids)
        request = pack(self._request(server, query, number))
        # A session cannot move to another connection, which would tell a repeated answer from an equal one.
        may_repeat = self.keeps_state(server)
        frame = connection.exchange(request, timeout_s, on_wait, may_repeat=may_repeat)
        found = _decoded(frame, unpack)
        if isinstance(found, np.ndarray) and _is_roboarena(server):
            found = {"actions": found}
        if not isinstance(found, dict) or "actions" not in found:
            raise ServerError(
                f"The policy server answered with {_shown(found)}; wanted a map with 'actions' of shape [t, a]."
            )
        own = found.get("simloop")
        own = own if isinstance(own, dict) else {}
        if server.own and not is_plain(own.get("id"), number):
            connection.abort()
            raise ServerError(
                f"The policy server answered request {own.get('id')!r:.200}; wanted the answer to {number}."
            )
        timing = found.get("server_timing")
        timing = timing if isinstance(timing, dict) else {}
        undecodable = own.get("undecodable")
        return Answer(
            require_chunk(found["actions"]),
            seconds(timing.get("infer_ms")),
            seconds(timing.get("queue_ms")) or 0.0,
            _tokens(undecodable),
        )

    def _request(self, server: Server, query: Query, number: int) -> dict[str, Any]:
        image_hw: tuple[int, int] | None = IMAGE_HW
        if _is_roboarena(server):
            told = server.metadata["image_resolution"]
            image_hw = tuple(told) if told else None
        request = self._robot.observation(query, image_hw)
        if _is_roboarena(server):
            request = {_roboarena_key(key): value for key, value in request.items()} | {"endpoint": "infer"}
            if self.keeps_state(server):
                request["session_id"] = query.episode
        if server.own:
            request["simloop"] = {"id": number, "key": query.key}
            if query.guidance is not None:
                request["simloop"]["guidance"] = dataclasses.asdict(query.guidance)
        return request


class VlaEvalProtocol(ServerProtocol):
    """The protocol of vla-evaluation-harness's model servers."""

    name = "vla-eval"
    keys = "text"

    def __init__(self, robot: ServedRobot):
        super().__init__(robot)
        self._numbers = itertools.count(1)

    def greet(self, connection: Connection, timeout_s: float) -> Server:
        """Send hello and read the server's."""
        return Server(self._exchange(connection, "hello", HELLO, timeout_s, wanted="hello"))

    def keeps_state(self, server: Server) -> bool:
        """Servers keep the rest of a chunk for each connection."""
        return True

    def begin(self, connection: Connection, server: Server, query: Query, timeout_s: float) -> None:
        """Announce the episode, which is not answered."""
        task = {"name": query.task, "task_description": query.instruction}
        connection.send(
            pack(vla_eval_message("episode_start", {"task": task}, next(self._numbers)), self.keys)
        )

    def ask(
        self, connection: Connection, server: Server, query: Query, timeout_s: float, on_wait: OnWait = None
    ) -> Answer:
        """Send an observation; the answer is one action, or a chunk if the server keeps none."""
        observation = self._robot.vla_eval_observation(query)
        payload = self._exchange(connection, "observation", observation, timeout_s, on_wait, wanted="action")
        if "actions" not in payload:
            raise ServerError(
                f"The model server answered with {_shown(payload)}; wanted a map with 'actions'."
            )
        actions = payload["actions"]
        if not isinstance(actions, np.ndarray):
            actions = _numbers(actions)
        return Answer(require_chunk(actions[None] if actions.ndim == 1 else actions))

    def _exchange(
        self,
        connection: Connection,
        kind: str,
        payload: dict[str, Any],
        timeout_s: float,
        on_wait: OnWait = None,
        *,
        wanted: str,
    ) -> dict[str, Any]:
        number = next(self._numbers)
        request = pack(vla_eval_message(kind, payload, number), self.keys)
        message = _map_of(connection.exchange(request, timeout_s, on_wait), "message")
        if not is_plain(message.get("seq"), number):
            connection.abort()
            raise ServerError(
                f"The model server answered message {message.get('seq')!r:.200}; wanted that to {number}."
            )
        content = message.get("payload")
        kind_of_answer = message.get("type")
        if is_plain(kind_of_answer, "error"):
            text = content.get("error") if isinstance(content, dict) else content
            raise ServerError(f"The model server reports: {_end_of(str(text))}")
        if not is_plain(kind_of_answer, wanted) or not isinstance(content, dict):
            raise ServerError(f"The model server answered with a {kind_of_answer!r:.200}; wanted {wanted!r}.")
        return content


HELLO = {"harness_version": "0.8.0", "protocol_version": 1}
PROTOCOLS: Mapping[str, type[ServerProtocol]] = {
    protocol.name: protocol for protocol in (OpenpiProtocol, VlaEvalProtocol)
}


def vla_eval_message(kind: str, payload: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return a message of vla-evaluation-harness, all of whose fields are required."""
    return {"type": kind, "payload": dict(payload), "seq": number, "timestamp": time.time()}


def _tokens(told: object) -> tuple[int, ...] | None:
    """Tokens that decode to no actions; None if the answer has none."""
    return tuple(told) if isinstance(told, list) and all(type(token) is int for token in told) else None


def is_plain(value: object, wanted: int | str) -> bool:
    """Whether a decoded value is this number or text; a comparison with an array would be one of its entries."""
    return type(value) is type(wanted) and value == wanted


def require_chunk(actions: object) -> Float32[np.ndarray, "t a"]:
    """Return actions as float32 [t, a].

    Raises:
      ServerError: If they are anything else than one or more rows of numbers.
    """
    if (
        not isinstance(actions, np.ndarray)
        or actions.ndim != 2
        or 0 in actions.shape
        or actions.dtype.kind not in "fiu"
    ):
        raise ServerError(
            f"The policy server answered with actions that are {_shown(actions)}; wanted numbers of shape [t, a], the "
            "first action first."
        )
    return actions.astype(np.float32)


def seconds(milliseconds: object) -> float | None:
    """Convert a duration that a server reports; None if it is no such number."""
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float | np.number):
        return None
    value = float(milliseconds) / 1e3
    return value if 0 <= value < float("inf") else None


def _is_roboarena(server: Server) -> bool:
    return {"image_resolution", "n_external_cameras", "action_space"} <= server.metadata.keys()


def _roboarena_key(key: str) -> str:
    """RoboArena counts exterior cameras from 0, openpi's clients for DROID from 1."""
    return key.replace("exterior_image_1_", "exterior_image_0_")


def _decoded(frame: Frame, decode: Callable[[bytes], Any]) -> Any:
    _error_of(frame)
    assert isinstance(frame, bytes)
    try:
        return decode(frame)
    except WireError as error:
        raise ServerError(f"The policy server sent a message that cannot be read: {error}") from error


def _map_of(frame: Frame, what: str) -> dict[str, Any]:
    try:
        return dict(_decoded(frame, unpack_map))
    except ServerError as error:
        raise ServerError(f"{error} Wanted its {what}; is it a server of this protocol?") from error


def _error_of(frame: Frame, allowed: str | None = None) -> None:
    """Raise `ServerError` for a text frame, with which servers report errors."""
    if isinstance(frame, str) and frame != allowed:
        raise ServerError(f"The policy server reports an error:\n{_end_of(frame)}")


def _end_of(text: str) -> str:
    return text.strip() if len(text) <= TRACEBACK_CHARS else f"... {text.strip()[-TRACEBACK_CHARS:]}"


def _numbers(values: object) -> np.ndarray:
    try:
        return np.array(values, np.float32)
    except (TypeError, ValueError) as error:
        raise ServerError(
            f"The model server answered with actions that are {_shown(values)}; wanted numbers."
        ) from error


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return f"a map of {', '.join(map(repr, list(value)[:12])) or 'nothing'}"
    return described(value)
