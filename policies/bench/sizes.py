"""Smaller model sizes for measuring where full size is too slow.

Robot, cameras, prompts, chunk and flow steps stay those of the preset, so that gains can be compared.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from simloop.policies.models.configs import GemmaConfig, ImageEncoderConfig, ModelConfig

Size = Literal["preset", "dummy", "100m"]

# The test size of the reference implementation, with a matching image encoder.
_DUMMY = GemmaConfig(width=64, depth=4, mlp_dim=128, num_heads=8, num_kv_heads=1, head_dim=16)
_DUMMY_IMAGES = ImageEncoderConfig(width=32, depth=1, mlp_dim=128, num_heads=2, patch_size=16)
_DUMMY_VOCABULARY = 2752

# A hundred million weights, in the proportions of the full size.
_MEDIUM = GemmaConfig(width=512, depth=12, mlp_dim=2560, num_heads=8, num_kv_heads=1, head_dim=64)
_MEDIUM_EXPERT = dataclasses.replace(_MEDIUM, width=256, mlp_dim=1024)
_MEDIUM_IMAGES = ImageEncoderConfig(width=448, depth=8, mlp_dim=1792, num_heads=8, patch_size=16)
_MEDIUM_VOCABULARY = 16_384


def resized(config: ModelConfig, size: Size) -> ModelConfig:
    """The model at another size, in float32 because many CPUs emulate bfloat16."""
    if size == "preset":
        return config
    if size == "dummy":
        language, expert, images, vocabulary = _DUMMY, _DUMMY, _DUMMY_IMAGES, _DUMMY_VOCABULARY
    else:
        language, expert, images, vocabulary = _MEDIUM, _MEDIUM_EXPERT, _MEDIUM_IMAGES, _MEDIUM_VOCABULARY
    return dataclasses.replace(
        config,
        language=language,
        action_expert=expert if config.action_expert is not None else None,
        image_encoder=images,
        vocab_size=vocabulary,
        dtype="float32",
    )
