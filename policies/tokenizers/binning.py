"""Actions as one token per entry, in 256 equal bins of [-1, 1], as in RT-2 and OpenVLA.

Prompt and layout are those of pi0-FAST. Kept for parity with the reference implementation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from simloop.policies.tokenizers.action_pieces import find_action_tokens, piece_of_action_token
from simloop.policies.tokenizers.decoded import DecodedActions, OnFailure, failed
from simloop.policies.tokenizers.sentencepiece_model import SentencePieceModel

ACTION_BINS = 256


class BinningTokenizer:
    """Encode and decode binned actions."""

    def __init__(self, model: SentencePieceModel):
        self.model = model

    def pieces(self, actions: Float[np.ndarray, "t a"]) -> list[int]:
        """Vocabulary ids of normalized actions, step by step; values outside [-1, 1] are clipped."""
        bins = np.clip(np.floor((actions + 1) / 2 * ACTION_BINS), 0, ACTION_BINS - 1).astype(np.int64)
        return [piece_of_action_token(int(b), self.model.pieces) for b in bins.reshape(-1)]

    def decode(
        self,
        generated: Int[np.ndarray, "_"] | Sequence[int],
        *,
        steps: int,
        size: int,
        on_failure: OnFailure = "undecodable",
    ) -> DecodedActions:
        """Lower edges of the generated bins, float64 [steps, size]; surplus tokens are ignored."""
        generated = tuple(int(token) for token in generated)
        found = find_action_tokens(generated, self.model)
        if found is None or len(found) < steps * size:
            return failed(generated, steps, size, on_failure)
        bins = np.array(found[: steps * size], np.float64).reshape(steps, size)
        return DecodedActions(bins / ACTION_BINS * 2 - 1)
