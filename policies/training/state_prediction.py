"""Teaching a model where things are, before it is taught what to do about that, and meanwhile.

Actions say little about a picture: most of a flow model's loss is noise, and a puck of one patch among
seventy changes a small part of what is left. The state of the environment, which simulated
demonstrations record, says all of it in every frame. A linear map reads that state off

    all image tokens and the robot's own state     the image encoder alone learns, several times as fast
    the outputs that actions are made from         beside the loss of the actions, at no cost

and is thrown away afterwards.

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

READER = "reader/"
"""Begin of the names of the parameters that are thrown away."""
IMAGE_PARAMETERS = "PaliGemma/img/"
STILL = 1e-4
"""Entries that spread less than this within tasks (in their own unit) are not asked for."""


def output_reader_shapes(config: ModelConfig, entries: int) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter of the map from outputs that actions are made from."""
    expert = config.action_expert or config.language
    return {READER + "outputs": (expert.width, entries), READER + "bias": (entries,)}


def image_reader_shapes(config: ModelConfig, cameras: int, entries: int) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter of the map from the image tokens of so many cameras to `entries` numbers."""
    tokens = (config.image_size // config.image_encoder.patch_size) ** 2 * cameras
    return {
        READER + "tokens": (tokens * config.language.width, entries),
        READER + "state": (config.action_dim, entries),
        READER + "bias": (entries,),
    }


def locations(data: PreparedData) -> Float32[np.ndarray, "n e"]:
    """The state of the environment at every frame, as differences from the mean of the frame's task.

    Each entry is divided by how much it spreads within tasks. Those that stand still are left out.

    Raises:
      TrainingError: If the data do not have it, it is not finite, or nothing in it ever moves.
    """
    x = data.environment_states
    if x.shape[1] == 0:
        raise TrainingError(
            f"Learning where things are needs the state of the environment (observation.environment_state); "
            f"{data.folder}, or a dataset that is trained on with it, has none of the same size. Collect "
            "demonstrations with simloop collect, or train actions right away."
        )
    if bad := np.flatnonzero(~np.isfinite(x).all(axis=1)).tolist():
        raise TrainingError(
            f"{data.folder}: the state of the environment is NaN or infinite in frame {bad[0]}. Leave its episode "
            "out, or train actions alone."
        )
    centred = x.astype(np.float64)
    for task in np.unique(data.task_of_frame):
        rows = data.task_of_frame == task
        centred[rows] -= centred[rows].mean(axis=0)
    spread = centred.std(axis=0)
    moves = spread > STILL
    if not moves.any():
        raise TrainingError(
            f"{data.folder}: within its tasks, nothing in the state of the environment moves by more than "
            f"{STILL:g}. There is nothing to locate; train actions alone."
        )
    return (centred[:, moves] / spread[moves]).astype(np.float32)


def output_losses(
    reader: Mapping[str, Any], outputs: Float32[Array, "b *m d"], wanted: Float32[Array, "b e"]
) -> Float32[Array, "b *m"]:
    """Mean squared error over the entries, read off what the actions of every row are made from."""
    read = outputs @ reader[READER + "outputs"] + reader[READER + "bias"]
    wanted = wanted.reshape(wanted.shape[0], *(1,) * (read.ndim - 2), wanted.shape[1])
    return jnp.mean(jnp.square(read - wanted), axis=-1)


def image_losses(
    model: Model,
    reader: Mapping[str, Any],
    inputs: ModelInput,
    wanted: Float32[Array, "b e"],
) -> Float[Array, " b"]:
    """Mean squared error over the entries, for every row."""
    cameras = [camera for camera in model.config.cameras if camera in inputs.images]
    images = jnp.concatenate([image_as_float(inputs.images[camera]) for camera in cameras])
    tokens = model.image_encoder(images).out
    by_row = jnp.moveaxis(tokens.reshape(len(cameras), -1, *tokens.shape[1:]), 0, 1)
    flat = by_row.reshape(by_row.shape[0], -1).astype(jnp.float32)
    read = (
        flat @ reader[READER + "tokens"] + inputs.state @ reader[READER + "state"] + reader[READER + "bias"]
    )
    return jnp.mean(jnp.square(read - wanted), axis=-1)
