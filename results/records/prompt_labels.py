"""Labels of protocols that choose among the instructions of a task.

Such an episode is recorded under the protocol `BASE, SOURCE-prompt`, so that no table mixes instructions. The base is
the protocol that leaves the choice to the suite.
"""

from __future__ import annotations

import re

SUITES_CHOICE = "suite"
"""Source of all other protocols; never part of a label."""

_LABEL = re.compile(r"(?P<base>.+?), (?P<source>[a-z]+)-prompt(?P<rest>(, | with ).+)?")


def prompted_label(base: str, source: str) -> str:
    """Return the label of a protocol whose instructions come from a source."""
    return f"{base}, {source}-prompt"


def split_prompt(label: str) -> tuple[str, str]:
    """Split a label into the protocol that leaves the choice to the suite, and the source of the instructions."""
    match = _LABEL.fullmatch(label)
    return (
        (label, SUITES_CHOICE) if match is None else (match["base"] + (match["rest"] or ""), match["source"])
    )
