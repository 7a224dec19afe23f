"""Small presets with every part of the full-size models; a query takes tens of milliseconds on two CPU cores.

Those for Meta-World's Sawyer arm have bundled weights (assets/metaworld/MODEL_CARD.md). Those for other robots have
no trained weights: `NAME@random` shows that a loop works.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from simloop.policies.models.configs import GemmaConfig, ImageEncoderConfig, ModelConfig, pi0, pi0_fast, pi05
from simloop.policies.presets.base import Preset
from simloop.policies.presets.robots import ALOHA, LIBERO, MANISKILL, PI0

_ASSETS = Path(__file__).parents[1] / "assets" / "metaworld"
_LANGUAGE = GemmaConfig(width=128, depth=4, mlp_dim=256, num_heads=4, num_kv_heads=1, head_dim=32)
_EXPERT = dataclasses.replace(_LANGUAGE, width=96, mlp_dim=192)
_CAMERAS = ("base_0_rgb", "left_wrist_0_rgb")
_CHUNK = 10  # Executed in full, since small models gain nothing from actions that are discarded.
_SIZES: dict[str, Any] = {
    "image_encoder": ImageEncoderConfig(width=96, depth=3, mlp_dim=192, num_heads=3, patch_size=16),
    "action_horizon": _CHUNK,
    "cameras": _CAMERAS,
    "vocab_size": 1920,  # Of assets/metaworld/sentencepiece.model.
    "dtype": "float32",  # Many CPUs emulate bfloat16.
}


def _small(model: ModelConfig) -> ModelConfig:
    return dataclasses.replace(model, image_size=96)


def _sawyer(name: str, model: ModelConfig, **fields: Any) -> Preset:
    """Meta-World's Sawyer: state x, y, z, gripper opening; actions dx, dy, dz, gripper."""
    return Preset(
        name=name,
        model=_small(model),
        robot="metaworld_hand",
        unroll_on_cpu=True,
        cameras=_CAMERAS,
        state_size=4,
        action_size=4,
        replan_steps=_CHUNK,
        text_model=_ASSETS / "sentencepiece.model",
        bundled=_ASSETS / name,
        untrained_stats=_ASSETS / "norm_stats.json",
        **fields,
    )


def _other_robot(
    name: str, action_dim: int, *, model_cameras: tuple[str, ...] = _CAMERAS, **fields: Any
) -> Preset:
    sizes = {**_SIZES, "cameras": model_cameras}
    model = pi0(_LANGUAGE, _EXPERT, action_dim=action_dim, max_token_len=32, **sizes)
    text = {"text_model": _ASSETS / "sentencepiece.model", "prompt_lengths": (32,)}
    return Preset(name=name, model=_small(model), **{**PI0, **text, **fields})


TINY_PRESETS = (
    _sawyer(
        "pi0-tiny",
        pi0(_LANGUAGE, _EXPERT, action_dim=4, max_token_len=16, **_SIZES),
        normalization="z_score",
        prompt="instruction",
        prompt_lengths=(16,),
    ),
    _sawyer(
        "pi05-tiny",
        pi05(_LANGUAGE, _EXPERT, action_dim=4, max_token_len=40, **_SIZES),
        normalization="quantile",
        prompt="instruction_and_state",
        prompt_lengths=(40,),
    ),
    _sawyer(
        "pi0_fast-tiny",
        dataclasses.replace(
            # Prompts take up to 40 tokens; the rest is for the actions, one token per coefficient.
            pi0_fast(_LANGUAGE, action_dim=4, max_token_len=88, **_SIZES),
            # Generation continues where the prompt ends, as in training; the published checkpoints are
            # evaluated with a gap there.
            first_decode_position="next",
            decode_mask="valid",
        ),
        normalization="quantile",
        prompt="fast",
        prompt_lengths=(40,),
        action_tokens=_ASSETS / "fast",
        decoding="constrained",
    ),
    _other_robot("pi0_libero-tiny", 8, **LIBERO),
    _other_robot("pi0_aloha_sim-tiny", 14, **ALOHA, replan_steps=10),
    _other_robot(
        "pi0_maniskill-tiny",
        14,
        **MANISKILL,
        model_cameras=MANISKILL["cameras"],
        replan_steps=_CHUNK,
        unroll_on_cpu=True,
    ),
)
