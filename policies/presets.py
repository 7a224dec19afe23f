"""Every policy of the pi0 family that has a name: model, robot, and how numbers go in and out.

A preset says what a checkpoint cannot say of itself: which robot convention it was trained in, whether
its statistics mean z-scores or quantiles, which action entries are relative to the state, how prompts
are written. Nothing of this is guessed from the kind of model. Importing this file needs no JAX.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from simloop.policies.interface import PolicySpec
from simloop.policies.models.configs import (
    GEMMA_2B_LORA,
    GEMMA_300M_LORA,
    GemmaConfig,
    ImageEncoderConfig,
    ModelConfig,
    pi0,
    pi0_fast,
    pi05,
)
from simloop.policies.tokenizers.decoded import OnFailure
from simloop.policies.tokenizers.fast_actions import PUBLISHED_FAST, FastActionsSource
from simloop.policies.tokenizers.sentencepiece_model import PALIGEMMA, SentencePieceSource
from simloop.policies.transforms.normalization import NormalizationKind
from simloop.policies.transforms.preprocessing import delta_mask

PromptFormat = Literal["instruction", "instruction_and_state", "fast"]
"""As in `tokenizers.prompts`."""

AbsentCamera = Literal["masked", "black"]
"""What the model sees of a camera that the robot lacks: nothing, or a black image that counts. The
published pi0-FAST models were trained with the latter."""

ROBOT_ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class PublishedWeights:
    """Where trained weights are published. They are not fetched: several gigabytes are asked for by name."""

    address: str
    asset_id: str
    """Which of the checkpoint's statistics are this robot's."""


@dataclass(frozen=True)
class Preset:
    """A model made for a robot."""

    name: str
    model: ModelConfig
    robot: str
    """The convention of cameras, state and actions; the harness has an adapter for it."""
    cameras: tuple[str, ...]
    """Cameras that a query must bring. Others of the model's may be brought."""
    state_size: int
    action_size: int
    """Lengths of the robot's own vectors; the model pads them."""
    normalization: NormalizationKind
    prompt: PromptFormat
    prompt_lengths: tuple[int, ...]
    """Numbers of tokens, ascending, that prompts are filled up to; each takes the first that fits.
    A shorter filling changes rounding only. The last is what the model was trained with."""
    replan_steps: int
    """How many actions of a chunk the published evaluation executes before it asks again."""
    absent_cameras: AbsentCamera = "masked"
    relative: tuple[bool, ...] = ()
    """Which leading action entries the model gives relative to the state."""
    text_model: Path | SentencePieceSource = PALIGEMMA
    action_tokens: Path | FastActionsSource | None = None
    """The FAST action tokenizer, for models that answer in tokens."""
    answer_tokens: int = 256
    """Most tokens that an answer may have, for models that answer in tokens freely."""
    answers: Literal["free", "guided"] = "free"
    """Whether any token may follow another in an answer, as published evaluations have it, or only those that
    make it a whole chunk (`answer_grammar`)."""
    on_failure: OnFailure = "undecodable"
    """What to answer for tokens that spell no actions."""
    flow_steps: int = 10
    published: PublishedWeights | None = None
    boxed: Path | None = None
    """Checkpoint that comes with simloop, used where none is named."""
    untrained_stats: Path | None = None
    """Statistics to go with weights that are drawn at random, so that actions are of a sensible size."""

    def __post_init__(self) -> None:
        """Refuse presets that contradict their model."""
        unknown = set(self.cameras) - set(self.model.cameras)
        if unknown:
            raise ValueError(f"{self.name}: the model has no camera {', '.join(sorted(unknown))}.")
        if (self.prompt == "instruction") == self.model.state_in_prompt:
            raise ValueError(f"{self.name}: prompt {self.prompt!r}, but state_as {self.model.state_as!r}.")
        if (self.prompt == "fast") != (self.model.action_expert is None):
            raise ValueError(f"{self.name}: exactly the models without action expert use 'fast' prompts.")
        if (self.prompt == "fast") != (self.action_tokens is not None):
            raise ValueError(f"{self.name}: exactly the models with 'fast' prompts need action_tokens.")

    @property
    def needs_checkpoint(self) -> bool:
        """Whether nothing comes with simloop, so that trained weights have to be named."""
        return self.boxed is None

    def where_to_get_weights(self) -> str:
        """What to do when a checkpoint is needed and none was named."""
        if self.published is None:
            source = "Nobody publishes them; fine-tune a published checkpoint."
        else:
            source = f"They are published at {self.published.address}; download that folder."
        return (
            f"Preset {self.name!r} needs trained weights. {source} Then name it {self.name}@FOLDER. "
            f"{self.name}@random has weights drawn at random: its speed means something, its actions do not."
        )

    def spec(self) -> PolicySpec:
        """What the policy needs and gives, before weights are known."""
        return PolicySpec(
            name=self.name,
            robot=self.robot,
            weights="untrained",
            cameras=self.cameras,
            image_hw=(self.model.image_size, self.model.image_size),
            state_size=None
            if self.model.state_as == "unused" and not any(self.relative)
            else self.state_size,
            action_size=self.action_size,
            chunk_steps=self.model.action_horizon,
        )


