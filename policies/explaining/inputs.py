"""Inputs of models for one query, and the same with something taken away or exchanged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageFilter

from simloop.policies.inference.model_policy import ModelPolicy, batch_of
from simloop.policies.interface import Query
from simloop.policies.models.model_input import ModelInput
from simloop.policies.transforms.normalization import Normalizer

BLUR = 1 / 16
"""Standard deviation of the blur of a camera, as a share of the side of its image."""


@dataclass(frozen=True)
class Variant:
    """Inputs of a model that differ from those of a query in one thing."""

    name: str
    inputs: ModelInput


def model_inputs(policy: ModelPolicy, query: Query) -> ModelInput:
    """Inputs of the model for a query, a batch of one row with a mask for every camera."""
    batch = batch_of([policy.encode(dataclasses.replace(query, guidance=None))])[0]
    return dataclasses.replace(batch, image_masks={camera: np.ones(1, np.bool_) for camera in batch.images})


def valid_tokens(policy: ModelPolicy, inputs: ModelInput) -> Bool[np.ndarray, "_"]:
    """Which tokens of cameras and prompt are valid, in the order of the model."""
    patches = policy.preset.model.tokens_per_image
    cameras = [np.repeat(np.asarray(mask)[:1], patches) for mask in inputs.image_masks.values()]
    return np.concatenate([*cameras, np.asarray(inputs.token_mask)[0]])


def variants(policy: ModelPolicy, query: Query, prompts: Mapping[str, str]) -> Iterator[Variant]:
    """Inputs without, and with a blurred image of, each camera; without prompt, with other prompts, and with the state
    in the middle of the training data.

    Args:
      prompts: Other instructions, by how they are named in the result.
    """
    inputs = model_inputs(policy, query)
    for camera, image in inputs.images.items():
        yield Variant(f"{camera} dropped", _without(policy, inputs, camera))
        blurred = inputs.images | {camera: _blurred(np.asarray(image)[0])[None]}
        yield Variant(f"{camera} blurred", dataclasses.replace(inputs, images=blurred))
    for name, prompt in {"no prompt": "", **prompts}.items():
        yield Variant(name, model_inputs(policy, dataclasses.replace(query, instruction=prompt)))
    if policy.spec.state_size is not None and policy.preset.model.state_as != "unused":
        normalizer = Normalizer(policy.preset.normalization, policy.stats.get("state"))
        middle = normalizer.unnormalize(np.zeros(policy.preset.state_size)).astype(np.float32)
        zeroed = dataclasses.replace(query, state=middle)
        yield Variant("state zeroed", model_inputs(policy, zeroed))


def _without(policy: ModelPolicy, inputs: ModelInput, camera: str) -> ModelInput:
    """A camera as the model gets it where the robot lacks it."""
    if policy.preset.absent_cameras == "black":
        images = inputs.images | {camera: np.zeros_like(inputs.images[camera])}
        return dataclasses.replace(inputs, images=images)
    masks = dict(inputs.image_masks) | {camera: np.zeros(1, np.bool_)}
    return dataclasses.replace(inputs, image_masks=masks)


def _blurred(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(BLUR * image.shape[0])))
