"""What every policy looks like from outside: queries in, chunks of actions out.

Neither JAX nor a simulator is needed to import this file.

Axis letters: h image height, w image width, s state size, t actions per chunk, a action size.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from simloop.policies.models.kernels import KernelChoice, Kernels

Weights = Literal["scripted", "untrained", "trained"]


@dataclass(frozen=True)
class PolicySpec:
    """What a policy needs to be asked and what it answers; known before any weight is loaded."""

    name: str
    robot: str
    """The convention of cameras, state and actions that the policy was made for, e.g. `metaworld`.
    The harness looks up the adapter for (suite, robot). `any` for scripted policies."""
    weights: Weights
    cameras: tuple[str, ...]
    """Model camera names, in the model's order. A query must hold each of them."""
    image_hw: tuple[int, int] | None
    """Size the policy resizes images to; rendering larger is wasted. None where it takes no images."""
    state_size: int | None
    """Length of the robot state, unpadded. None where the state is not used."""
    action_size: int | None
    """Length of an action, unpadded. None where the policy follows the task."""
    chunk_steps: int
    """Actions per chunk."""
    runs_in: Literal["worker", "actor"] = "worker"
    """Whether queries travel to a policy worker or are answered where the simulator runs."""
    uses_privileged: bool = False
    """Whether the policy looks at the simulator's own state, as a scripted expert does."""


@dataclass(frozen=True)
class Query:
    """One question of one episode, in robot units."""

    task: str
    """Name of the task. Learned policies ignore it and read the instruction."""
    instruction: str
    key: int
    """64-bit key of this query's randomness, derived from the episode: the answer depends on
    nothing else that is random."""
    state: Float32[np.ndarray, "s"]
    """Proprioceptive state, neither normalised nor padded."""
    images: Mapping[str, UInt8[np.ndarray, "h w 3"]] = field(default_factory=dict)
    """By model camera name. A camera that the robot does not have is absent here and masked."""
    privileged: Float64[np.ndarray, "_"] | None = None
    action_low: Float64[np.ndarray, "a"] | None = None
    """Bounds of the task's actions, for policies that follow the task (`random`, `hold`)."""
    action_high: Float64[np.ndarray, "a"] | None = None


@dataclass(frozen=True)
class Chunk:
    """The answer to one query: actions in robot units, the first to be executed first."""

    actions: Float32[np.ndarray, "t a"]
    undecodable: tuple[int, ...] | None = None
    """The generated tokens, where they do not spell a valid action chunk. `actions` is then empty
    (t = 0): what happens next is the protocol's decision, not the policy's."""


@dataclass(frozen=True)
class InferenceResult:
    """What one batched call returned, with the time it took by stage.

    The stages are measured on the host clock; `device_s` ends after the results have arrived, not
    after dispatch.
    """

    chunks: Sequence[Chunk]
    host_s: float = 0.0
    """Resizing, normalising, tokenising and padding on the host."""
    device_s: float = 0.0
    """Copy to the device, the model, and the copy back."""
    post_s: float = 0.0
    """Unnormalising and decoding of actions."""


@dataclass(frozen=True)
class CompilationProgress:
    """How far a policy is with compiling."""

    done: int
    """Programs that are compiled."""
    programs: int
    """All that are to be compiled now."""
    under_way: tuple[str, ...]
    """What the others answer, in words."""
    seconds: float
    """Since the first was begun."""

    def __str__(self) -> str:
        """As in a line that goes on with the time."""
        return f"compiling, {self.done} of {self.programs} programs done"


@dataclass(frozen=True)
class LoadOptions:
    """How a policy is to answer where it is loaded. Changes answers by rounding at most."""

    devices: int = 1
    """How many it is spread over."""
    rows: int = 1
    """Rows of its batches, of the largest where they differ."""
    kernels: Kernels | None = None
    """What computes what libraries have kernels for; what is found to be fastest if it is not said."""


class Policy(abc.ABC):
    """Answers batches of queries. Stateless between calls: equal queries get equal answers."""

    spec: PolicySpec

    @abc.abstractmethod
    def prepare(
        self, batch_size: int, on_progress: Callable[[CompilationProgress], None] | None = None
    ) -> float:
        """Compile and warm up for batches of `batch_size` rows; returns the seconds it took.

        Args:
          told: Told how far it is, before the first program and after each; never where nothing is compiled.
        """

    @abc.abstractmethod
    def infer(self, queries: Sequence[Query], batch_size: int) -> InferenceResult:
        """Answer 1 to `batch_size` queries in one call, padded to exactly `batch_size` rows.

        A row's answer depends neither on its place in the batch nor on its neighbours.

        Raises:
          QueryError: If a query lacks a camera or its state has another size than the spec says.
        """

    def encode(self, query: Query) -> Any:
        """What the host can do for one query before its neighbours are known: its row of a batch.

        `encode`, `assemble` and `run` are `infer` in three parts, of which the first two may be called while
        another thread runs an earlier batch. Policies that gain nothing by that leave them as they are.
        """
        return query

    def assemble(self, rows: Sequence[Any], batch_size: int) -> Any:
        """Rows as one batch, padded to `batch_size`, on its way to the device."""
        return list(rows), batch_size

    def run(self, batch: Any) -> InferenceResult:
        """Answer an assembled batch. `host_s` is what was spent in here alone."""
        return self.infer(*batch)

    def device(self) -> str:
        """What the policy computes on, for the provenance."""
        return "cpu"

    def kernels(self) -> KernelChoice | None:
        """What computes the operations that libraries have kernels for; None where nothing of it is used."""
        return None

    def fingerprint(self) -> dict[str, str]:
        """Hashes of everything that decides the answers (weights, statistics, tokenizers)."""
        return {}


class QueryError(ValueError):
    """A query that the policy cannot answer."""
