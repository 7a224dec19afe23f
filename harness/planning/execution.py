"""When a policy is queried, and which action is executed while it computes; part of a protocol."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from simloop.harness.errors import SimloopError
from simloop.harness.planning.delay import Delay
from simloop.policies.interface import GuidanceMethod
from simloop.results.records.execution_labels import FROZEN

Mode = Literal["synchronous", "naive", "rtc", "rtc-identity", "rtc-trained", "ensemble"]

MODES: dict[Mode, str] = {
    "synchronous": "the robot holds still while the policy computes",
    "naive": "the robot goes on with the previous chunk, then skips the overdue actions of the new one",
    "rtc": "as naive; the new chunk is guided to agree with the actions that are executed meanwhile (real-time "
    "chunking with the full vector-Jacobian product, arXiv:2506.07339)",
    "rtc-identity": "as rtc, without the Jacobian of the velocity, as LeRobot does",
    "rtc-trained": "as naive; the new chunk continues the actions that are executed meanwhile, by a policy that was "
    "trained to (simloop train --max-delay, arXiv:2512.05964)",
    "ensemble": "every action is a weighted mean over all chunks that predict it (arXiv:2304.13705)",
}
"""Modes, each with a clause that describes it."""

EnsembleKind = Literal["act", "average", "newest", "exponential"]

DEFAULT_COEFFICIENTS: dict[EnsembleKind, float] = {
    "act": 0.01,
    "average": 0.0,
    "newest": 0.0,
    "exponential": 0.5,
}


class ExecutionError(SimloopError):
    """Raised for an execution that does not exist, or that a task, policy or delay does not allow."""


@dataclass(frozen=True)
class Ensemble:
    """Weights of the chunks that predict the same control step."""

    kind: EnsembleKind = "act"
    """`act`: exp(-coefficient * j), j = 0 for the oldest chunk. `exponential`: the newest chunk weighs `coefficient`,
    the mean of the older ones the rest. `average`: equal weights. `newest`: the newest chunk alone."""
    coefficient: float = 0.01

    @classmethod
    def parse(cls, text: str) -> Ensemble:
        """Parse `KIND[:COEFFICIENT]`.

        Raises:
          ExecutionError: If the text is of no such form.
        """
        kind, _, coefficient = text.partition(":")
        try:
            chosen: EnsembleKind = next(known for known in DEFAULT_COEFFICIENTS if known == (kind or "act"))
            value = float(coefficient) if coefficient else DEFAULT_COEFFICIENTS[chosen]
        except (StopIteration, ValueError):
            raise ExecutionError(
                f"Wanted ensemble[:KIND[:COEFFICIENT]] with a kind of {', '.join(DEFAULT_COEFFICIENTS)}, such as "
                f"ensemble:act:0.01; got ensemble:{text}."
            ) from None
        if chosen == "exponential" and not 0 < value <= 1:
            raise ExecutionError(f"The newest chunk's weight lies in (0, 1]; got {value:g}.")
        return cls(chosen, value)

    def __str__(self) -> str:
        """`KIND:COEFFICIENT`, without a coefficient where the kind has none."""
        return f"{self.kind}:{self.coefficient:g}" if DEFAULT_COEFFICIENTS[self.kind] else self.kind


@dataclass(frozen=True)
class Execution:
    """How the actions of chunks are executed. By default the world stands still until the policy has answered."""

    mode: Mode = "synchronous"
    delay: Delay = field(default_factory=Delay)
    ensemble: Ensemble | None = None
    """Weights, for the mode `ensemble`."""

    @classmethod
    def parse(cls, mode: str, delay: str = "0") -> Execution:
        """Parse a mode, as in `MODES` or `ensemble:KIND:COEFFICIENT`, and a delay.

        Raises:
          ExecutionError, DelayError: If one of them does not exist.
        """
        name, colon, weights = mode.partition(":")
        known: Mode | None = next((known for known in MODES if known == name), None)
        if known is None or (colon and known != "ensemble"):
            raise ExecutionError(f"There is no execution {mode!r}; there are {', '.join(MODES)}.")
        after = Delay.parse(delay)
        if known == "naive" and not after:
            return cls()  # The same actions at the same steps.
        return cls(known, after, Ensemble.parse(weights) if known == "ensemble" else None)

    def __str__(self) -> str:
        """`MODE at DELAY`, as labels of protocols state it."""
        mode = f"{self.mode}:{self.ensemble}" if self.ensemble else self.mode
        return f"{mode} at {self.delay}"

    @property
    def frozen(self) -> bool:
        """Whether the world stands still while the policy computes, as in published simulation protocols."""
        return str(self) == FROZEN

    @property
    def guidance(self) -> GuidanceMethod | None:
        """How queries are guided by the actions that are executed while the policy computes; None if they are not."""
        methods: dict[Mode, GuidanceMethod] = {
            "rtc": "full",
            "rtc-identity": "identity",
            "rtc-trained": "trained",
        }
        return methods.get(self.mode)

    @property
    def may_hold(self) -> bool:
        """Whether there may be control steps without an action of the policy."""
        return bool(self.delay) and (self.mode == "synchronous" or not self.delay.constant)

    def require_possible(self, control_hz: float, replan_steps: int, chunk_steps: int | None) -> None:
        """Raise `ExecutionError` if a delay is longer than the replan interval, or a chunk ends before the next one.

        With measured and live delays, and chunks of unknown length, such steps hold the robot instead.
        """
        if chunk_steps is None or self.mode in ("synchronous", "ensemble") or not self.delay.constant:
            return
        interval, delay = min(replan_steps, chunk_steps), self.delay.longest(control_hz)
        if delay <= interval <= chunk_steps - delay:
            return
        remedy = (
            f"Choose --replan-steps from {max(delay, 1)} to {chunk_steps - delay}, or a shorter delay."
            if delay <= chunk_steps - delay
            else f"Choose a delay of at most {chunk_steps // 2} control steps."
        )
        raise ExecutionError(
            f"{self}: a chunk has {chunk_steps} actions, the next query comes after {interval} of them, and its answer "
            f"{delay} control steps later. An answer must be there before the next query, and the previous chunk must "
            f"last until then. {remedy}"
        )
