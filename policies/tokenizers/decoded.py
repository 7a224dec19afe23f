"""What generated tokens mean: actions, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

OnFailure = Literal["undecodable", "zeros"]
"""What to answer when tokens spell no action chunk. `zeros` is what the reference answers: after
unnormalising these are mid-range actions, not rest."""


@dataclass(frozen=True)
class DecodedActions:
    """Normalised actions, or the tokens that spell none."""

    actions: Float[np.ndarray, "t a"]
    """Empty (t = 0) where the tokens are undecodable."""
    undecodable: tuple[int, ...] | None = None


def failed(generated: tuple[int, ...], steps: int, size: int, on_failure: OnFailure) -> DecodedActions:
    """The answer for tokens that spell no action chunk."""
    if on_failure == "zeros":
        return DecodedActions(np.zeros((steps, size)))
    return DecodedActions(np.zeros((0, size)), undecodable=generated)
