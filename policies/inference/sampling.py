"""The compiled function that answers a batch: from numbers and a key per row to actions, or to tokens.

Axis letters: b batch, c chunk steps, a padded action size, m generated tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, Float32, Int32, UInt32

from simloop.policies.inference.flat_jit import compiled
from simloop.policies.inference.fused_weights import with_joined_projections, with_kernels
from simloop.policies.models.constrained_decoding import ActionGrammar
from simloop.policies.models.model_input import ModelInput
from simloop.policies.models.parameters import Model
from simloop.policies.models.pi0 import Pi0, Schedule, noise_from_keys
from simloop.policies.models.pi0_fast import Pi0Fast


@dataclass(frozen=True)
class TokenConstraints:
    """What is known of answers in tokens before they are generated."""

    leading: tuple[int, ...] = ()
    """What every answer begins with."""
    candidates: tuple[int, ...] = ()
    """All tokens that an answer is made of, the end token too; () if that is not known."""


def answering(
    model: Model,
    *,
    flow_steps: int,
    answer_tokens: int,
    grammar: ActionGrammar | None = None,
    token_constraints: TokenConstraints | None = None,
    consume: bool = False,
) -> functools.partial:
    """A jitted function of a batch and a key per row, uint32 [b, 2], that compiles once per shape.

    The savings of the model's config are made here. What does not depend on queries is computed now.

    Args:
      model: Whose weights of this moment are used.
      flow_steps: Euler steps, for models that answer by flow matching.
      answer_tokens: Most tokens of an answer, for models that answer in tokens.
      grammar: What answers must look like, for such models; it says how long they may be, too.
      spelling: What answers are expected to look like, for such models, where that is known.
      consume: Delete weights of the model once they are laid out anew, so that memory need not hold them
        twice. The model is then of no use any more.
    """
    optimizations = model.config.optimizations
    if isinstance(model, Pi0Fast):
        most = answer_tokens if grammar is None else grammar.most_tokens
        token_constraints = token_constraints or TokenConstraints()
        token_constraints = TokenConstraints(
            token_constraints.leading if optimizations.leading_tokens else (),
            token_constraints.candidates if optimizations.restricted_head and grammar is None else (),
        )
        function = functools.partial(tokens, most, grammar, token_constraints)
        return compiled_for_inference(model, function, consume=consume)
    if not optimizations.schedule:
        return compiled_for_inference(
            model, lambda model, batch, keys: actions(model, flow_steps, batch, keys), consume=consume
        )
    schedule = jax.block_until_ready(compiled(model, lambda model: model.schedule(flow_steps))())
    return functools.partial(compiled_for_inference(model, actions, consume=consume), schedule)


def compiled_for_inference(
    model: Model, function: Callable[..., Any], *, consume: bool = False
) -> functools.partial:
    """`compiled`, with weights laid out and kernels taken as the model's config says."""
    config = model.config
    model = with_kernels(model, config.kernels)
    if config.unroll_layers and config.optimizations.joined_projections:
        model = with_joined_projections(model, consume=consume)
    separate = config.unroll_layers and config.optimizations.separate_layers
    return compiled(model, function, separate_layers=separate, consume=consume)


def actions(
    model: Pi0, steps: int | Int32[Array, ""] | Schedule, batch: ModelInput, keys: UInt32[Array, "b 2"]
) -> Float32[Array, "b c a"]:
    """Actions by flow matching, from noise that is drawn from each row's own key."""
    typed = jax.random.wrap_key_data(keys, impl="threefry2x32")
    noise = noise_from_keys(typed, model.config.action_horizon, model.config.action_dim)
    return model.sample_actions(batch, noise, steps)


def tokens(
    answer_tokens: int,
    grammar: ActionGrammar | None,
    token_constraints: TokenConstraints,
    model: Pi0Fast,
    batch: ModelInput,
    keys: UInt32[Array, "b 2"],
) -> Int32[Array, "b m"]:
    """The likeliest tokens: nothing is random."""
    del keys
    return model.sample_tokens(
        batch,
        answer_tokens,
        grammar=grammar,
        leading=token_constraints.leading,
        candidates=token_constraints.candidates,
    ).tokens
