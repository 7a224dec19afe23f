"""Prompts of pi0 and pi0.5 as token ids of a fixed number."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int32

from simloop.policies.tokenizers.prompts import instruction_prompt, state_prompt
from simloop.policies.tokenizers.sentencepiece_model import SPECIAL_IDS, SentencePieceModel


@dataclass(frozen=True)
class PromptTokens:
    """Token ids padded to a fixed length."""

    tokens: Int32[np.ndarray, "l"]
    mask: Bool[np.ndarray, "l"]
    """True for tokens, False for padding."""


class PaligemmaTokenizer:
    """Encode prompts of the flow models, with their masks."""

    def __init__(self, model: SentencePieceModel, max_tokens: int):
        """Pad or cut every prompt to `max_tokens`."""
        self.model = model
        self.max_tokens = max_tokens

    def tokenize(self, instruction: str, state: Float[np.ndarray, "s"] | None = None) -> PromptTokens:
        """Tokens of an instruction (pi0), or of an instruction and a normalised state (pi0.5).

        A prompt that is too long is cut at its end, with a warning. It then lacks the closing newline (pi0) or
        the words before the action (pi0.5), unlike any prompt in training.
        """
        ids = encode_prompt(self.model, instruction, state)
        warn_if_cut(ids, self.max_tokens, instruction)
        return PromptTokens(filled(ids, self.max_tokens), filled([True] * len(ids), self.max_tokens, bool))


def encode_prompt(
    model: SentencePieceModel, instruction: str, state: Float[np.ndarray, "s"] | None = None
) -> list[int]:
    """Token ids of a prompt, BOS first, neither padded nor cut."""
    if state is None:
        ids = model.encode(instruction_prompt(instruction)) + model.encode("\n")
    else:
        ids = model.encode(state_prompt(instruction, state))
    return [SPECIAL_IDS["bos"], *ids]


def filled(values: list, length: int, dtype: type = np.int32) -> np.ndarray:
    """An array of `length` entries that begins with `values`, padded with zeros or cut."""
    array: np.ndarray = np.zeros(length, dtype)
    kept = values[:length]
    array[: len(kept)] = kept
    return array


def warn_if_cut(ids: list[int], max_tokens: int, instruction: str) -> None:
    """Warn if a prompt has more than `max_tokens` tokens."""
    if len(ids) > max_tokens:
        warnings.warn(
            f"The prompt of {instruction[:60]!r} has {len(ids)} tokens and is cut to {max_tokens}. "
            "Shorten the instruction or raise max_token_len.",
            stacklevel=3,
        )
