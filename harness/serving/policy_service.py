"""Observations of clients become queries, and chunks become messages: the protocols that `simloop serve` speaks."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32

from simloop.harness.adapters import aloha
from simloop.harness.adapters.droid import DROID, DROID_FAST
from simloop.harness.adapters.libero import PANDA
from simloop.harness.adapters.metaworld import SAWYER
from simloop.harness.adapters.openpi_observation import ModelView, ObservationError, RobotConvention
from simloop.harness.adapters.served import MANISKILL_PANDA
from simloop.harness.errors import SimloopError
from simloop.harness.planning.seeding import derive
from simloop.harness.remote.protocols import is_plain, vla_eval_message
from simloop.harness.remote.robots import VLA_EVAL_CAMERAS
from simloop.harness.remote.wire import WireError, pack, unpack_map
from simloop.harness.rollout.latency import Reply
from simloop.policies.interface import Guidance, PolicySpec, Query

MAX_PROMPT = 4_096
"""Characters of an instruction."""
MAX_SIDE = 4_096
"""Pixels of a side of an image."""
MAX_LEFT = 1_000
"""Actions that are left of a client's chunk."""
Ask = Callable[[Query], "Any"]
"""Awaits the reply to a query."""


class ServiceError(SimloopError):
    """A policy that cannot be served."""


class RequestError(ValueError):
    """A message of a client that cannot be answered: what was wanted, what came, and what to do."""


@dataclass
class ClientSession:
    """What is kept for a connected client."""

    number: int
    queries: int = 0
    pending: list[np.ndarray] = field(default_factory=list)
    """Actions of the last chunk that the client has not received yet."""
    episode: int = 0
    previous_s: float | None = None
    """Seconds that the previous request took."""


@dataclass(frozen=True)
class ServedChunk:
    """A reply in the convention of the robot."""

    actions: Float32[np.ndarray, "t a"]
    reply: Reply


class PolicyService(abc.ABC):
    """One protocol in front of a policy. Its methods run in the event loop of the server."""

    def __init__(self, spec: PolicySpec, ask: Ask, *, seed: int = 0):
        """Serve a policy that is loaded; `spec` states the guidance that it is served with.

        Args:
          ask: Answers a query, with others in a batch.
          seed: Root of the noise of clients that send no keys.

        Raises:
          ServiceError: If no client speaks the robot convention of the policy.
        """
        self.spec = spec
        self.convention = convention_of(spec)
        self._ask = ask
        self._seed = seed

    def greeting(self) -> bytes | None:
        """Return the message that a new client gets unasked, if any."""
        return None

    @abc.abstractmethod
    async def answer(self, session: ClientSession, frame: bytes) -> bytes | None:
        """Return the answer to a message; None if it has none.

        Raises:
          WireError, RequestError, ObservationError, QueryError: If the message cannot be answered.
        """

    @abc.abstractmethod
    def error(self, frame: bytes | str, text: str) -> bytes | str:
        """Return the frame that reports an error to the client whose message caused it."""

    async def chunk(
        self,
        view: ModelView,
        session: ClientSession,
        key: int | None = None,
        guidance: Guidance | None = None,
    ) -> ServedChunk:
        """Ask the policy about an observation."""
        instruction = view.instruction
        if not instruction or len(instruction) > MAX_PROMPT:
            raise RequestError(
                f"The observation needs an instruction of 1 to {MAX_PROMPT} characters ('prompt'); got "
                f"{'none' if not instruction else len(instruction)}."
            )
        for camera, image in view.images.items():
            if not all(1 <= side <= MAX_SIDE for side in image.shape[:2]):
                raise RequestError(
                    f"Images have 1 to {MAX_SIDE} pixels a side; got {image.shape} for {camera!r}."
                )
        if key is None:
            key = derive("client", self._seed, session.number, session.queries, bits=64)
        session.queries += 1
        query = Query(
            task="",
            instruction=instruction,
            key=key,
            state=view.state.astype(np.float32),
            images=view.images,
            episode=f"client-{session.number}-{session.episode}",
            guidance=guidance,
        )
        reply: Reply = await self._ask(query)
        actions = reply.chunk.actions
        if reply.chunk.undecodable is not None:  # As openpi answers when tokens decode to no actions.
            actions = np.zeros((self.spec.chunk_steps or 1, self.spec.action_size or 1), np.float32)
        return ServedChunk(
            self.convention.robot_actions(actions.astype(np.float64)).astype(np.float32), reply
        )


