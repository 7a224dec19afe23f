"""Small random parameters of the three families, every axis of another size."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from simloop.policies.models.configs import (
    Family,
    GemmaConfig,
    ImageEncoderConfig,
    ModelConfig,
    pi0,
    pi0_fast,
    pi05,
)
from simloop.policies.models.parameters import shapes

LANGUAGE = GemmaConfig(width=14, depth=3, mlp_dim=22, num_heads=4, num_kv_heads=2, head_dim=6)
EXPERT = GemmaConfig(width=10, depth=3, mlp_dim=18, num_heads=4, num_kv_heads=2, head_dim=6)
IMAGE_ENCODER = ImageEncoderConfig(width=15, depth=2, mlp_dim=26, num_heads=3, patch_size=4)


def tiny_config(family: Family) -> ModelConfig:
    """A model of the family whose axes can be told apart by their sizes."""
    if family == "pi0_fast":
        config = pi0_fast(LANGUAGE, image_encoder=IMAGE_ENCODER, vocab_size=33)
    else:
        make = pi0 if family == "pi0" else pi05
        config = make(LANGUAGE, EXPERT, image_encoder=IMAGE_ENCODER, vocab_size=33)
    return dataclasses.replace(config, image_size=12, action_dim=7)


def tiny_parameters(family: Family) -> dict[str, np.ndarray]:
    """Parameters by published name, float32, every entry different."""
    generator = np.random.default_rng(7)
    return {
        name: generator.standard_normal(shape, dtype=np.float32)
        for name, shape in shapes(tiny_config(family)).items()
    }


def expecting(arrays: Mapping[str, np.ndarray], dtype: object = None) -> dict[str, jax.ShapeDtypeStruct]:
    """What a model with these parameters expects of a checkpoint."""
    return {name: jax.ShapeDtypeStruct(array.shape, dtype or array.dtype) for name, array in arrays.items()}
