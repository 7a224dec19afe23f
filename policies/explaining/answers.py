"""What a token model thinks of each token of its answer, and what other tokens would have meant.

Axis letters: k tokens of an answer, v vocabulary, n continuations, m longest answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32

from simloop.policies.models.constrained_decoding import ActionGrammar
from simloop.policies.models.model_input import AnyArray, ModelInput
from simloop.policies.models.pi0_fast import END_TOKEN, Pi0Fast

FREE = -1
"""In place of a token that is not given."""


@dataclass(frozen=True)
class RunnerUp:
    """A likely token that was not taken."""

    token: int
    piece: str
    coefficients: tuple[int, ...]
    """As in `AnswerToken`."""
    probability: float
    change: float | None
    """Root mean square change of the chunk, in units of its spread, if the answer continues from this token; None if
    it decodes to no chunk, or the token cannot be continued."""


@dataclass(frozen=True)
class AnswerToken:
    """One token of an answer."""

    token: int
    piece: str
    coefficients: tuple[int, ...]
    """Rounded DCT coefficients of the chunk that the token encodes, of each action dimension at the lowest frequency,
    then at the next; none for tokens around the actions."""
    probability: float
    """Of all tokens of the vocabulary, before the grammar masks any."""
    entropy_bits: float
    """Of the distribution over the vocabulary."""
    allowed: float
    """Probability of all tokens that the grammar allows here; 1 without a grammar."""
    forced: bool
    """Whether the grammar decided: the likeliest token of the vocabulary was not the one taken."""
    fixed: bool
    """Whether the grammar leaves one token only."""
    runners_up: tuple[RunnerUp, ...]


def probabilities(logits: Float[np.ndarray, "k v"]) -> Float[np.ndarray, "k v"]:
    """Softmax in float64."""
    wide = logits.astype(np.float64)
    exponential = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return exponential / exponential.sum(axis=-1, keepdims=True)


def entropy_bits(p: Float[np.ndarray, "k v"]) -> Float[np.ndarray, " k"]:
    """Shannon entropy of each row."""
    return -(p * np.log2(np.where(p > 0, p, 1.0))).sum(axis=-1)


def allowed_tokens(
    grammar: ActionGrammar, answer: Int32[np.ndarray, " k"], vocabulary: int
) -> Bool[np.ndarray, "k {vocabulary}"]:
    """Tokens that the grammar allows at every place of an answer."""
    begin, end = np.asarray(grammar.begin), np.asarray(grammar.end)
    coefficients, total = np.asarray(grammar.coefficients), int(grammar.total)
    allowed = np.zeros((len(answer), vocabulary), np.bool_)
    encoded = 0
    for i, token in enumerate(answer):
        if i < len(begin):
            allowed[i, begin[i]] = True
        elif encoded >= total:
            allowed[i, end[min(encoded - total, len(end) - 1)]] = True
            encoded += 1
        else:
            allowed[i] = (coefficients > 0) & (encoded + coefficients <= total)
            encoded += int(coefficients[token])
    return allowed


def without_end(tokens: Int32[np.ndarray, " m"]) -> Int32[np.ndarray, "_"]:
    """The tokens of an answer up to its end token, which is left in."""
    ends = np.flatnonzero(tokens == END_TOKEN)
    return tokens[: ends[0] + 1] if len(ends) else tokens


def continued(
    model: Pi0Fast,
    coefficients: Int32[np.ndarray, " v"],
    end: Int32[np.ndarray, "_"],
    most: int,
    batch: ModelInput,
    given: Int32[AnyArray, "n m"],
    left: Int32[AnyArray, " n"],
) -> Int32[Array, "n m"]:
    """Continue answers to one query, each from tokens that are given, by constrained decoding.

    Args:
      coefficients: As in `ActionGrammar`, as is `end`.
      most: Length of the longest answer.
      batch: One row.
      given: First tokens of each answer; `FREE` from where it continues.
      left: Coefficients that the rest of each answer encodes.
    """

    def one(given: Array, left: Array) -> Array:
        grammar = ActionGrammar(coefficients, left, given, end)
        return model.sample_tokens(batch, most, grammar=grammar).tokens[0]

    return jax.vmap(one)(jnp.asarray(given), jnp.asarray(left))