class OpenpiService(PolicyService):
    """The protocol of openpi's policy server."""

    def __init__(self, spec: PolicySpec, ask: Ask, *, seed: int = 0, about: Mapping[str, Any] | None = None):
        """`about` is told to simloop's own client: weights, batch size and hashes."""
        super().__init__(spec, ask, seed=seed)
        self._about = dict(about or {})

    def greeting(self) -> bytes | None:
        """Return the metadata."""
        return pack({"simloop": self._about})

    async def answer(self, session: ClientSession, frame: bytes) -> bytes | None:
        """Answer an observation with a chunk and its timing."""
        began = time.perf_counter()
        observation = unpack_map(frame)
        own = observation.pop("simloop", None)
        number, key = _own_fields(own)
        guidance = self._guidance(own["guidance"]) if own is not None and "guidance" in own else None
        served = await self.chunk(self._view(observation), session, key, guidance)
        reply = served.reply
        timing = {
            "infer_ms": 1e3 * (reply.host_s + reply.device_s + reply.post_s),
            "queue_ms": 1e3 * reply.queue_s,
        }
        if session.previous_s is not None:
            timing["prev_total_ms"] = 1e3 * session.previous_s
        answer: dict[str, Any] = {
            "actions": served.actions,
            "server_timing": timing,
            "policy_timing": {"infer_ms": timing["infer_ms"]},
        }
        if own is not None:
            answer["simloop"] = {"id": number}
            if reply.chunk.undecodable is not None:
                answer["simloop"]["undecodable"] = list(reply.chunk.undecodable)
        packed = pack(answer)
        session.previous_s = time.perf_counter() - began
        return packed

    def error(self, frame: bytes | str, text: str) -> bytes | str:
        """Errors are text frames."""
        return text

    def _guidance(self, sent: object) -> Guidance:
        """Read the actions that are left of a client's chunk."""
        fields: Mapping[str, Any] = sent if isinstance(sent, dict) else {}
        actions, delay, method = fields.get("actions"), fields.get("delay"), fields.get("method")
        size = self.spec.action_size or 0
        if not (
            isinstance(actions, np.ndarray)
            and actions.dtype.kind == "f"
            and actions.ndim == 2
            and actions.shape[1] == size
            and len(actions) <= MAX_LEFT
            and np.isfinite(actions).all()
            and type(delay) is int
            and 0 <= delay <= MAX_LEFT
        ):
            raise RequestError(
                f"Guidance has finite 'actions' [t, {size}] that are left of the previous chunk, t at most {MAX_LEFT}, "
                f"and a 'delay' of 0 to {MAX_LEFT} control steps."
            )
        known = next((one for one in self.spec.guidance if is_plain(method, one)), None)
        if known is None:
            raise RequestError(
                f"The server follows guidance by {', '.join(self.spec.guidance) or 'no method'}; got {method!r:.40}. "
                "simloop serve --guidance chooses the methods."
            )
        left = self.convention.to_model_actions(actions.astype(np.float64)).astype(np.float32)
        return Guidance(left, delay, known)

    def _view(self, observation: Mapping[str, Any]) -> ModelView:
        if self.convention in (aloha.ALOHA, aloha.RAW_ALOHA):
            return aloha.model_view(observation, self.convention)
        return self.convention.model_view(observation)


