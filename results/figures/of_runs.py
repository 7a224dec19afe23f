"""The figures as functions of an `Axes` and runs, to combine in a figure of one's own.

Each draws on the axes, in the style of the axes' figure, and returns what it drew as a data frame. Where runs hold
several suites and protocols, `protocol` names one.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from simloop.results.errors import ResultsError
from simloop.results.figures.catalog import drawings
from simloop.results.records.runs import Runs, load_runs

RunsLike = Any
"""Run folders as `load_runs` takes them, or `Runs`."""


def success(axes: Axes, runs: RunsLike, protocol: str = "") -> pd.DataFrame:
    """Success rates with 95 % intervals, a row per task and one for the mean."""
    return _drawn(axes, runs, "success", protocol)


def differences(axes: Axes, runs: RunsLike, protocol: str = "") -> pd.DataFrame:
    """Differences of success between all pairs of policies, with 95 % intervals and the margin of equivalence."""
    return _drawn(axes, runs, "differences", protocol)


def outcomes(axes: Axes, runs: RunsLike, protocol: str = "") -> pd.DataFrame:
    """The outcome of every episode, a row per policy and a column per initial state."""
    return _drawn(axes, runs, "outcomes", protocol)


def time_to_success(axes: Axes, runs: RunsLike, protocol: str = "") -> pd.DataFrame:
    """Share of episodes that have succeeded by a step, with 95 % bands."""
    return _drawn(axes, runs, "success-over-steps", protocol)


def latency_stages(axes: Axes, runs: RunsLike, protocol: str = "") -> pd.DataFrame:
    """Medians of the stages of a query, and percentiles of the total."""
    return _drawn(axes, runs, "latency-stages", protocol)


def perturbations(axes: Axes, runs: RunsLike, protocol: str = "") -> pd.DataFrame:
    """Success against the strength of a perturbation; `protocol` is that of the unperturbed episodes."""
    return _drawn(axes, runs, "perturbation", protocol)


def robustness(axes: Axes, runs: RunsLike, protocol: str = "") -> pd.DataFrame:
    """Change of success along the first axis of a design; `protocol` is that of the unperturbed episodes."""
    return _drawn(axes, runs, "robustness", protocol)


def delays(axes: Axes, runs: RunsLike, protocol: str = "") -> pd.DataFrame:
    """Success against the delay of answers; `protocol` is that of the world that stands still."""
    return _drawn(axes, runs, "delay", protocol)


def _drawn(axes: Axes, runs: RunsLike, name: str, protocol: str) -> pd.DataFrame:
    loaded = runs if isinstance(runs, Runs) else load_runs(runs)
    found = [one for key, one in drawings(loaded).items() if key.rstrip("-0123456789") == name]
    here = [one for one in found if one.caption.endswith(f"protocol {protocol}.")] if protocol else found
    if not here:
        known = ", ".join(one.caption.rpartition("protocol ")[2].rstrip(".") for one in found)
        wanted = f" under protocol {protocol}; there are {known or 'none'}" if protocol else ""
        raise ResultsError(f"These runs have nothing to draw for the figure {name}{wanted}.")
    return here[0].draw(axes)
