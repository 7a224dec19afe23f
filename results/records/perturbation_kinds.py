"""Kinds of perturbations, and their labels in protocols.

An episode under a perturbation is recorded under the protocol `BASE with KIND=STRENGTH`, so that the ledger states
the perturbation, and no table mixes perturbed with unperturbed episodes. A kind that disturbs otherwise than it once
did has a higher version, which labels state from 2 on: `BASE with camera-noise-v2=0.1`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PerturbationKind:
    """One kind of perturbation of observations or actions."""

    says: str
    """Main clause that describes the perturbation, with `{s}` for the strength."""
    unit: str
    """Meaning and unit of the strength, for the axis of a figure."""
    version: int = 1
    """Raised whenever episodes of the kind are disturbed otherwise than before."""


KINDS: Mapping[str, PerturbationKind] = {
    "camera-noise": PerturbationKind(
        "Gaussian noise with a standard deviation of {s} of the full range was added to every pixel that a policy "
        "observed",
        "standard deviation, share of the pixel range",
        version=2,  # 1 drew the noise of an image by the number of the query, 2 by the control step.
    ),
    "camera-dark": PerturbationKind(
        "every pixel that a policy observed was darkened by {s} of its value",
        "share of the brightness removed",
    ),
    "state-noise": PerturbationKind(
        "Gaussian noise with a standard deviation of {s} was added to every entry of the state that a policy "
        "observed, including the simulator state that scripted policies read",
        "standard deviation, in the unit of each entry",
        version=2,  # As for camera-noise.
    ),
    "action-noise": PerturbationKind(
        "Gaussian noise with a standard deviation of {s} of half its range was added to every entry of the actions "
        "before they were executed",
        "standard deviation, share of half the range",
    ),
    # M. C. Machado et al. (2018), doi:10.1613/jair.5699, introduced it for the Arcade Learning Environment.
    "sticky-actions": PerturbationKind(
        "at every step the robot repeated the previous action with probability {s} instead of executing the next one",
        "probability of repeating an action",
    ),
}
"""Kinds by name. Strengths lie in (0, 1]; 0 would be the unperturbed protocol, which has its own label."""

_LABEL = re.compile(r"(?P<base>.+) with (?P<kind>[a-z-]+(-v[0-9]+)?)=(?P<strength>[0-9.e-]+)")


def written(kind: str, strength: float) -> str:
    """Write a perturbation as on the command line, the strength with all its digits."""
    return f"{kind}={repr(float(strength)).removesuffix('.0')}"


def perturbed_label(base: str, kind: str, strength: float) -> str:
    """Return the label of a protocol under a perturbation."""
    version = KINDS[kind].version
    return f"{base} with {written(kind if version == 1 else f'{kind}-v{version}', strength)}"


def perturbation_kind(versioned: str) -> PerturbationKind | None:
    """Return the kind with that name, which may end in a version; None if there is none."""
    return KINDS.get(re.sub("-v[0-9]+$", "", versioned))


def split_label(label: str) -> tuple[str, str, float]:
    """Split a label into unperturbed protocol, kind and strength; without a perturbation they end in ``""`` and 0.

    The kind keeps its version, so that no curve mixes two of them.
    """
    match = _LABEL.fullmatch(label)
    if match is None or perturbation_kind(match["kind"]) is None:
        return label, "", 0.0
    return match["base"], match["kind"], float(match["strength"])
