"""Figures of runs for papers: functions that draw on an `Axes` and return the data that they drew."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simloop.results.figures.of_runs import (
        delays,
        differences,
        latency_stages,
        outcomes,
        perturbations,
        robustness,
        success,
        time_to_success,
    )

__all__ = [
    "delays",
    "differences",
    "latency_stages",
    "outcomes",
    "perturbations",
    "robustness",
    "success",
    "time_to_success",
]


def __getattr__(name: str) -> Any:
    if name in __all__:  # Imported when first used: matplotlib takes a second.
        return getattr(importlib.import_module("simloop.results.figures.of_runs"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
