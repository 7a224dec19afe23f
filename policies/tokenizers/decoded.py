"""Actions decoded from generated tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

OnFailure = Literal["undecodable", "zeros"]
"""Result for tokens that encode no action chunk. The reference returns `zeros`, which are mid-range actions after
unnormalization, not rest."""


@dataclass(frozen=True)
class DecodedActions:
    """Normalized actions, or tokens that encode none."""

    actions: Float[np.ndarray, "t a"]
    """Empty (t = 0) if the tokens are undecodable."""
    undecodable: tuple[int, ...] | None = None


def failed(generated: tuple[int, ...], steps: int, size: int, on_failure: OnFailure) -> DecodedActions:
    """Result for tokens that encode no action chunk."""
    if on_failure == "zeros":
        return DecodedActions(np.zeros((steps, size)))
    return DecodedActions(np.zeros((0, size)), undecodable=generated)
