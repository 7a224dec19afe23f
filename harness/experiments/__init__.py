"""Experiments that can be run by name: one module each, with an `EXPERIMENT`, and those of installed distributions."""

from __future__ import annotations

import pkgutil
import sys

from simloop.envs.plugins import Registry
from simloop.harness.planning.experiment import Experiment

EXPERIMENTS: Registry[Experiment] = Registry(
    "simloop.experiments",
    Experiment,
    {
        module.name: f"{__name__}.{module.name}:EXPERIMENT"
        for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name)
        if not module.name.startswith("_")
    },
    name_of=lambda experiment: experiment.name,
)
"""Experiments by name."""


def names() -> tuple[str, ...]:
    """Names of all experiments."""
    return tuple(EXPERIMENTS)


def find(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
      UnknownNameError: If there is none.
    """
    return EXPERIMENTS[name]


def summary(name: str) -> str:
    """First line of the docstring of the module that defines an experiment."""
    find(name)
    return (sys.modules[EXPERIMENTS.module(name)].__doc__ or "-").strip().splitlines()[0]
