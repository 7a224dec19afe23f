"""Interfaces of policies: queries in, chunks of actions out.

Importing this module needs neither JAX nor a simulator.

Axis letters: h image height, w image width, s state size, t actions per chunk, a action size.
"""

from __future__ import annotations

import abc
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from simloop.policies.kernels import Kernels

Weights = Literal["scripted", "untrained", "trained", "unknown"]
"""`unknown` for policies that another program serves."""

GuidanceMethod = Literal["full", "identity", "trained"]
"""How a chunk is made to agree with actions: guided by the full vector-Jacobian product, or without the Jacobian of the
velocity; or by a model that was trained to continue them. See `simloop.policies.models.guidance`."""


@dataclass(frozen=True)
class PolicySpec:
    """Inputs and outputs of a policy, known before its weights are loaded."""

    name: str
    robot: str = "any"
    """Convention of cameras, state and actions that the policy was trained for, e.g. `metaworld`.
    The harness looks up the adapter for (suite, robot). `any` for cameras, state and actions of the suite itself."""
    weights: Weights = "trained"
    cameras: tuple[str, ...] = ()
    """Model camera names, in the model's order. A query must hold an image of each."""
    image_hw: tuple[int, int] | None = None
    """Height and width that the policy resizes images to; None if it takes no images."""
    state_size: int | None = None
    """Length of the robot state, unpadded; None if the state is not used."""
    action_size: int | None = None
    """Length of an action, unpadded; None if it is that of the task."""
    chunk_steps: int | None = 1
    """Actions per chunk; None if they are known from its answers only."""
    runs_in: Literal["worker", "actor"] = "worker"
    """Whether a policy worker answers the queries, or the env actor itself."""
    uses_privileged: bool = False
    """Whether the policy reads the state of the simulator, as a scripted expert does."""
    guidance: tuple[GuidanceMethod, ...] = ()
    """Methods by which the policy follows the guidance of queries."""
    max_delay: int = 0
    """Longest delay in control steps that the policy was trained for (method `trained`); 0 if it is not known."""
    control_hz: float | None = None
    """Control steps per second that the policy was trained for; None if it is not known."""


@dataclass(frozen=True)
class Guidance:
    """Actions that are executed while the policy computes, with which its chunk is to agree (real-time chunking)."""

    actions: Float32[np.ndarray, "t a"]
    """What is left of the previous chunk, in robot units, from the control step of the query on; may be empty."""
    delay: int
    """Control steps that are expected to pass until the chunk takes effect."""
    method: GuidanceMethod


@dataclass(frozen=True)
class Query:
    """Request for one chunk of actions, in robot units."""

    task: str
    """Name of the task. Learned policies ignore it and read the instruction."""
    instruction: str
    key: int
    """64-bit key of the randomness in the answer, derived from the episode. Nothing else is random."""
    state: Float32[np.ndarray, "s"]
    """Proprioceptive state, neither normalized nor padded."""
    images: Mapping[str, UInt8[np.ndarray, "h w 3"]] = field(default_factory=dict)
    """Images by model camera name. A camera that the robot lacks is absent here and masked in the model."""
    privileged: Float64[np.ndarray, "_"] | None = None
    """State of the simulator, for policies with `uses_privileged`."""
    action_low: Float64[np.ndarray, "a"] | None = None
    """Lower bounds of the task's actions, for policies that adapt to the task (`random`, `hold`)."""
    action_high: Float64[np.ndarray, "a"] | None = None
    """Upper bounds of the task's actions."""
    episode: str = ""
    """Stable id of the episode, equal for all its queries and attempts."""
    step: int = 0
    """Control steps that the episode has executed so far."""
    guidance: Guidance | None = None
    """For policies that follow its method."""


@dataclass(frozen=True)
class Chunk:
    """Answer to one query: actions in robot units, in the order of execution."""

    actions: Float32[np.ndarray, "t a"]
    undecodable: tuple[int, ...] | None = None
    """Generated tokens that do not decode to a valid chunk. `actions` is then empty (t = 0), and the
    protocol decides how the episode continues."""


