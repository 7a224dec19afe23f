"""Perturbations of scenes, observations, instructions and actions, to measure how robust a policy is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simloop.harness.errors import SimloopError
from simloop.results.records.perturbation_kinds import KINDS, written


class PerturbationError(SimloopError):
    """Raised for an unknown kind of perturbation, a strength outside its range, or a kind that is given twice."""


@dataclass(frozen=True)
class Perturbation:
    """One kind of perturbation (`results.records.perturbation_kinds.KINDS`) at one strength; part of a protocol.

    Raises:
      PerturbationError: If the kind is unknown, or the strength is outside its range.
    """

    kind: str
    strength: float
    """In the unit of the kind; 0 is no perturbation."""

    def __post_init__(self) -> None:
        """Raise `PerturbationError` for unknown kinds and strengths."""
        if self.kind not in KINDS:
            raise PerturbationError(
                f"There is no perturbation {self.kind!r}; there are {', '.join(KINDS)} (simloop list perturbations)."
            )
        kind = KINDS[self.kind]
        if not 0 <= self.strength <= kind.most:
            raise PerturbationError(
                f"The strength of {self.kind} lies in [0, {kind.most:g}] ({kind.unit}); got {self.strength:g}."
            )
        if kind.whole and self.strength != round(self.strength):
            raise PerturbationError(
                f"The strength of {self.kind} is a whole number ({kind.unit}); got {self.strength:g}."
            )

    @classmethod
    def parse(cls, text: str) -> Perturbation:
        """Parse `KIND=STRENGTH`, such as `camera-noise=0.1`.

        Raises:
          PerturbationError: If the text is not of this form, or the values are not valid.
        """
        kind, _, strength = text.partition("=")
        try:
            return cls(kind, float(strength))
        except ValueError:
            raise PerturbationError(
                f"Wanted KIND=STRENGTH, such as camera-noise=0.1; got {text!r}."
            ) from None

    def __str__(self) -> str:
        """`KIND=STRENGTH`, as `parse` reads it."""
        return written(self.kind, self.strength)


def in_order(perturbations: Sequence[Perturbation]) -> tuple[Perturbation, ...]:
    """Sort perturbations as they are applied, without those of strength 0.

    Raises:
      PerturbationError: If a kind is given twice.
    """
    kinds = [one.kind for one in perturbations]
    if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        raise PerturbationError(f"{', '.join(twice)} is given twice; give each kind one strength.")
    order = list(KINDS)
    return tuple(
        sorted((one for one in perturbations if one.strength), key=lambda one: order.index(one.kind))
    )


def strengths_of(perturbations: Sequence[Perturbation]) -> Mapping[str, float]:
    """Strengths by kind."""
    return {one.kind: one.strength for one in perturbations}
