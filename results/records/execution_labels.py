"""Labels of protocols under which the simulation goes on while the policy computes.

Such an episode is recorded under the protocol `BASE, MODE at DELAY`, so that no table mixes delays or modes. The base
is the protocol in which the world stands still until the policy has answered.
"""

from __future__ import annotations

import re
from typing import NamedTuple

FROZEN = "synchronous at 0"
"""Execution of all other protocols; never part of a label."""

_LABEL = re.compile(r"(?P<base>.+?), (?P<mode>[a-z-]+(:[^ ]*)?) at (?P<delay>[^ ]+)(?P<rest>( with .+)?)")


class ExecutionLabel(NamedTuple):
    """The parts of a label."""

    base: str
    """Protocol without delay; perturbations and adapters are part of it."""
    mode: str
    """`synchronous`, `naive`, `rtc`, `rtc-identity`, `rtc-trained` or `ensemble:KIND:COEFFICIENT`."""
    delay: str
    """`3` (control steps), `150ms`, `measured-SOURCE-HASH` or `live`."""

    @property
    def order(self) -> tuple[int, float, str]:
        """Sort key: control steps, then milliseconds, then other delays by name."""
        number = self.delay.removesuffix("ms")
        try:
            return (int(number != self.delay), float(number), "")
        except ValueError:
            return (2, 0.0, self.delay)


def execution_label(base: str, execution: str) -> str:
    """Return the label of a protocol under an execution, as `MODE at DELAY`."""
    return base if execution == FROZEN else f"{base}, {execution}"


def split_execution(label: str) -> ExecutionLabel:
    """Split a label; protocols in which the world stands still have the parts of `FROZEN`."""
    match = _LABEL.fullmatch(label)
    if match is None:
        return ExecutionLabel(label, *FROZEN.split(" at "))
    return ExecutionLabel(match["base"] + match["rest"], match["mode"], match["delay"])
