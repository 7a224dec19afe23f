"""Prompts of pi0 and pi0.5 as token ids."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Float

from simloop.policies.tokenizers.prompts import instruction_prompt, state_prompt
from simloop.policies.tokenizers.sentencepiece_model import SPECIAL_IDS, SentencePieceModel


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
    """Warn if a prompt has more than `max_tokens` tokens.

    It is then cut at its end and lacks the closing newline (pi0) or the words before the action (pi0.5), unlike any
    prompt in training.
    """
    if len(ids) > max_tokens:
        warnings.warn(
            f"The prompt of {instruction[:60]!r} has {len(ids)} tokens and is cut to {max_tokens}. "
            "Shorten the instruction or raise max_token_len.",
            stacklevel=3,
        )
