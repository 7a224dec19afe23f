"""Explain answers of pi0-FAST.

Axis letters: n draws, c chunk steps, a action size, k tokens of an answer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, UInt32

from simloop.policies.explaining import answers
from simloop.policies.explaining.answers import AnswerToken, RunnerUp
from simloop.policies.explaining.attention import answer_attention
from simloop.policies.explaining.base import DRAWS, Explainer, in_spreads, traced_alone
from simloop.policies.explaining.explanation import Explanation
from simloop.policies.explaining.inputs import valid_tokens
from simloop.policies.explaining.programs import keeping_attention, read_answer
from simloop.policies.inference.flat_jit import compiled
from simloop.policies.inference.model_policy import ModelPolicy
from simloop.policies.interface import Query
from simloop.policies.models.constrained_decoding import ActionGrammar, action_grammar
from simloop.policies.models.model_input import ModelInput
from simloop.policies.tokenizers.action_pieces import piece_of_action_token
from simloop.policies.tokenizers.fast import FastTokenizer

RUNNERS_UP = 2


class TokenExplainer(Explainer):
    """Explains pi0-FAST.

    Args:
      runners_up: Tokens beside the one taken, at every place of the answer, of which the consequence is computed.
    """

    def __init__(self, policy: ModelPolicy, draws: int = DRAWS, runners_up: int = RUNNERS_UP):
        super().__init__(policy, draws)
        assert policy.tokenizers.answer is not None
        self._answer: FastTokenizer = policy.tokenizers.answer
        sizes = policy.preset.model
        self._grammar = action_grammar(self._answer, sizes.action_horizon, sizes.action_dim, sizes.vocab_size)
        self._constrained = policy.preset.decoding == "constrained"
        self._runners_up = runners_up
        grammar = self._grammar if self._constrained else None
        self._most = self._grammar.max_tokens if self._constrained else policy.preset.answer_tokens
        leading = self._answer.leading()
        sample = functools.partial(_sampled, most=self._most, grammar=grammar)
        self._greedy: Callable[..., Array] = compiled(
            policy.model, functools.partial(sample, temperature=0.0, forced=leading)
        )
        self._draw: Callable[..., Array] = compiled(policy.model, functools.partial(sample, temperature=1.0))
        self._read: Callable[..., Any] = compiled(keeping_attention(policy.model), read_answer)

        def continued(model: Any, *args: Any) -> Array:
            of = self._grammar
            return answers.continued(model, of.coefficients, of.end, of.max_tokens, *args)

        self._continue: Callable[..., Array] = compiled(policy.model, continued)

    def draws(self, inputs: ModelInput, keys: UInt32[np.ndarray, "n 2"]) -> Float[np.ndarray, "_n c a"]:
        return self._decoded(np.asarray(self._draw(inputs, keys)))

    def compared(self, inputs: ModelInput, keys: UInt32[np.ndarray, "n 2"]) -> Float[np.ndarray, "_n c a"]:
        return self._decoded(np.asarray(self._greedy(inputs, keys[:1])))

    def traced(
        self,
        query: Query,
        inputs: ModelInput,
        key: UInt32[np.ndarray, "1 2"],
        drawn: Float[np.ndarray, "_n c a"] | None,
    ) -> Explanation:
        tokens = np.asarray(self._greedy(inputs, key))[0]
        answer = answers.without_end(tokens)
        read = self._read(inputs, tokens)
        layout = self._layout(inputs, len(answer), state_token=False)
        attention = answer_attention(read, valid_tokens(self.policy, inputs), layout)
        chunk = self.policy.chunk_from(query, tokens).actions
        logits = np.asarray(read.logits[0, : len(answer)])
        told = None if drawn is None else self._told(inputs, answer, logits, drawn)
        return traced_alone(query, inputs, chunk, attention, None, told)

    def _told(
        self,
        inputs: ModelInput,
        answer: np.ndarray,
        logits: Float[np.ndarray, "k _v"],
        drawn: Float[np.ndarray, "_n c a"],
    ) -> tuple[AnswerToken, ...]:
        p = answers.probabilities(logits)
        entropy = answers.entropy_bits(p)
        allowed = answers.allowed_tokens(self._grammar, answer, p.shape[1])
        possible = allowed if self._constrained else np.ones_like(allowed)
        runners = [self._likeliest(p[i], possible[i], int(answer[i])) for i in range(len(answer))]
        changes = self._changes(inputs, answer, runners, allowed, drawn)
        return tuple(
            AnswerToken(
                **self._named(int(token)),
                probability=float(p[i, token]),
                entropy_bits=float(entropy[i]),
                allowed=float(p[i, possible[i]].sum()),
                forced=bool(p[i].argmax() != token),
                fixed=bool(possible[i].sum() == 1),
                runners_up=tuple(
                    RunnerUp(
                        **self._named(other),
                        probability=float(p[i, other]),
                        change=changes.get((i, other)),
                    )
                    for other in runners[i]
                ),
            )
            for i, token in enumerate(answer)
        )

    def _named(self, token: int) -> dict[str, Any]:
        """A token by id, piece and coefficients."""
        text, actions = self.policy.tokenizers.text, self._answer.actions
        coded = bool(self._grammar.coefficients[token])
        coefficients = actions.coefficients_of(piece_of_action_token(token, text.pieces)) if coded else ()
        return {"token": token, "piece": text.piece(token), "coefficients": coefficients}

    def _likeliest(self, p: np.ndarray, possible: np.ndarray, taken: int) -> list[int]:
        order = [int(token) for token in np.argsort(-np.where(possible, p, -1.0))[: self._runners_up + 1]]
        return [token for token in order if token != taken and possible[token]][: self._runners_up]

    def _changes(
        self,
        inputs: ModelInput,
        answer: np.ndarray,
        runners: list[list[int]],
        allowed: np.ndarray,
        drawn: Float[np.ndarray, "_n c a"],
    ) -> dict[tuple[int, int], float]:
        """Change of the chunk, in units of its spread, by place and token, if the answer continues from that token."""
        own = self._decoded(answer[None])
        grammar: ActionGrammar = self._grammar
        coefficients, begin = np.asarray(grammar.coefficients), np.asarray(grammar.begin)
        cases = [
            (i, other)
            for i, others in enumerate(runners)
            for other in others
            if i >= len(begin)
            and allowed[i, other]
            and coefficients[other]
            and (answer[: len(begin)] == begin).all()
        ]
        if not cases or not len(own) or len(drawn) < 2:
            return {}
        most = grammar.max_tokens
        # As many rows at every query, so that one program continues all of them.
        rows = most * self._runners_up
        given = np.full((rows, most), answers.FREE, np.int32)
        left = np.zeros(rows, np.int32)
        for row, (i, other) in enumerate(cases):
            given[row, :i], given[row, i] = answer[:i], other
            left[row] = int(grammar.total) - coefficients[answer[len(begin) : i]].sum() - coefficients[other]
        tokens = np.asarray(self._continue(inputs, given, left))
        size = self.policy.preset.action_size
        chunks = {case: self._decoded(tokens[row][None]) for row, case in enumerate(cases)}
        return {
            case: change
            for case, chunk in chunks.items()
            if len(chunk) and (change := in_spreads((chunk - own)[..., :size], drawn[..., :size])) is not None
        }

    def _decoded(self, tokens: np.ndarray) -> Float[np.ndarray, "_n c a"]:
        """Normalized chunks of answers, those that decode."""
        config = self.policy.preset.model
        chunks = [
            self._answer.decode(
                [int(token) for token in answers.without_end(one) if token != answers.END_TOKEN],
                steps=config.action_horizon,
                size=config.action_dim,
            )
            for one in tokens
        ]
        decoded = [chunk.actions for chunk in chunks if chunk.undecodable is None]
        shape = (0, config.action_horizon, config.action_dim)
        return np.stack(decoded) if decoded else np.zeros(shape)


def _sampled(
    model: Any,
    inputs: ModelInput,
    keys: UInt32[Array, "n 2"],
    *,
    temperature: float,
    most: int,
    grammar: ActionGrammar | None,
    forced: tuple[int, ...] = (),
) -> Array:
    """Answers to one query with a key each."""

    def one(key: Array) -> Array:
        drawn = model.sample_tokens(
            inputs, most, temperature=temperature, keys=key[None], grammar=grammar, forced_prefix=forced
        )
        return drawn.tokens[0]

    return jax.vmap(one)(keys)
