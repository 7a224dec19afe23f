"""Experiments that can be run by name: one module each, with an `EXPERIMENT`."""

from __future__ import annotations

import difflib
import importlib
import pkgutil

from simloop.harness.planning.experiment import Experiment, ExperimentError


def names() -> tuple[str, ...]:
    """All experiments, alphabetically."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def find(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
      ExperimentError: With the nearest names, if there is none.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.4)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ExperimentError(
            f"There is no experiment {name!r}.{hint} simloop list experiments shows all of them."
        )
    return importlib.import_module(f"{__name__}.{name}").EXPERIMENT


def summary(name: str) -> str:
    """First line of the experiment's description."""
    return (importlib.import_module(f"{__name__}.{name}").__doc__ or "").strip().splitlines()[0]
