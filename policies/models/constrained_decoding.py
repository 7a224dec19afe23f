"""Constrained decoding of pi0-FAST: only tokens that lead to a whole action chunk may be generated.

An answer consists of an opening, action tokens, and an end. Each action token encodes some of the DCT coefficients of
the chunk, whose total number is fixed. A token that would exceed it is masked, and the end comes exactly when all
coefficients are encoded.

Axis letters: b batch, v vocabulary, k tokens before the actions, e tokens after them, r action tokens.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32

from simloop.policies.models.model_input import AnyArray
from simloop.policies.models.pytrees import pytree
from simloop.policies.tokenizers.fast import FastTokenizer


@pytree
class ActionGrammar:
    """Constraints on the tokens of an answer, as arrays."""

    coefficients: Int32[AnyArray, " v"]
    """Number of whole coefficients that each id encodes; 0 for ids that are no action tokens."""
    total: Int32[AnyArray, ""]
    """Coefficients of a chunk."""
    begin: Int32[AnyArray, " k"]
    """Tokens before the actions; below zero where any action token may stand."""
    end: Int32[AnyArray, " e"]
    """Tokens after the actions, the end token last."""

    @property
    def max_tokens(self) -> int:
        """Length of the longest answer, which has one token per coefficient."""
        return len(self.begin) + int(self.total) + len(self.end)

    def action_ids(self) -> Int32[np.ndarray, " r"]:
        """Ids of all action tokens, ascending."""
        return np.flatnonzero(np.asarray(self.coefficients)).astype(np.int32)

    def opening(self, count: int) -> Int32[np.ndarray, "{count}"]:
        """First tokens of every answer; -1 where they are not fixed."""
        begin = np.asarray(self.begin)[:count]
        return np.pad(begin, (0, count - len(begin)), constant_values=-1)

    def masked(
        self,
        logits: Float[Array, "b _v"],
        encoded: Int32[Array, " b"],
        candidates: Int32[np.ndarray, " _v"] | None = None,
    ) -> Float[Array, "b _v"]:
        """Set the logits of tokens that do not fit after `encoded` coefficients to minus infinity.

        Args:
          logits: Of all ids, or of `candidates`.
          encoded: Coefficients so far.
          candidates: Ids; None for all.
        """
        coefficients = jnp.asarray(self.coefficients)
        coefficients = coefficients if candidates is None else coefficients[jnp.asarray(candidates)]
        fits: Bool[Array, "b _v"] = encoded[:, None] + coefficients[None] <= self.total
        return jnp.where(fits & (coefficients > 0)[None], logits, -jnp.inf)

    def advance(
        self, chosen: Int32[Array, " b"], step: Int32[Array, ""], encoded: Int32[Array, " b"]
    ) -> tuple[Int32[Array, " b"], Int32[Array, " b"]]:
        """Return the token of this step and the coefficients encoded after it.

        Args:
          chosen: Tokens chosen by their masked logits; replaced before and after the actions.
          step: Number of tokens before this one.
          encoded: Coefficients so far; from `total` on, it also counts the tokens of the end.
        """
        total = jnp.asarray(self.total)
        begin, end = jnp.asarray(self.begin), jnp.asarray(self.end)
        opening = begin[jnp.clip(step, 0, len(begin) - 1)]
        before, after = (step < len(begin)) & (opening >= 0), encoded >= total
        closing = end[jnp.clip(encoded - total, 0, len(end) - 1)]
        token = jnp.where(after, closing, chosen)
        added = jnp.where(after, 1, jnp.asarray(self.coefficients)[token])
        return jnp.where(before, opening, token), encoded + jnp.where(before, 0, added)


def action_grammar(tokenizer: FastTokenizer, steps: int, size: int, vocab_size: int) -> ActionGrammar:
    """Grammar of answers that encode chunks of `steps` x `size` actions, for a model with `vocab_size` ids."""
    return ActionGrammar(
        coefficients=tokenizer.coefficients_by_id(vocab_size),
        total=np.array(steps * size, np.int32),
        begin=np.array(tokenizer.leading(), np.int32),
        end=np.array(tokenizer.closing(), np.int32),
    )