class VlaEvalService(PolicyService):
    """The protocol of vla-evaluation-harness's model servers: one action for every observation.

    Args:
      replan_steps: Actions of a chunk that a client gets before the policy is asked again.
    """

    def __init__(self, spec: PolicySpec, ask: Ask, *, seed: int = 0, replan_steps: int | None = None):
        super().__init__(spec, ask, seed=seed)
        self._replan_steps = replan_steps
        self._cameras = VLA_EVAL_CAMERAS.get(spec.robot, {})

    async def answer(self, session: ClientSession, frame: bytes) -> bytes | None:
        """Answer hello and observations; note the beginning of an episode."""
        message = unpack_map(frame)
        kind, payload, number = message.get("type"), message.get("payload"), message.get("seq")
        if type(kind) is not str or not isinstance(payload, dict) or type(number) is not int:
            raise RequestError(
                "A message has the fields type (text), payload (a map), seq (a whole number) and timestamp; got "
                f"{', '.join(map(repr, message)) or 'none'}."
            )
        if kind == "hello":
            return self._message("hello", self._hello(), number)
        if kind in ("episode_start", "episode_end"):
            session.pending.clear()
            session.episode += kind == "episode_start"
            return None
        if kind != "observation":
            raise RequestError(
                f"Messages are hello, episode_start, observation or episode_end; got {kind!r:.40}."
            )
        if not session.pending:
            served = await self.chunk(self._view(payload), session)
            session.pending = list(served.actions[: self._replan_steps])
        return self._message("action", {"actions": session.pending.pop(0)}, number)

    def error(self, frame: bytes | str, text: str) -> bytes | str:
        """Errors are messages with the number of what caused them."""
        number = 0
        if isinstance(frame, bytes):
            try:
                found = unpack_map(frame).get("seq")
                number = found if type(found) is int else 0
            except WireError:
                pass
        return self._message("error", {"error": text}, number)

    def _hello(self) -> dict[str, Any]:
        return {
            "harness_version": "0.8.0",
            "protocol_version": 1,
            "model_server": f"simloop {self.spec.name}",
            "capabilities": {},
            "observation_params": {"send_wrist_image": len(self.spec.cameras) > 1, "send_state": True},
        }

    def _message(self, kind: str, payload: Mapping[str, Any], number: int) -> bytes:
        return pack(vla_eval_message(kind, payload, number), "text")

    def _view(self, payload: Mapping[str, Any]) -> ModelView:
        """Rename an observation to that of openpi's client."""
        images = payload.get("images")
        state = payload.get("states", payload.get("state"))
        if not isinstance(images, dict):
            raise RequestError("An observation has 'images', a map of pictures by camera; got none.")
        keys = self.convention.cameras
        found: dict[str, Any] = {
            keys[camera]: images[name]
            for camera, name in self._cameras.items()
            if camera in keys and name in images
        }
        wanted = [self._cameras.get(camera, camera) for camera in self.spec.cameras]
        if missing := [name for name in wanted if name not in images]:
            raise RequestError(
                f"The policy needs the images {', '.join(wanted)}; the observation lacks {', '.join(missing)}. "
                f"It has {', '.join(map(str, images)) or 'none'}; see observation_params in the server's hello."
            )
        sizes, flat = self.convention.state, _vector(state)
        if flat is None or flat.dtype.kind not in "fiu" or flat.size != sum(sizes.values()):
            raise RequestError(
                f"The policy needs 'states' of {sum(sizes.values())} numbers; got "
                f"{'none' if flat is None else f'{flat.dtype} of size {flat.size}'}."
            )
        first = 0
        for key, size in sizes.items():
            found[key] = flat[first : first + size].astype(np.float64)
            first += size
        return self.convention.model_view({**found, "prompt": payload.get("task_description")})


def _vector(state: object) -> np.ndarray | None:
    """The numbers of an array or a list; None if it is neither."""
    try:
        return None if state is None else np.ravel(np.asarray(state))
    except ValueError:  # Lists of unequal lengths.
        return None


def convention_of(spec: PolicySpec) -> RobotConvention:
    """Return the names of a policy's inputs in observations of clients.

    Raises:
      ServiceError: If its robot has none.
    """
    conventions: dict[str, RobotConvention] = {
        "libero": PANDA,
        "droid": DROID_FAST if "wrist_0_rgb" in spec.cameras else DROID,
        "aloha": aloha.ALOHA,
        "aloha_raw": aloha.RAW_ALOHA,
        "metaworld": SAWYER,
        "metaworld_hand": SAWYER,
        "maniskill_panda": MANISKILL_PANDA,
    }
    if spec.robot not in conventions:
        raise ServiceError(
            f"Policy {spec.name!r} is for the robot {spec.robot!r}, for which clients have no observations; served are "
            f"policies for {', '.join(conventions)}."
        )
    return conventions[spec.robot]


def _own_fields(own: object) -> tuple[int, int | None]:
    """Number and key of a request of simloop's own client."""
    if own is None:
        return 0, None
    number, key = (own.get("id"), own.get("key")) if isinstance(own, dict) else (None, None)
    if type(number) is not int or type(key) is not int or not 0 <= key < 2**64:
        raise RequestError("The entry 'simloop' of a request has a whole number 'id' and a 64-bit 'key'.")
    return number, key


CLIENT_ERRORS = (WireError, RequestError, ObservationError)
"""What is wrong with a message rather than with the policy, beside `QueryError`."""
