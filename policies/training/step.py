"""One step of training: loss, gradients, update, moving average. Pure, and compiled by the caller.

Parameters are flat mappings by published name, split into those that are trained and those that are
frozen. Axis letters: b batch, m micro-batches, c chunk steps, a padded action size, e entries of the environment's
state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float32, Int32

from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.model_input import AnyArray, ModelInput, image_as_float
from simloop.policies.models.parameters import Model, abstract_model, assigned
from simloop.policies.models.pi0 import training_noise_and_time
from simloop.policies.models.pi0_fast import Pi0Fast
from simloop.policies.models.pytrees import pytree
from simloop.policies.training.optimizer import Schedule
from simloop.policies.training.state_prediction import READER, image_losses, output_losses
from simloop.policies.transforms.augmentation import Augmentation, augment

Parameters: TypeAlias = dict[str, jax.Array]

UNCOUNTED_IN_NORM = re.compile(r"bias|scale|pos_embedding|input_embedding")
"""Last parts of names that the logged norm of the parameters leaves out, as the published logs do."""


@pytree
class TrainState:
    """Everything that a step changes, and what it must not lose."""

    step: Int32[Array, ""]
    """Steps done."""
    trained: Parameters
    frozen: Parameters
    averaged: Parameters | None
    """Moving average of `trained`, where one is kept."""
    optimizer: Any


@pytree
class TrainingBatch:
    """What one step learns from."""

    inputs: ModelInput
    actions: Float32[AnyArray, "b c a"] | None = None
    """Normalised and padded; None for models that predict tokens."""
    locations: Float32[AnyArray, "b e"] | None = None
    """Where things are, if that is learnt too or alone; see `locating`."""


@pytree
class Metrics:
    """What one step tells about itself."""

    loss: Float32[Array, ""]
    """Of the objective alone."""
    location_loss: Float32[Array, ""]
    """Of saying where things are, where that is learnt beside the objective, else 0."""
    gradient_norm: Float32[Array, ""]
    """Before clipping."""
    parameter_norm: Float32[Array, ""]
    learning_rate: Float32[Array, ""]


@dataclass(frozen=True)
class StepRules:
    """What decides the arithmetic of a step besides the model."""

    rate: Schedule
    transformation: optax.GradientTransformation
    ema_decay: float | None = 0.99
    """None keeps no moving average."""
    micro_batches: int = 1
    """Parts that a batch is split into; their gradients are averaged, which saves memory."""
    augmentation: Augmentation | None = None
    flow_samples: int = 1
    """Noises and flow times at which a flow model learns each chunk."""
    locate_weight: float = 0.0
    """Of the loss of saying where things are, beside that of the actions."""
    images_alone: bool = False
    """Whether the image encoder learns to locate, and nothing else is learnt."""


def initial_state(trained: Parameters, frozen: Parameters, rules: StepRules) -> TrainState:
    """The state before the first step; the average starts at the initial weights."""
    averaged = None if rules.ema_decay is None else jax.tree.map(jnp.copy, trained)
    return TrainState(jnp.zeros((), jnp.int32), trained, frozen, averaged, rules.transformation.init(trained))


def make_step(
    config: ModelConfig, rules: StepRules
) -> Callable[[TrainState, TrainingBatch, Array], tuple[TrainState, Metrics]]:
    """The function of one step, to be compiled with `jax.jit`.

    It takes the state, a batch and the key of the whole training, and folds the step into the key.
    """
    graph, abstract = nnx.split(abstract_model(config))

    def mean_loss(
        trained: Parameters, frozen: Parameters, batch: TrainingBatch, draws: Any
    ) -> tuple[Array, tuple[Array, Array]]:
        reader = {name: x for name, x in trained.items() if name.startswith(READER)}
        of_model = {name: x for name, x in trained.items() if name not in reader}
        model = nnx.merge(graph, assigned(abstract, {**frozen, **of_model}))
        losses, of_locating = _losses(model, reader, batch, draws, rules)
        loss, location_loss = losses.mean(), of_locating.mean()
        return loss + rules.locate_weight * location_loss, (loss, location_loss)

    def step(state: TrainState, batch: TrainingBatch, key: Array) -> tuple[TrainState, Metrics]:
        draws = _draws(config, batch, jax.random.fold_in(key, state.step), rules)
        (loss, location_loss), gradients = _loss_and_gradients(
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
            location_loss=location_loss,
            gradient_norm=optax.global_norm(gradients),
            parameter_norm=_parameter_norm({**state.frozen, **trained}),
            learning_rate=jnp.asarray(rules.rate(state.step), jnp.float32),
        )
        return TrainState(state.step + 1, trained, state.frozen, averaged, optimizer), metrics

    return step


def _draws(config: ModelConfig, batch: TrainingBatch, key: Array, rules: StepRules) -> Any:
    """Everything random of a step: a key for augmentation per micro-batch, noise and flow times.

    Noise and times are drawn for the whole batch, so that splitting it changes rounding only.
    """
    augment_key = jax.random.split(key, 3)[0]
    parts = rules.micro_batches
    keys = augment_key[None] if parts == 1 else jax.random.split(augment_key, parts)
    if config.action_expert is None or rules.images_alone:
        return keys, None
    rows, samples = batch.inputs.batch, rules.flow_samples
    size = (config.action_horizon, config.action_dim)
    noise, time = training_noise_and_time(key, rows * samples, *size)
    if samples == 1 and not rules.locate_weight:
        return keys, (noise, time)
    return keys, (noise.reshape(rows, samples, *size), time.reshape(rows, samples))


def _losses(
    model: Model,
    reader: Parameters,
    batch: TrainingBatch,
    draws: Any,
    rules: StepRules,
) -> tuple[Float32[Array, "*b"], Float32[Array, "*r"]]:
    """The loss of every row (and, for flow models, of every step of its chunk), and that of locating."""
    augment_key, flow = draws
    inputs, nothing = batch.inputs, jnp.zeros((1,), jnp.float32)
    augmentation = rules.augmentation
    if augmentation is not None:
        images = {name: image_as_float(image) for name, image in inputs.images.items()}
        inputs = _with_images(inputs, augment(images, augment_key, augmentation))
    wanted = None if batch.locations is None else jnp.asarray(batch.locations)
    if rules.images_alone:
        return image_losses(model, reader, inputs, wanted), nothing
    if isinstance(model, Pi0Fast):
        losses, outputs = model.loss_and_outputs(inputs)
        return losses, nothing if wanted is None else output_losses(reader, outputs, wanted)
    noise, time = flow
    if batch.actions is None:
        raise ValueError("A flow model learns from actions; the batch has none.")
    if time.ndim == 1:
        return model.loss(inputs, batch.actions, noise, time), nothing
    losses, outputs = model.loss_and_outputs(inputs, batch.actions, noise, time)
    return losses, nothing if wanted is None else output_losses(reader, outputs, wanted)


def _with_images(inputs: ModelInput, images: Mapping[str, Array]) -> ModelInput:
    return ModelInput(
        images=dict(images),
        image_masks=inputs.image_masks,
        state=inputs.state,
        tokens=inputs.tokens,
        token_mask=inputs.token_mask,
        token_ar_mask=inputs.token_ar_mask,
        token_loss_mask=inputs.token_loss_mask,
    )


def _loss_and_gradients(
    mean_loss: Callable[..., Any], state: TrainState, batch: TrainingBatch, draws: Any, micro_batches: int
) -> tuple[tuple[Array, Array], Parameters]:
    """Both losses, and the gradients of what is minimised."""
    value_and_grad = jax.value_and_grad(mean_loss, has_aux=True)
    keys, flow = draws
    if micro_batches == 1:
        (_, losses), gradients = value_and_grad(state.trained, state.frozen, batch, (keys[0], flow))
        return losses, gradients

    # Every m-th row, so that rows which lie on one device stay there.
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
