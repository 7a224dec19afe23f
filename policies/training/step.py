"""One training step as a pure function: loss, gradients, update, moving average.

Parameters are flat mappings by published name, split into trained and frozen ones. Axis letters: b batch,
c chunk steps, a padded action size, e entries of the environment's state, r rows of auxiliary losses, m flow times of
a row.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float32, Int32

from simloop.policies.guidance import DelayDistribution
from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.flow_matching import (
    committed_times,
    training_delays,
    training_noise_and_time,
)
from simloop.policies.models.model_input import AnyArray, ModelInput, image_as_float
from simloop.policies.models.parameters import Model, abstract_model, assigned
from simloop.policies.models.pi0_fast import Pi0Fast
from simloop.policies.models.pytrees import pytree
from simloop.policies.training.optimizer import Schedule
from simloop.policies.training.state_prediction import STATE_HEAD, image_losses, output_losses
from simloop.policies.transforms.augmentation import Augmentation, augment

Parameters: TypeAlias = dict[str, jax.Array]

UNCOUNTED_IN_NORM = re.compile(r"bias|scale|pos_embedding|input_embedding")
"""Last parts of parameter names that the logged norm excludes, as openpi's logs do."""


@pytree
class TrainState:
    """State of a training run between two steps."""

    step: Int32[Array, ""]
    """Completed steps."""
    trained: Parameters
    frozen: Parameters
    averaged: Parameters | None
    """Moving average of `trained`; None if none is kept."""
    optimizer: Any


@pytree
class TrainingBatch:
    """Examples of one step."""

    inputs: ModelInput
    actions: Float32[AnyArray, "b c a"] | None = None
    """Normalized and padded; None for token models."""
    states: Float32[AnyArray, "b e"] | None = None
    """Targets of state prediction; see `target_states`."""


@pytree
class Metrics:
    """Scalars of one step for the curves."""

    loss: Float32[Array, ""]
    """Loss of the objective."""
    state_loss: Float32[Array, ""]
    """Auxiliary loss of state prediction; 0 without one."""
    gradient_norm: Float32[Array, ""]
    """Before clipping."""
    parameter_norm: Float32[Array, ""]
    learning_rate: Float32[Array, ""]


@dataclass(frozen=True)
class StepRules:
    """Everything besides the model that determines a step."""

    rate: Schedule
    transformation: optax.GradientTransformation
    ema_decay: float | None = 0.99
    """None keeps no moving average."""
    micro_batches: int = 1
    """Parts that a batch is split into to save memory; their gradients are averaged."""
    augmentation: Augmentation | None = None
    flow_samples: int = 1
    """Noises and flow times per chunk, for flow models."""
    max_delay: int = 0
    """Longest delay in control steps that flow models are trained for; the steps of a chunk before it are given."""
    delay_distribution: DelayDistribution = "uniform"
    state_loss_weight: float = 0.0
    """Weight of the auxiliary loss of state prediction."""
    images_only: bool = False
    """Whether only the image encoder is trained, by state prediction."""


class FlowDraws(NamedTuple):
    """Random values of the flow loss of a step."""

    noise: Float32[Array, "b *m c a"]
    time: Float32[Array, "b *m"] | Float32[Array, "b *m c"]
    """Flow times of rows; of every step of a chunk where some are given."""
    weights: Float32[Array, "b *m c"] | None
    """Weights of the losses of steps, of mean 1: 0 where actions are given. None if all weigh the same."""


def initial_state(trained: Parameters, frozen: Parameters, rules: StepRules) -> TrainState:
    """The state before the first step, whose average equals the initial weights."""
    averaged = None if rules.ema_decay is None else jax.tree.map(jnp.copy, trained)
    return TrainState(jnp.zeros((), jnp.int32), trained, frozen, averaged, rules.transformation.init(trained))


def make_step(
    config: ModelConfig, rules: StepRules
) -> Callable[[TrainState, TrainingBatch, Array], tuple[TrainState, Metrics]]:
    """Make the function of one step, to be compiled by the caller.

    It takes the state, a batch and the key of the training run, which it folds the step number into.
    """
    graph, abstract = nnx.split(abstract_model(config))

    def mean_loss(
        trained: Parameters, frozen: Parameters, batch: TrainingBatch, draws: Any
    ) -> tuple[Array, tuple[Array, Array]]:
        head = {name: x for name, x in trained.items() if name.startswith(STATE_HEAD)}
        of_model = {name: x for name, x in trained.items() if name not in head}
        model = nnx.merge(graph, assigned(abstract, {**frozen, **of_model}))
        losses, state_losses = _losses(model, head, batch, draws, rules)
        loss, state_loss = losses.mean(), state_losses.mean()
        return loss + rules.state_loss_weight * state_loss, (loss, state_loss)

    def step(state: TrainState, batch: TrainingBatch, key: Array) -> tuple[TrainState, Metrics]:
        draws = _draws(config, batch, jax.random.fold_in(key, state.step), rules)
        (loss, state_loss), gradients = _loss_and_gradients(
            mean_loss, state, batch, draws, rules.micro_batches
        )
        updates, optimizer = rules.transformation.update(gradients, state.optimizer, state.trained)
        trained: Any = optax.apply_updates(state.trained, updates)
        averaged = state.averaged
        if rules.ema_decay is not None:
            d = rules.ema_decay
            averaged = jax.tree.map(lambda old, new: d * old + (1.0 - d) * new, averaged, trained)
        metrics = Metrics(
            loss=loss,
            state_loss=state_loss,
            gradient_norm=optax.global_norm(gradients),
            parameter_norm=_parameter_norm({**state.frozen, **trained}),
            learning_rate=jnp.asarray(rules.rate(state.step), jnp.float32),
        )
        return TrainState(state.step + 1, trained, state.frozen, averaged, optimizer), metrics

    return step


