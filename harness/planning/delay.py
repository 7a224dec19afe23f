"""Delay between an observation and the first control step at which its actions can be executed.

While a policy computes, a robot moves on. A protocol with a delay simulates that in the time of the simulation: no
process sleeps, and records are the same on every machine and for every number of workers.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from simloop.harness.errors import SimloopError
from simloop.harness.planning.seeding import derive
from simloop.untrusted import MAX_JSON_BYTES, parse_json, read_bytes

Kind = Literal["steps", "ms", "measured", "live"]

PERCENTILES = 100
"""Intervals between the stored quantiles of a measured distribution."""


class DelayError(SimloopError):
    """Raised for a delay that cannot be read or simulated."""


@dataclass(frozen=True)
class Delay:
    """A distribution of delays. Times become control steps by the control rate of the task, rounded up."""

    kind: Kind = "steps"
    value: float = 0.0
    """Control steps for `steps`, milliseconds for `ms`; 0 otherwise."""
    source: str = ""
    """For `measured`, where the latencies come from, without the path."""
    quantiles_ms: tuple[float, ...] = ()
    """For `measured`, the percentiles 0 to 100 of the latencies in milliseconds."""

    def __post_init__(self) -> None:
        """Raise `DelayError` for negative, infinite or fractional values."""
        whole = self.kind != "steps" or float(self.value).is_integer()
        if not (math.isfinite(self.value) and self.value >= 0 and whole):
            raise DelayError(
                f"Wanted a delay of whole control steps or of milliseconds, 0 or more; got {self.value:g}."
            )

    @classmethod
    def parse(cls, text: str) -> Delay:
        """Parse `3` (control steps), `150ms`, `measured:PATH` or `live`.

        PATH is a run folder, optionally followed by `#POLICY`, or a JSON file with a list of latencies in milliseconds.

        Raises:
          DelayError: If the text is of no such form, or the file holds no latencies.
        """
        if text == "live":
            return cls("live")
        if text.startswith("measured:"):
            return measured(text.removeprefix("measured:"))
        number, ms = text.removesuffix("ms"), text.endswith("ms")
        try:
            return cls("ms" if ms else "steps", float(number))
        except ValueError:
            raise DelayError(
                "Wanted a delay as N (control steps), Tms (milliseconds), measured:RUN, measured:FILE.json or live; "
                f"got {text!r}."
            ) from None

    def __str__(self) -> str:
        """The delay as labels of protocols state it: `3`, `150ms`, `measured-SOURCE-HASH` or `live`."""
        if self.kind == "measured":
            return f"measured-{self.source}-{self._sha256[:8]}"
        return {"steps": f"{self.value:g}", "ms": f"{self.value:g}ms", "live": "live"}[self.kind]

    def __bool__(self) -> bool:
        """Whether any query is delayed."""
        return self.kind in ("measured", "live") or self.value > 0

    @property
    def constant(self) -> bool:
        """Whether all queries have the same delay."""
        return self.kind in ("steps", "ms")

    def steps(self, control_hz: float, key: int) -> int:
        """Return the delay of a query in control steps. Not for `live`.

        Args:
          control_hz: Control steps per simulated second.
          key: Key of the query, by which a measured latency is drawn.
        """
        if self.kind == "steps":
            return int(self.value)
        return steps_of(self.milliseconds(key) / 1000, control_hz)

    def milliseconds(self, key: int) -> float:
        """Return the time of a query whose delay is not given in steps."""
        if self.kind == "ms":
            return self.value
        drawn = derive("delay", key, bits=32) / 2**32
        at = np.linspace(0, 1, len(self.quantiles_ms))
        return float(np.interp(drawn, at, self.quantiles_ms))

    def percentile_ms(self, percentile: int) -> float:
        """Return a percentile of a measured distribution; 0 for other delays."""
        return self.quantiles_ms[percentile] if self.quantiles_ms else 0.0

    def longest(self, control_hz: float) -> int:
        """Return the longest delay in control steps; 0 for `live`, whose delays are not known before."""
        if self.kind == "measured":
            return steps_of(self.quantiles_ms[-1] / 1000, control_hz)
        return 0 if self.kind == "live" else self.steps(control_hz, 0)

    @property
    def _sha256(self) -> str:
        return hashlib.sha256(repr(self.quantiles_ms).encode()).hexdigest()


def steps_of(seconds: float, control_hz: float) -> int:
    """Return the control steps that begin before a time has passed: the time in steps, rounded up."""
    # A product such as 0.15 * 20 = 3.0000000000000004 must not round up to 4.
    return math.ceil(round(seconds * control_hz, 9))


def measured(path: str) -> Delay:
    """Return the distribution of measured latencies, as percentiles.

    The latency of a query is what it costs a robot with a policy of its own: adapter, transport, preprocessing, device
    and postprocessing. Rendering, and the waiting for other episodes, are costs of the simulation.

    Args:
      path: Run folder, optionally with `#POLICY`, or JSON file with a list of milliseconds.

    Raises:
      DelayError: If there are no latencies.
    """
    name, _, policy = path.partition("#")
    if Path(name).is_dir():
        latencies = _latencies_of_run(name, policy)
    else:
        latencies = parse_json(
            read_bytes(Path(name), MAX_JSON_BYTES, error=DelayError), name, error=DelayError
        )
    if not (
        isinstance(latencies, list)
        and latencies
        and all(isinstance(ms, int | float) and math.isfinite(ms) and ms >= 0 for ms in latencies)
    ):
        raise DelayError(
            f"{path} holds no latencies: wanted a run folder with queries, or a JSON file with a list of milliseconds "
            "such as [48.1, 50.3]."
        )
    quantiles = np.quantile(latencies, np.linspace(0, 1, PERCENTILES + 1))
    return Delay(
        "measured", source=policy or Path(name).stem, quantiles_ms=tuple(quantiles.round(3).tolist())
    )


def _latencies_of_run(folder: str, policy: str) -> list[float]:
    from simloop.results.records.runs import load_runs

    queries = load_runs(folder).queries
    policies = sorted(queries["policy"].unique())
    if (policy and policy not in policies) or (not policy and len(policies) > 1):
        raise DelayError(
            f"{folder} has latencies of {', '.join(policies) or 'no policy'}; write measured:{folder}#POLICY with one "
            f"of them; got {policy or 'none'!r}."
        )
    chosen = queries[queries["policy"] == policy] if policy else queries
    return [float(ms) for ms in chosen[list(LATENCY_STAGES)].sum(axis=1)]


LATENCY_STAGES = ("adapt_ms", "transport_ms", "host_ms", "device_ms", "post_ms")
"""Stages of a query that delay a robot."""