class UnknownPresetError(LookupError):
    """A preset that does not exist."""

    user_facing = True


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
      UnknownPresetError: With the nearest names, if there is none.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=3, cutoff=0.4)
        hint = (
            f"Did you mean {' or '.join(map(repr, near))}?" if near else f"There are: {', '.join(PRESETS)}."
        )
        raise UnknownPresetError(f"There is no preset {name!r}. {hint}")
    return PRESETS[name]


# The tiny presets: small enough for a query in tens of milliseconds on two CPU cores, and every part of
# the full-size models in them. Their weights were trained here (assets/metaworld/MODEL_CARD.md).

_TINY_LANGUAGE = GemmaConfig(width=128, depth=4, mlp_dim=256, num_heads=4, num_kv_heads=1, head_dim=32)
_TINY_EXPERT = dataclasses.replace(_TINY_LANGUAGE, width=96, mlp_dim=192)
_TINY_IMAGE_SIZE = 96
_TINY_IMAGE_ENCODER = ImageEncoderConfig(width=96, depth=3, mlp_dim=192, num_heads=3, patch_size=16)
_TINY_VOCABULARY = 1920  # Of assets/metaworld/sentencepiece.model.
_SAWYER_CAMERAS = ("base_0_rgb", "left_wrist_0_rgb")
_SAWYER_ASSETS = ROBOT_ASSETS / "metaworld"
_TINY_CHUNK = 10  # All of which is played: small models have no use for what is thrown away.


def _tiny(name: str, model: ModelConfig, **fields: Any) -> Preset:
    """A tiny model for Meta-World's Sawyer: state x, y, z, gripper opening; actions dx, dy, dz, grip."""
    return Preset(
        name=name,
        model=dataclasses.replace(model, image_size=_TINY_IMAGE_SIZE, unroll_layers=True),
        robot="metaworld_hand",
        cameras=_SAWYER_CAMERAS,
        state_size=4,
        action_size=4,
        replan_steps=_TINY_CHUNK,
        text_model=_SAWYER_ASSETS / "sentencepiece.model",
        boxed=_SAWYER_ASSETS / name,
        untrained_stats=_SAWYER_ASSETS / "norm_stats.json",
        **fields,
    )


def _tiny_presets() -> list[Preset]:
    sizes: dict[str, Any] = {
        "image_encoder": _TINY_IMAGE_ENCODER,
        "action_dim": 4,
        "action_horizon": _TINY_CHUNK,
        "cameras": _SAWYER_CAMERAS,
        "vocab_size": _TINY_VOCABULARY,
        "dtype": "float32",  # bfloat16 is emulated on many CPUs.
    }
    flow = (_TINY_LANGUAGE, _TINY_EXPERT)
    return [
        _tiny(
            "pi0-tiny",
            pi0(*flow, max_token_len=16, **sizes),
            normalization="z_score",
            prompt="instruction",
            prompt_lengths=(16,),
        ),
        _tiny(
            "pi05-tiny",
            pi05(*flow, max_token_len=40, **sizes),
            normalization="quantile",
            prompt="instruction_and_state",
            prompt_lengths=(40,),
        ),
        _tiny(
            "pi0_fast-tiny",
            dataclasses.replace(
                # Prompts take up to 40 tokens; the rest is for the actions, a token for every coefficient.
                pi0_fast(_TINY_LANGUAGE, max_token_len=88, **sizes),
                # Generation goes on where the prompt ends, as in training; the published checkpoints are
                # evaluated with a gap there.
                first_decode_position="next",
                decode_mask="valid",
            ),
            normalization="quantile",
            prompt="fast",
            prompt_lengths=(40,),
            action_tokens=_SAWYER_ASSETS / "fast",
            answers="guided",
        ),
    ]