def _draws(config: ModelConfig, batch: TrainingBatch, key: Array, rules: StepRules) -> Any:
    """Random values of a step: an augmentation key per micro-batch, noise and flow times.

    Noise and times are drawn for the whole batch, so that splitting it changes rounding only.
    """
    augment_key = jax.random.split(key, 3)[0]
    parts = rules.micro_batches
    keys = augment_key[None] if parts == 1 else jax.random.split(augment_key, parts)
    if config.action_expert is None or rules.images_only:
        return keys, None
    return keys, flow_draws(config, batch.inputs.batch, key, rules)


def flow_draws(config: ModelConfig, rows: int, key: Array, rules: StepRules) -> FlowDraws:
    """Draw noise, flow times and delays of a step of `rows` chunks; one flow time per chunk has no axis of its own."""
    samples, size = rules.flow_samples, (config.action_horizon, config.action_dim)
    noise, time = training_noise_and_time(key, rows * samples, *size)
    weights = None
    if rules.max_delay:
        # The published keys are the first three that `key` is split into.
        delay_key = jax.random.fold_in(key, 3)
        delays = training_delays(delay_key, time.shape, rules.max_delay, rules.delay_distribution)
        time = committed_times(time, delays, config.action_horizon)
        learnt = (time > 0).astype(jnp.float32)
        weights = learnt / learnt.mean()
    draws = FlowDraws(noise, time, weights)
    if samples == 1 and not rules.state_loss_weight:
        return draws
    split: FlowDraws = jax.tree.map(lambda x: x.reshape(rows, samples, *x.shape[1:]), draws)
    return split


def _losses(
    model: Model,
    head: Parameters,
    batch: TrainingBatch,
    draws: Any,
    rules: StepRules,
) -> tuple[Float32[Array, "*b"], Float32[Array, "*r"]]:
    """Losses of every row (for flow models, of every step of its chunk), and those of state prediction."""
    augment_key, flow = draws
    inputs, zero = batch.inputs, jnp.zeros((1,), jnp.float32)
    if rules.augmentation is not None:
        images = {name: image_as_float(image) for name, image in inputs.images.items()}
        inputs = dataclasses.replace(inputs, images=augment(images, augment_key, rules.augmentation))
    targets = None if batch.states is None else jnp.asarray(batch.states)
    if rules.images_only:
        return image_losses(model, head, inputs, targets), zero
    if isinstance(model, Pi0Fast):
        losses, outputs = model.loss_and_outputs(inputs)
        return losses, zero if targets is None else output_losses(head, outputs, targets)
    noise, time, weights = flow
    if batch.actions is None:
        raise ValueError("Flow models are trained on actions; the batch has none.")
    outputs = None
    if noise.ndim == 3:
        losses = model.loss(inputs, batch.actions, noise, time)
    else:
        losses, outputs = model.loss_and_outputs(inputs, batch.actions, noise, time)
    if weights is not None:
        losses = losses * weights
    return losses, zero if targets is None or outputs is None else output_losses(head, outputs, targets)


def _loss_and_gradients(
    mean_loss: Callable[..., Any], state: TrainState, batch: TrainingBatch, draws: Any, micro_batches: int
) -> tuple[tuple[Array, Array], Parameters]:
    """Both losses, and the gradients of their weighted sum."""
    value_and_grad = jax.value_and_grad(mean_loss, has_aux=True)
    keys, flow = draws
    if micro_batches == 1:
        (_, losses), gradients = value_and_grad(state.trained, state.frozen, batch, (keys[0], flow))
        return losses, gradients

    # Every m-th row, so that rows stay on their device.
    def split(x: Array) -> Array:
        return jnp.swapaxes(x.reshape(-1, micro_batches, *x.shape[1:]), 0, 1)

    def one(carry: tuple, part: tuple) -> tuple[tuple, None]:
        (_, losses), gradients = value_and_grad(state.trained, state.frozen, part[0], part[1])
        return jax.tree.map(jnp.add, carry, (losses, gradients)), None

    zero = jnp.zeros((), jnp.float32)
    start = ((zero, zero), jax.tree.map(jnp.zeros_like, state.trained))
    parts = (jax.tree.map(split, batch), (keys, jax.tree.map(split, flow)))
    (losses, gradients), _ = jax.lax.scan(one, start, parts)
    return jax.tree.map(lambda total: total / micro_batches, (losses, gradients))


def _parameter_norm(parameters: Parameters) -> Float32[Array, ""]:
    counted = [
        value.astype(jnp.float32)
        for name, value in parameters.items()
        if value.ndim > 1 and not UNCOUNTED_IN_NORM.fullmatch(name.rsplit("/", 1)[-1])
    ]
    return optax.global_norm(counted)
