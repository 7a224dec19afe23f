"""Predict the state of the environment: pretraining of the image encoder, and an auxiliary loss.

Actions carry little information about an image: most of a flow model's loss is noise, and a puck that covers one
patch of seventy changes a small part of the rest. The state of the environment, which simulated demonstrations
record, describes every frame in full. A linear head, discarded after training, predicts it from

    all image tokens and the robot state           trains the image encoder alone, several times as fast
    the outputs that actions are computed from     beside the loss of the actions, at no cost

Axis letters: n frames of the data, b batch, m flow times, e entries of the environment's state, d width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.model_input import ModelInput, image_as_float
from simloop.policies.models.parameters import Model
from simloop.policies.training.errors import TrainingError
from simloop.policies.training.prepared import PreparedData

STATE_HEAD = "reader/"
"""Prefix of the names of the head's parameters."""
IMAGE_PARAMETERS = "PaliGemma/img/"
MIN_STD = 1e-4
"""Least standard deviation within tasks (in an entry's own unit) of entries to predict."""


def output_head_shapes(config: ModelConfig, entries: int) -> dict[str, tuple[int, ...]]:
    """Parameter shapes of the head on the outputs that actions are computed from."""
    expert = config.action_expert or config.language
    return {STATE_HEAD + "outputs": (expert.width, entries), STATE_HEAD + "bias": (entries,)}


def image_head_shapes(config: ModelConfig, cameras: int, entries: int) -> dict[str, tuple[int, ...]]:
    """Parameter shapes of the head on the image tokens of `cameras` cameras and the robot state."""
    tokens = (config.image_size // config.image_encoder.patch_size) ** 2 * cameras
    return {
        STATE_HEAD + "tokens": (tokens * config.language.width, entries),
        STATE_HEAD + "state": (config.action_dim, entries),
        STATE_HEAD + "bias": (entries,),
    }


def target_states(data: PreparedData) -> Float32[np.ndarray, "n e"]:
    """Targets: the environment's state of every frame, standardised within the frame's task.

    Each entry is centred on its mean over the task and divided by its standard deviation within tasks. Constant
    entries are left out.

    Raises:
      TrainingError: If the data lack the state, it is not finite, or every entry is constant.
    """
    x = data.environment_states
    if x.shape[1] == 0:
        raise TrainingError(
            f"State prediction needs the state of the environment (observation.environment_state); "
            f"{data.folder}, or a dataset that is trained on with it, has none of the same size. Collect "
            "demonstrations with simloop collect, or train with objective=actions."
        )
    if bad := np.flatnonzero(~np.isfinite(x).all(axis=1)).tolist():
        raise TrainingError(
            f"{data.folder}: the state of the environment is NaN or infinite in frame {bad[0]}. Remove its "
            "episode, or train with objective=actions."
        )
    centred = x.astype(np.float64)
    for task in np.unique(data.task_of_frame):
        rows = data.task_of_frame == task
        centred[rows] -= centred[rows].mean(axis=0)
    std = centred.std(axis=0)
    varies = std > MIN_STD
    if not varies.any():
        raise TrainingError(
            f"{data.folder}: no entry of the environment's state varies by more than {MIN_STD:g} within a task, so "
            "there is no state to predict. Train with objective=actions."
        )
    return (centred[:, varies] / std[varies]).astype(np.float32)


def output_losses(
    head: Mapping[str, Any], outputs: Float32[Array, "b *m d"], targets: Float32[Array, "b e"]
) -> Float32[Array, "b *m"]:
    """Mean squared error over the entries, predicted from the outputs that actions are computed from."""
    predicted = outputs @ head[STATE_HEAD + "outputs"] + head[STATE_HEAD + "bias"]
    targets = targets.reshape(targets.shape[0], *(1,) * (predicted.ndim - 2), targets.shape[1])
    return jnp.mean(jnp.square(predicted - targets), axis=-1)


def image_losses(
    model: Model, head: Mapping[str, Any], inputs: ModelInput, targets: Float32[Array, "b e"]
) -> Float[Array, " b"]:
    """Mean squared error over the entries, predicted from image tokens and robot state."""
    cameras = [camera for camera in model.config.cameras if camera in inputs.images]
    images = jnp.concatenate([image_as_float(inputs.images[camera]) for camera in cameras])
    tokens = model.image_encoder(images).out
    by_row = jnp.moveaxis(tokens.reshape(len(cameras), -1, *tokens.shape[1:]), 0, 1)
    flat = by_row.reshape(by_row.shape[0], -1).astype(jnp.float32)
    predicted = flat @ head[STATE_HEAD + "tokens"] + inputs.state @ head[STATE_HEAD + "state"]
    return jnp.mean(jnp.square(predicted + head[STATE_HEAD + "bias"] - targets), axis=-1)