# The published presets. Sizes, lengths and delta masks: openpi's src/openpi/training/config.py.

_CHECKPOINTS = "gs://openpi-assets/checkpoints/"
_SIX_JOINTS_OR_POSE = delta_mask(6, -1)  # Arm relative, gripper absolute.
_TWO_ARMS = delta_mask(6, -1, 6, -1)
_SEVEN_JOINTS = delta_mask(7, -1)
_LIBERO_ASSET = "physical-intelligence/libero"
# Filling a prompt up costs the model as much as words do: 200 tokens are a quarter of what pi0.5 reads of
# two cameras. Each length is a program of its own to compile, so only what saves much is cut.
_SHORT_PROMPT = 32  # Instructions alone take up to about 25 tokens.
_STATE_PROMPT = 96  # With eight state entries, up to about 75.


def _libero(name: str, model: ModelConfig, **fields: Any) -> Preset:
    """LIBERO's Panda: state position, axis angle, two fingers; actions six pose deltas and the gripper."""
    return Preset(
        name=name,
        model=model,
        robot="libero",
        cameras=("base_0_rgb", "left_wrist_0_rgb"),
        state_size=8,
        action_size=7,
        replan_steps=5,
        **fields,
    )


def _droid(name: str, model: ModelConfig, **fields: Any) -> Preset:
    """DROID's Panda: seven joints and the gripper, for state and actions."""
    wrist = "wrist_0_rgb" if "wrist_0_rgb" in model.cameras else "left_wrist_0_rgb"
    return Preset(
        name=name,
        model=model,
        robot="droid",
        cameras=("base_0_rgb", wrist),
        state_size=8,
        action_size=8,
        replan_steps=8,
        **fields,
    )


def _aloha(name: str, model: ModelConfig, **fields: Any) -> Preset:
    """ALOHA's two arms: six joints and a gripper each. Wrist cameras are used where they are there."""
    return Preset(
        name=name,
        model=model,
        robot="aloha",
        cameras=("base_0_rgb",),
        state_size=14,
        action_size=14,
        **fields,
    )


def _weights(checkpoint: str, asset_id: str) -> PublishedWeights:
    return PublishedWeights(_CHECKPOINTS + checkpoint, asset_id)


_PI0_WORDS: dict[str, Any] = {
    "normalization": "z_score",
    "prompt": "instruction",
    "prompt_lengths": (48,),
}
_PI05_WORDS: dict[str, Any] = {
    "normalization": "quantile",
    "prompt": "instruction_and_state",
}
_FAST_WORDS: dict[str, Any] = {
    "prompt": "fast",
    "action_tokens": PUBLISHED_FAST,
    "absent_cameras": "black",
}


