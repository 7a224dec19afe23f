"""Full-size presets of Physical Intelligence's openpi.

Sizes, lengths and delta masks are those of openpi's src/openpi/training/config.py.
"""

from __future__ import annotations

from typing import Any

from simloop.policies.models.configs import GEMMA_2B_LORA, GEMMA_300M_LORA, pi0, pi0_fast, pi05
from simloop.policies.presets.base import Preset, PublishedWeights
from simloop.policies.presets.robots import ALOHA, DROID, LIBERO, PI0, PI0_FAST, PI05
from simloop.policies.transforms.preprocessing import delta_mask

ARM: dict[str, Any] = {"relative": delta_mask(6, -1)}  # Six joints or a pose relative, gripper absolute.
TWO_ARMS: dict[str, Any] = {"relative": delta_mask(6, -1, 6, -1), "replan_steps": 25}
SEVEN_JOINTS: dict[str, Any] = {"relative": delta_mask(7, -1)}
SHORT_PROMPT = 32  # Instructions alone take up to about 25 tokens.
STATE_PROMPT = 96  # Instructions with eight state entries take up to about 75.
# Padding costs as much as text: 200 tokens are a quarter of pi0.5's prefix with two cameras. Every length is a
# program to compile, so only lengths that save much are added.


def _weights(asset_id: str, checkpoint: str) -> dict[str, Any]:
    url = f"gs://openpi-assets/checkpoints/{checkpoint}"
    return {"published": PublishedWeights(url, asset_id)}


def _aloha(name: str) -> Preset:
    return Preset(name, pi0(), **ALOHA, **PI0, **TWO_ARMS, **_weights("trossen", name))


def _libero_weights(name: str) -> dict[str, Any]:
    return _weights("physical-intelligence/libero", name)


PUBLISHED_PRESETS = (
    # The base models are meant to be fine-tuned; these presets use them in ALOHA's convention.
    _aloha("pi0_base"),
    Preset(
        "pi05_base",
        pi05(),
        prompt_lengths=(200,),
        **ALOHA,
        **PI05,
        **TWO_ARMS,
        **_weights("trossen", "pi05_base"),
    ),
    _aloha("pi0_aloha_towel"),
    _aloha("pi0_aloha_tupperware"),
    _aloha("pi0_aloha_pen_uncap"),
    Preset(
        "pi0_aloha_sim",
        pi0(),
        replan_steps=10,
        **ALOHA,
        **PI0,
        **_weights("lerobot/aloha_sim_transfer_cube_human", "pi0_aloha_sim"),
    ),
    Preset("pi0_libero", pi0(), **LIBERO, **PI0, **ARM, **_libero_weights("pi0_libero")),
    Preset("pi0_libero_low_mem_finetune", pi0(GEMMA_2B_LORA, GEMMA_300M_LORA), **LIBERO, **PI0, **ARM),
    Preset(
        "pi05_libero",
        # The published model does not use the robot state (openpi issue 687).
        pi05(state_as="unused", action_horizon=10),
        normalization="quantile",
        prompt="instruction",
        prompt_lengths=(SHORT_PROMPT, 200),
        **LIBERO,
        **_libero_weights("pi05_libero"),
    ),
    Preset(
        "pi0_fast_libero",
        pi0_fast(
            action_dim=7,
            action_horizon=10,
            max_token_len=180,
            cameras=("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"),
        ),
        # openpi's current code would use quantiles, but the published weights were trained with z-scores and
        # solve almost nothing with quantiles (openpi issue 849).
        prompt_lengths=(STATE_PROMPT, 180),
        **LIBERO,
        **{**PI0_FAST, "normalization": "z_score"},
        **ARM,
        **_libero_weights("pi0_fast_libero"),
    ),
    Preset("pi0_droid", pi0(action_horizon=10), **DROID, **PI0, **_weights("droid", "pi0_droid")),
    Preset(
        "pi05_droid",
        pi05(action_horizon=15),
        prompt_lengths=(STATE_PROMPT, 200),
        **DROID,
        **PI05,
        **_weights("droid", "pi05_droid"),
    ),
    Preset(
        "pi0_fast_droid",
        pi0_fast(action_dim=8, action_horizon=10, max_token_len=250),
        prompt_lengths=(STATE_PROMPT, 250),
        **{**DROID, **PI0_FAST, "cameras": ("base_0_rgb", "wrist_0_rgb")},
        **_weights("droid", "pi0_fast_droid"),
    ),
    Preset(
        "pi05_droid_jointpos_polaris",
        pi05(action_horizon=15),
        prompt_lengths=(STATE_PROMPT, 200),
        **DROID,
        **PI05,
        **SEVEN_JOINTS,
        **_weights("droid", "polaris/pi05_droid_jointpos_polaris"),
    ),
    Preset(
        "pi0_droid_jointpos_polaris",
        pi0(action_horizon=10, max_token_len=100),
        **{**DROID, **PI0, "prompt_lengths": (48, 100)},
        **SEVEN_JOINTS,
        **_weights("droid", "polaris/pi0_droid_jointpos_polaris"),
    ),
    Preset(
        "pi0_fast_droid_jointpos_polaris",
        pi0_fast(action_dim=8, action_horizon=10, max_token_len=180),
        prompt_lengths=(STATE_PROMPT, 180),
        **{**DROID, **PI0_FAST, "cameras": ("base_0_rgb", "wrist_0_rgb")},
        **SEVEN_JOINTS,
        **_weights("droid", "polaris/pi0_fast_droid_jointpos_polaris"),
    ),
)
