"""Which tokens may follow in an answer of pi0-FAST, so that every answer spells a whole chunk.

An answer is the words before the actions, action tokens, and an end. Each action token spells some of
the chunk's DCT coefficients, and a chunk has a fixed number of them. A token that would spell too many
is not considered, and the end comes when, and only when, all are there: what is called guided or
constrained decoding of a language model.

Axis letters: b batch, v vocabulary, k tokens before the actions, e tokens after them.
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
    """The rules, as arrays."""

    coefficients: Int32[AnyArray, " v"]
    """How many whole coefficients each id spells; 0 for ids that no chunk may hold."""
    total: Int32[AnyArray, ""]
    """Coefficients of a chunk."""
    begin: Int32[AnyArray, " k"]
    """The words before the actions."""
    end: Int32[AnyArray, " e"]
    """What closes an answer, the end token last."""

    @property
    def most_tokens(self) -> int:
        """Length of the longest answer: a token for every coefficient."""
        return len(self.begin) + int(self.total) + len(self.end)

    def action_ids(self) -> Int32[np.ndarray, " r"]:
        """The ids that a chunk may hold, ascending: what the next token is looked for among."""
        return np.flatnonzero(np.asarray(self.coefficients)).astype(np.int32)

    def opening(self, count: int) -> Int32[np.ndarray, "{count}"]:
        """The first tokens of every answer; -1 where that is not known."""
        begin = np.asarray(self.begin)[:count]
        return np.pad(begin, (0, count - len(begin)), constant_values=-1)

    def considered(
        self,
        logits: Float[Array, "b _v"],
        spelled: Int32[Array, " b"],
        among: Int32[np.ndarray, " _v"] | None = None,
    ) -> Float[Array, "b _v"]:
        """The logits of the tokens that fit behind `spelled` coefficients; minus infinity for others.

        Args:
          logits: Of all ids, or of those `among` which the token is looked for.
          spelled: Coefficients so far.
          among: Ids; None for all.
        """
        coefficients = jnp.asarray(self.coefficients)
        coefficients = coefficients if among is None else coefficients[jnp.asarray(among)]
        fits: Bool[Array, "b _v"] = spelled[:, None] + coefficients[None] <= self.total
        return jnp.where(fits & (coefficients > 0)[None], logits, -jnp.inf)

    def follow(
        self, chosen: Int32[Array, " b"], step: Int32[Array, ""], spelled: Int32[Array, " b"]
    ) -> tuple[Int32[Array, " b"], Int32[Array, " b"]]:
        """The token of this step and what is spelled behind it.

        Args:
          chosen: Of those considered; taken unless the answer is before or behind its actions.
          step: Tokens before this one.
          spelled: Coefficients so far, and on from `total` the tokens of the end.
        """
        total = jnp.asarray(self.total)
        begin, end = jnp.asarray(self.begin), jnp.asarray(self.end)
        before, behind = step < len(begin), spelled >= total
        closing = end[jnp.clip(spelled - total, 0, len(end) - 1)]
        token = jnp.where(behind, closing, chosen)
        added = jnp.where(behind, 1, jnp.asarray(self.coefficients)[token])
        opening = begin[jnp.clip(step, 0, len(begin) - 1)]
        return jnp.where(before, opening, token), spelled + jnp.where(before, 0, added)


def action_grammar(tokenizer: FastTokenizer, steps: int, size: int, vocab_size: int) -> ActionGrammar:
    """Grammar of answers that encode chunks of `steps` x `size` actions, for a model with `vocab_size` ids."""
    return ActionGrammar(
        coefficients=tokenizer.coefficients_by_id(vocab_size),
        total=np.array(steps * size, np.int32),
        begin=np.array(tokenizer.leading(), np.int32),
        end=np.array(tokenizer.closing(), np.int32),
    )
