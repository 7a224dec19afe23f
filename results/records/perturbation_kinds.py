"""Kinds of perturbations, and their labels in protocols.

An episode under perturbations is recorded under the protocol `BASE with KIND=STRENGTH and KIND=STRENGTH`, so that the
ledger states them, and no table mixes perturbed with unperturbed episodes. A kind that disturbs otherwise than it once
did has a higher version, which labels state from 2 on: `BASE with camera-noise-v2=0.1`. A kind that takes its content
from a file states its name and the start of its hash: `BASE with paraphrase[mine-0a1b2c3d]=1`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PerturbationKind:
    """One kind of perturbation."""

    says: str
    """Main clause that describes the perturbation, with `{s}` for the strength."""
    unit: str
    """Meaning and unit of the strength, for the axis of a figure."""
    version: int = 1
    """Raised whenever episodes of the kind are disturbed otherwise than before."""
    most: float = 1.0
    """Largest strength. The smallest is 0, which is no perturbation."""
    whole: bool = False
    """Whether strengths are whole numbers."""
    changes_look: bool = False
    """Whether it moves cameras or lights, which not every suite can."""


KINDS: Mapping[str, PerturbationKind] = {
    "camera-shift": PerturbationKind(
        "every camera was displaced by {s} m in a direction drawn for the episode",
        "displacement, m",
        changes_look=True,
    ),
    "camera-turn": PerturbationKind(
        "every camera was turned by {s} degrees about an axis through it that was drawn for the episode",
        "angle, degrees",
        most=180.0,
        changes_look=True,
    ),
    "light-dim": PerturbationKind(
        "all lights of the scene had {s} less of their intensity",
        "share of the intensity removed",
        changes_look=True,
    ),
    "light-turn": PerturbationKind(
        "all lights were turned by {s} degrees about a horizontal axis through the middle of the scene that was drawn "
        "for the episode",
        "angle, degrees",
        most=180.0,
        changes_look=True,
    ),
    "camera-dark": PerturbationKind(
        "every pixel that a policy observed was darkened by {s} of its value",
        "share of the brightness removed",
    ),
    "camera-noise": PerturbationKind(
        "Gaussian noise with a standard deviation of {s} of the full range was added to every pixel that a policy "
        "observed",
        "standard deviation, share of the pixel range",
        version=2,  # 1 drew the noise of an image by the number of the query, 2 by the control step.
    ),
    "dropped-frames": PerturbationKind(
        "the frame of every camera was lost with probability {s} at every control step, so that a policy observed a "
        "black image",
        "probability of losing a frame",
    ),
    "camera-missing": PerturbationKind(
        "every camera was missing with probability {s} for a whole episode, so that a policy observed black images",
        "probability that a camera is missing",
    ),
    "state-noise": PerturbationKind(
        "Gaussian noise with a standard deviation of {s} was added to every entry of the state that a policy "
        "observed, including the simulator state that scripted policies read",
        "standard deviation, in the unit of each entry",
        version=2,  # As for camera-noise.
    ),
    "state-distractors": PerturbationKind(
        "every entry of the state that a policy observed, including the simulator state that scripted policies read, "
        "was replaced by standard normal noise with probability {s} at every control step",
        "probability of replacing an entry",
    ),
    "paraphrase": PerturbationKind(
        "the instruction was reworded in {s} of the episodes, which were drawn at random",
        "share of episodes with another wording",
    ),
    "actuation-delay": PerturbationKind(
        "every action was executed {s} control steps late, and the robot held still until the first one",
        "delay, control steps",
        most=100.0,
        whole=True,
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
"""Kinds by name, in the order in which several are applied."""

_ONE = r"[a-z-]+(?:-v[0-9]+)?(?:\[[\w.-]+\])?=[0-9.e+-]+"
_LABEL = re.compile(rf"(?P<base>.+?) with (?P<several>{_ONE}(?: and {_ONE})*)")


def written(kind: str, strength: float) -> str:
    """Write a perturbation as on the command line, the strength with all its digits."""
    return f"{kind}={repr(float(strength)).removesuffix('.0')}"


def perturbed_label(base: str, strengths: Mapping[str, float], sources: Mapping[str, str]) -> str:
    """Return the label of a protocol under perturbations.

    Args:
      strengths: By kind.
      sources: Name and hash of the file that a kind takes its content from.
    """
    names = {}
    for kind in strengths:
        version = KINDS[kind].version
        source = f"[{sources[kind]}]" if kind in sources else ""
        names[kind] = (kind if version == 1 else f"{kind}-v{version}") + source
    return f"{base} with " + " and ".join(written(names[kind], s) for kind, s in strengths.items())


def plain_kind(versioned: str) -> str:
    """Return the name of a kind in a label without its version and source."""
    return re.sub(r"(-v[0-9]+)?(\[.*\])?$", "", versioned)


def perturbation_kind(versioned: str) -> PerturbationKind | None:
    """Return the kind with that name in a label, which may end in a version and a source; None if there is none."""
    return KINDS.get(plain_kind(versioned))


def split_perturbations(label: str) -> tuple[str, dict[str, float]]:
    """Split a label into the unperturbed protocol, and strengths by kind with its version and source."""
    match = _LABEL.fullmatch(label)
    if match is None:
        return label, {}
    pairs = [one.rpartition("=") for one in match["several"].split(" and ")]
    if any(perturbation_kind(kind) is None for kind, _, _ in pairs):
        return label, {}
    return match["base"], {kind: float(strength) for kind, _, strength in pairs}


def split_label(label: str) -> tuple[str, str, float]:
    """Split a label into unperturbed protocol, kind and strength; without a perturbation they end in ``""`` and 0.

    The kind keeps its version, so that no curve mixes two of them. The label of several perturbations is no point of
    a curve, and stays whole.
    """
    base, strengths = split_perturbations(label)
    if len(strengths) != 1:
        return label, "", 0.0
    ((kind, strength),) = strengths.items()
    return base, kind, strength