def _published_presets() -> list[Preset]:
    return [
        # pi0_base and its relatives are meant to be fine-tuned; named by themselves they speak ALOHA.
        _aloha(
            "pi0_base",
            pi0(),
            relative=_TWO_ARMS,
            replan_steps=25,
            published=_weights("pi0_base", "trossen"),
            **_PI0_WORDS,
        ),
        _aloha(
            "pi05_base",
            pi05(),
            relative=_TWO_ARMS,
            replan_steps=25,
            prompt_lengths=(200,),
            published=_weights("pi05_base", "trossen"),
            **_PI05_WORDS,
        ),
        *(
            _aloha(
                name,
                pi0(),
                relative=_TWO_ARMS,
                replan_steps=25,
                published=_weights(name, "trossen"),
                **_PI0_WORDS,
            )
            for name in ("pi0_aloha_towel", "pi0_aloha_tupperware", "pi0_aloha_pen_uncap")
        ),
        _aloha(
            "pi0_aloha_sim",
            pi0(),
            replan_steps=10,
            published=_weights("pi0_aloha_sim", "lerobot/aloha_sim_transfer_cube_human"),
            **_PI0_WORDS,
        ),
        _libero(
            "pi0_libero",
            pi0(),
            relative=_SIX_JOINTS_OR_POSE,
            published=_weights("pi0_libero", _LIBERO_ASSET),
            **_PI0_WORDS,
        ),
        _libero(
            "pi0_libero_low_mem_finetune",
            pi0(GEMMA_2B_LORA, GEMMA_300M_LORA),
            relative=_SIX_JOINTS_OR_POSE,
            **_PI0_WORDS,
        ),
        _libero(
            "pi05_libero",
            # The robot's state is used nowhere, as in the published model (openpi issue 687).
            pi05(state_as="unused", action_horizon=10),
            normalization="quantile",
            prompt="instruction",
            prompt_lengths=(_SHORT_PROMPT, 200),
            published=_weights("pi05_libero", _LIBERO_ASSET),
        ),
        _libero(
            "pi0_fast_libero",
            pi0_fast(
                action_dim=7,
                action_horizon=10,
                max_token_len=180,
                cameras=("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"),
            ),
            # openpi's code of today would take quantiles for it; the published weights were trained with
            # z-scores and solve almost nothing with quantiles (openpi issue 849).
            normalization="z_score",
            prompt_lengths=(_STATE_PROMPT, 180),
            relative=_SIX_JOINTS_OR_POSE,
            published=_weights("pi0_fast_libero", _LIBERO_ASSET),
            **_FAST_WORDS,
        ),
        _droid(
            "pi0_droid",
            pi0(action_horizon=10),
            published=_weights("pi0_droid", "droid"),
            **_PI0_WORDS,
        ),
        _droid(
            "pi05_droid",
            pi05(action_horizon=15),
            prompt_lengths=(_STATE_PROMPT, 200),
            published=_weights("pi05_droid", "droid"),
            **_PI05_WORDS,
        ),
        _droid(
            "pi0_fast_droid",
            pi0_fast(action_dim=8, action_horizon=10, max_token_len=250),
            normalization="quantile",
            prompt_lengths=(_STATE_PROMPT, 250),
            published=_weights("pi0_fast_droid", "droid"),
            **_FAST_WORDS,
        ),
        _droid(
            "pi05_droid_jointpos_polaris",
            pi05(action_horizon=15),
            relative=_SEVEN_JOINTS,
            prompt_lengths=(_STATE_PROMPT, 200),
            published=_weights("polaris/pi05_droid_jointpos_polaris", "droid"),
            **_PI05_WORDS,
        ),
        _droid(
            "pi0_droid_jointpos_polaris",
            pi0(action_horizon=10, max_token_len=100),
            relative=_SEVEN_JOINTS,
            published=_weights("polaris/pi0_droid_jointpos_polaris", "droid"),
            normalization="z_score",
            prompt="instruction",
            prompt_lengths=(48, 100),
        ),
        _droid(
            "pi0_fast_droid_jointpos_polaris",
            pi0_fast(action_dim=8, action_horizon=10, max_token_len=180),
            relative=_SEVEN_JOINTS,
            normalization="quantile",
            prompt_lengths=(_STATE_PROMPT, 180),
            published=_weights("polaris/pi0_fast_droid_jointpos_polaris", "droid"),
            **_FAST_WORDS,
        ),
    ]


def _small_presets() -> list[Preset]:
    """pi0 at the tiny size for the other robots. Nobody trained any: `NAME@random` shows that a loop works."""
    sizes: dict[str, Any] = {
        "image_encoder": _TINY_IMAGE_ENCODER,
        "cameras": _SAWYER_CAMERAS,
        "vocab_size": _TINY_VOCABULARY,
        "max_token_len": 32,
        "dtype": "float32",
    }
    words: dict[str, Any] = {
        "normalization": "z_score",
        "prompt": "instruction",
        "prompt_lengths": (32,),
        "text_model": _SAWYER_ASSETS / "sentencepiece.model",
    }

    def model(action_dim: int) -> ModelConfig:
        small = pi0(_TINY_LANGUAGE, _TINY_EXPERT, action_dim=action_dim, action_horizon=_TINY_CHUNK, **sizes)
        return dataclasses.replace(small, image_size=_TINY_IMAGE_SIZE)

    return [
        _libero("pi0_libero-tiny", model(8), **words),
        _aloha("pi0_aloha_sim-tiny", model(14), replan_steps=10, **words),
    ]


PRESETS: dict[str, Preset] = {p.name: p for p in (*_tiny_presets(), *_small_presets(), *_published_presets())}
"""By name; the small ones first."""
