"""Saved moments of episodes: the environment, and the loop around it.

Axis letters: n control steps executed, t actions of a chunk, a action size.
"""

from __future__ import annotations

import dataclasses
import io
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32

from simloop.envs.env_state import EnvState, StateError
from simloop.harness.rollout.chunking import ScheduledChunk
from simloop.results.records.records import QueryRecord
from simloop.untrusted import arrays_from_npz, parse_json


@dataclass(frozen=True, eq=False)
class LoopState:
    """Everything of a running episode outside its environment, before its next query or control step."""

    executed: Float32[np.ndarray, "n a"]
    """Actions that the environment has executed, perturbed if the protocol says so."""
    reward: float = 0.0
    """Sum over the executed steps."""
    undecodable: int = 0
    """Answers so far that could not be decoded."""
    queries: tuple[QueryRecord, ...] = ()
    """Latencies of the queries so far; their number is the index of the next query."""
    chunk: ScheduledChunk = field(default_factory=ScheduledChunk)
    """The chunk being executed; at a query it is used up."""
    origins: tuple[tuple[int, int], ...] = ()
    """Chunk and age of each executed action, as in `chunking.ScheduledAction`."""
    requested: Float32[np.ndarray, "_ _"] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """Actions before the perturbation, of which the last are still to be executed if it delays them; else empty."""

    @property
    def steps(self) -> int:
        """Control steps executed."""
        return len(self.executed)

    def to_json(self) -> str:
        """Serialize as JSON; numbers keep all bits."""
        content = dataclasses.asdict(self)
        content["executed"] = self.executed.tolist()
        content["chunk"]["actions"] = self.chunk.actions.tolist()
        content["requested"] = self.requested.tolist()
        return json.dumps(content)

    @staticmethod
    def from_json(text: str) -> LoopState:
        """Read what `to_json` wrote.

        Raises:
          StateError: If the text is something else.
        """
        try:
            content: dict[str, Any] = parse_json(text, "the state of the loop")
            chunk = content.pop("chunk")
            return LoopState(
                executed=_rows(content.pop("executed")),
                queries=tuple(QueryRecord(**query) for query in content.pop("queries")),
                chunk=ScheduledChunk(_rows(chunk.pop("actions")), **chunk),
                origins=tuple((int(index), int(age)) for index, age in content.pop("origins")),
                requested=_rows(content.pop("requested", [])),
                **content,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StateError(
                f"Expected the text of LoopState.to_json; got {len(text)} characters that cannot be read "
                f"({type(error).__name__}: {error}). Save the episode again."
            ) from error


MAX_BYTES = 1 << 28
"""Most that is read of a moment, and that it may grow to when it is unpacked."""


@dataclass(frozen=True)
class EpisodeState:
    """A moment of an episode, from which `simloop.harness.rollout.loop.play` continues."""

    env: EnvState
    loop: LoopState

    def to_bytes(self) -> bytes:
        """Serialize as a NumPy archive without pickles."""
        parts = {"env": self.env.to_bytes(), "loop": self.loop.to_json().encode()}
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            allow_pickle=False,
            **{name: np.frombuffer(part, np.uint8) for name, part in parts.items()},
        )
        return buffer.getvalue()

    @staticmethod
    def from_bytes(content: bytes) -> EpisodeState:
        """Read what `to_bytes` wrote.

        Raises:
          StateError: If the bytes are damaged or something else.
        """
        try:
            arrays = arrays_from_npz(content, limit=MAX_BYTES)
            env, loop = arrays["env"].tobytes(), arrays["loop"].tobytes().decode()
        except (ValueError, KeyError) as error:
            raise StateError(
                f"Expected the bytes of EpisodeState.to_bytes; got {len(content)} bytes that cannot be read "
                f"({type(error).__name__}: {error}). Save the moment again."
            ) from error
        return EpisodeState(EnvState.from_bytes(env), LoopState.from_json(loop))


def _rows(values: list[list[float]]) -> Float32[np.ndarray, "_ _"]:
    return np.array(values, np.float32) if values else np.zeros((0, 0), np.float32)