@dataclass(frozen=True)
class InferenceResult:
    """Chunks of one batched call, with the time of each stage.

    Stages are measured on the host clock; `device_s` ends when the results are on the host.
    """

    chunks: Sequence[Chunk]
    host_s: float = 0.0
    """Seconds spent on resizing, normalizing, tokenizing and padding."""
    device_s: float = 0.0
    """Seconds from the copy to the device to the copy back."""
    post_s: float = 0.0
    """Seconds spent on unnormalizing and decoding actions."""
    queue_s: float = 0.0
    """Seconds of waiting at a server that computed the answer, where it reports them."""
    transport_s: float = 0.0
    """Seconds on the way to that server and back."""
    retry_s: float = 0.0
    """Seconds before the query was sent to that server for the last time: connecting, and lost tries."""


@dataclass(frozen=True)
class CompilationProgress:
    """Progress of compiling a policy."""

    done: int
    """Programs that are compiled."""
    programs: int
    """Programs to compile."""
    under_way: tuple[str, ...]
    """Descriptions of the remaining programs."""
    seconds: float
    """Time since compilation started."""

    def __str__(self) -> str:
        """Progress without the time, which callers append."""
        return f"compiling, {self.done} of {self.programs} programs done"


@runtime_checkable
class Policy(Protocol):
    """Minimal policy: a spec and a function from queries to chunks.

    Equal queries must get equal chunks, whatever was asked before. The methods `fingerprint` and `device` of
    `BatchedPolicy` may be there as well.
    """

    spec: PolicySpec

    def infer(self, queries: Sequence[Query]) -> Sequence[Chunk]:
        """Return one chunk per query, in their order.

        Raises:
          QueryError: If a query lacks an input that the policy needs.
        """


class BatchedPolicy(abc.ABC):
    """Policy as the engine drives it: in batches of fixed sizes, with stages that may overlap.

    Stateless between calls: equal queries get equal chunks.
    """

    spec: PolicySpec
    source_hashes: Mapping[str, str] = {}
    """Hashes of the source files that define the policy, where simloop read them; part of its identity."""
    concurrent_calls: int = 0
    """Calls of `infer` with one query each that may run at once, in threads; 0 for a policy that answers in batches."""

    def prepare(
        self, batch_size: int, on_progress: Callable[[CompilationProgress], None] | None = None
    ) -> float:
        """Compile and warm up for batches of `batch_size` rows; return the seconds this took.

        Args:
          batch_size: Rows of a batch.
          on_progress: Called before the first program and after each. Never called if nothing is compiled.
        """
        return 0.0

    @abc.abstractmethod
    def infer(self, queries: Sequence[Query], batch_size: int) -> InferenceResult:
        """Answer 1 to `batch_size` queries in one call, padded to exactly `batch_size` rows.

        The chunk of a row depends neither on its index in the batch nor on the other rows.

        Raises:
          QueryError: If a query lacks a camera or its state differs in size from the spec.
          ValueError: If there are no queries, or more than `batch_size`.
        """

    def encode(self, query: Query) -> Any:
        """Preprocess one query into a row of a batch, on the host.

        `encode`, `assemble` and `run` together are `infer`. The first two may be called while another thread
        runs an earlier batch. Policies that gain nothing by that keep these defaults.
        """
        return query

    def assemble(self, rows: Sequence[Any], batch_size: int) -> Any:
        """Stack rows to a batch, padded to `batch_size` rows, and start copying it to the device."""
        return list(rows), batch_size

    def run(self, batch: Any) -> InferenceResult:
        """Answer an assembled batch. `host_s` covers this call alone."""
        return self.infer(*batch)

    def device(self) -> str:
        """Device that computes the answers, for the provenance."""
        return "cpu"

    def kernels(self) -> Kernels | None:
        """Implementations of attention and gated products; None if the policy has no such operations."""
        return None

    def settings(self) -> dict[str, str]:
        """Settings of libraries in this process that change the answers by rounding, by name."""
        return {}

    def fingerprint(self) -> dict[str, str]:
        """Hashes of everything that determines the answers: weights, statistics, tokenizers."""
        return {}

    def identity(self) -> dict[str, str]:
        """The fingerprint and the hashes of the source, by which two runs are checked for equal policies."""
        return {**self.fingerprint(), **self.source_hashes}


