"""Prompts and actions of pi0-FAST as one row of token ids.

<bos> Task: .., State: ..;⏎ | Action: <loc..> <loc..> .. "|" <eos> | padding
prefix, bidirectional         postfix, autoregressive
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Int32

from simloop.policies.tokenizers.action_pieces import find_action_tokens, piece_of_action_token
from simloop.policies.tokenizers.decoded import DecodedActions, OnFailure, failed
from simloop.policies.tokenizers.fast_actions import FastActionTokenizer
from simloop.policies.tokenizers.prompts import ACTIONS_BEGIN, ACTIONS_END, fast_prompt
from simloop.policies.tokenizers.sentencepiece_model import SPECIAL_IDS, SentencePieceModel


class FastTokenizer:
    """Encode actions of pi0-FAST as text tokens, and decode actions from generated tokens."""

    def __init__(self, model: SentencePieceModel, actions: FastActionTokenizer):
        self.model = model
        self.actions = actions

    def decode(
        self,
        generated: Int[np.ndarray, "_"] | Sequence[int],
        *,
        steps: int,
        size: int,
        on_failure: OnFailure = "undecodable",
    ) -> DecodedActions:
        """Normalized actions, float64 [steps, size], of generated tokens."""
        generated = tuple(int(token) for token in generated)
        found = find_action_tokens(generated, self.model)
        actions = None if found is None else self.actions.decode(found, steps=steps, size=size)
        if actions is None:
            return failed(generated, steps, size, on_failure)
        return DecodedActions(actions)

    def coefficients_by_id(self, vocab_size: int) -> Int32[np.ndarray, "{vocab_size}"]:
        """Number of DCT coefficients that each vocabulary id encodes; 0 for ids that encode none."""
        coefficients = np.zeros(vocab_size, np.int32)
        for token, count in enumerate(self.actions.coefficients_by_token()):
            coefficients[piece_of_action_token(token, self.model.pieces)] = count
        return coefficients

    def encode_answer(self, actions: Float[np.ndarray, "t a"]) -> list[int]:
        """Token ids of normalized actions and the words around them, EOS last.

        Raises:
          ActionRangeError: If the action tokenizer cannot encode them.
        """
        pieces = [piece_of_action_token(token, self.model.pieces) for token in self.actions.encode(actions)]
        return [*self.leading(), *pieces, *self.closing()]

    def leading(self) -> tuple[int, ...]:
        """Ids at the start of every answer."""
        return tuple(self.model.encode(ACTIONS_BEGIN))

    def closing(self) -> tuple[int, ...]:
        """Ids at the end of every answer, EOS last."""
        return (*self.model.encode(ACTIONS_END), SPECIAL_IDS["eos"])


def encode_prompt(model: SentencePieceModel, instruction: str, state: Float[np.ndarray, "s"]) -> list[int]:
    """Token ids of the prompt, BOS first."""
    return [SPECIAL_IDS["bos"], *model.encode(fast_prompt(instruction, state))]
