"""`Finding`: the result of one check, and how findings are printed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "note", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    verdict: Verdict
    """`FAIL` cannot be right; a `note` is allowed and worth knowing."""
    text: str

    def __str__(self) -> str:
        """A line for the terminal."""
        return f"{self.verdict:4}  {self.check}: {self.text}"


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """The worst verdict."""
    found = {finding.verdict for finding in findings}
    return "FAIL" if "FAIL" in found else "note" if "note" in found else "ok"