class _Batched(BatchedPolicy):
    """Adapter from `Policy` to `BatchedPolicy`; nothing is padded or compiled."""

    def __init__(self, policy: Policy) -> None:
        self.spec = policy.spec
        self._policy = policy

    def fingerprint(self) -> dict[str, str]:
        own = getattr(self._policy, "fingerprint", None)
        return {} if own is None else dict(own())

    def device(self) -> str:
        own = getattr(self._policy, "device", "cpu")
        return str(own() if callable(own) else own)

    def infer(self, queries: Sequence[Query], batch_size: int) -> InferenceResult:
        require_fitting(queries, batch_size)
        start = time.perf_counter()
        chunks = self._policy.infer(queries)
        require_answers(self.spec, chunks, len(queries))
        return InferenceResult(chunks, host_s=time.perf_counter() - start)


def batched(policy: Policy | BatchedPolicy) -> BatchedPolicy:
    """Return a policy in the interface of the engine; a `BatchedPolicy` is returned unchanged."""
    return policy if isinstance(policy, BatchedPolicy) else _Batched(policy)


def require_fitting(queries: Sequence[Query], batch_size: int) -> None:
    """Raise `ValueError` unless there are 1 to `batch_size` queries."""
    if not 1 <= len(queries) <= batch_size:
        raise ValueError(f"A batch of {batch_size} rows holds 1 to {batch_size} queries; got {len(queries)}.")


class QueryError(ValueError):
    """A query that the policy cannot answer."""


class PolicyError(Exception):
    """An answer that breaks the contract of policies: the error of a policy, not of its queries."""


@contextlib.contextmanager
def ending_nothing(policy: str) -> Iterator[None]:
    """Raise `PolicyError` instead of the exceptions of a policy that would end a thread or an event loop.

    Among them is `SystemExit`, which libraries raise by `sys.exit`.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            raise
        text = f": {error}" if str(error) else ""
        raise PolicyError(f"Policy {policy!r} raised {type(error).__name__}{text}.") from error


def require_answers(policy: PolicySpec, chunks: object, queries: int) -> None:
    """Raise `PolicyError` unless a policy answered with a sequence of as many chunks as there were queries."""
    if not isinstance(chunks, Sequence):
        raise PolicyError(
            f"Policy {policy.name!r} answered with {_described(chunks)}; wanted a sequence of {queries} chunks."
        )
    if len(chunks) != queries:
        raise PolicyError(
            f"Policy {policy.name!r} answered with {len(chunks)} chunks; wanted {queries}, one per query."
        )
    for chunk in chunks:
        if not isinstance(chunk, Chunk):
            raise PolicyError(
                f"Policy {policy.name!r} answered a query with {_described(chunk)}; wanted a Chunk."
            )


def require_result(policy: PolicySpec, result: object, queries: int) -> None:
    """Raise `PolicyError` unless a batched policy answered with one chunk per query."""
    if not isinstance(result, InferenceResult):
        raise PolicyError(
            f"Policy {policy.name!r} answered with {_described(result)}; wanted an InferenceResult."
        )
    require_answers(policy, result.chunks, queries)


def require_actions(policy: PolicySpec, actions: object, action_size: int) -> None:
    """Raise `PolicyError` unless a chunk has `policy.chunk_steps` actions of `action_size` real numbers."""
    steps = policy.chunk_steps
    if steps is None:
        steps = max(1, len(actions)) if isinstance(actions, np.ndarray) and actions.ndim else 1
    wanted = (steps, action_size)
    fits = isinstance(actions, np.ndarray) and actions.shape == wanted and actions.dtype.kind == "f"
    if not fits:
        raise PolicyError(
            f"Policy {policy.name!r} answered a query with actions that are {_described(actions)}; wanted float32 of "
            f"shape {wanted}: the chunk_steps of its spec, and the size of the task's actions."
        )


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return "None" if value is None else f"a {type(value).__name__}"
