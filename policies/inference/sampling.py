"""Compiled functions that answer a batch: from model inputs and a key per row to actions, or to tokens.

Axis letters: b batch, c chunk steps, a padded action size, m generated tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jaxtyping import Array, Float32, Int32, UInt32

from simloop.policies.inference.flat_jit import compiled
from simloop.policies.inference.weight_layout import laid_out
from simloop.policies.models.constrained_decoding import ActionGrammar
from simloop.policies.models.flow_matching import noise_from_keys
from simloop.policies.models.guidance import Guidance
from simloop.policies.models.inference_plan import InferencePlan
from simloop.policies.models.model_input import ModelInput
from simloop.policies.models.parameters import Model
from simloop.policies.models.pi0 import Pi0, Schedule
from simloop.policies.models.pi0_fast import Pi0Fast


def sampler(
    model: Model,
    plan: InferencePlan,
    *,
    flow_steps: int,
    answer_tokens: int,
    grammar: ActionGrammar | None = None,
    forced_prefix: Sequence[int] = (),
    consume: bool = False,
) -> functools.partial:
    """Return a jitted function of a batch and a key per row, uint32 [b, 2], that compiles once per shape.

    Weights are laid out and everything that does not depend on queries is computed here.

    Args:
      model: In the published layout, or already laid out for the plan. Later changes of its weights have no effect.
      plan: How the model is executed.
      flow_steps: Euler steps of flow models.
      answer_tokens: Maximum length of an answer in tokens.
      grammar: Constraints on an answer in tokens, which also set its maximum length.
      forced_prefix: Tokens that answers are expected to start with.
      consume: Delete weights once they are laid out anew, so that memory does not hold them twice. `model` must
        not be used afterwards.
    """
    if isinstance(model, Pi0Fast):
        most = answer_tokens if grammar is None else grammar.max_tokens
        forced = tuple(forced_prefix) if plan.forced_prefix else ()
        function = functools.partial(sample_tokens, most, grammar, forced)
        return compiled_for_inference(model, function, plan, consume=consume)
    schedule = jax.block_until_ready(compiled(model, lambda model: model.schedule(flow_steps))())
    return functools.partial(compiled_for_inference(model, sample_actions, plan, consume=consume), schedule)


def compiled_for_inference(
    model: Model, function: Callable[..., Any], plan: InferencePlan, *, consume: bool = False
) -> functools.partial:
    """Compile `function(model, *args)` as a plan says; see `compiled`."""
    model = laid_out(model, plan, consume=consume)
    return compiled(model, function, separate_layers=bool(plan.unroll_layers), consume=consume)


def sample_actions(
    model: Pi0,
    schedule: Schedule,
    batch: ModelInput,
    keys: UInt32[Array, "b 2"],
    guidance: Guidance | None = None,
) -> Float32[Array, "b c a"]:
    """Sample actions by flow matching, from noise that is drawn from the key of each row, guided or not."""
    typed = jax.random.wrap_key_data(keys, impl="threefry2x32")
    noise = noise_from_keys(typed, model.config.action_horizon, model.config.action_dim)
    return model.sample_actions(batch, noise, schedule, guidance)


def sample_tokens(
    max_tokens: int,
    grammar: ActionGrammar | None,
    forced_prefix: tuple[int, ...],
    model: Pi0Fast,
    batch: ModelInput,
    keys: UInt32[Array, "b 2"],
) -> Int32[Array, "b m"]:
    """Generate the likeliest tokens. Nothing is random."""
    del keys
    return model.sample_tokens(batch, max_tokens, grammar=grammar, forced_prefix=forced_prefix).tokens
