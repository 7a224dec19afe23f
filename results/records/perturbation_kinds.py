"""What an evaluation may do to a policy on purpose, and how protocols say so.

An episode under a perturbation is played under the protocol `BASE with KIND=STRENGTH`, so that the ledger alone
tells what was disturbed and how much, and no table mixes it with undisturbed episodes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PerturbationKind:
    """One way to disturb."""

    says: str
    """What is done, as part of a sentence in which `{s}` stands for the strength."""
    unit: str
    """What the strength counts, for the axis of a figure."""


KINDS: Mapping[str, PerturbationKind] = {
    "camera-noise": PerturbationKind(
        "Gaussian noise with a standard deviation of {s} of the full range was added to every pixel that a policy saw",
        "standard deviation, share of the pixel range",
    ),
    "camera-dark": PerturbationKind(
        "every pixel that a policy saw was darkened by {s} of its value",
        "share of the light taken away",
    ),
    "state-noise": PerturbationKind(
        "Gaussian noise with a standard deviation of {s} was added to every number of the state that a policy was "
        "given, the simulator's own state included where a scripted policy reads it",
        "standard deviation, in each number's own unit",
    ),
    "action-noise": PerturbationKind(
        "Gaussian noise with a standard deviation of {s} of half its range was added to every entry of the actions "
        "before they were executed",
        "standard deviation, share of half the range",
    ),
    # M. C. Machado et al. (2018), doi:10.1613/jair.5699, who made the Arcade Learning Environment stochastic so.
    "sticky-actions": PerturbationKind(
        "at every step the robot repeated the action before with probability {s} instead of executing its next one",
        "probability of repeating an action",
    ),
}
"""By name. Every strength lies in (0, 1]; 0 would be the undisturbed protocol, which has its own name."""

_LABEL = re.compile(r"(?P<base>.+) with (?P<kind>[a-z-]+)=(?P<strength>[0-9.e-]+)")


def written(kind: str, strength: float) -> str:
    """How a perturbation is written, on the command line and in labels; the strength in all its digits."""
    return f"{kind}={repr(float(strength)).removesuffix('.0')}"


def perturbed_label(base: str, kind: str, strength: float) -> str:
    """The label of a protocol under a perturbation."""
    return f"{base} with {written(kind, strength)}"


def split_label(label: str) -> tuple[str, str, float]:
    """The undisturbed protocol, the kind and the strength that a label names; kind empty and strength 0 for none."""
    match = _LABEL.fullmatch(label)
    if match is None or match["kind"] not in KINDS:
        return label, "", 0.0
    return match["base"], match["kind"], float(match["strength"])
