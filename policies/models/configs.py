"""Configs of the models of the pi0 family. Needs no JAX.

A config consists of sizes and named mechanisms (`rope_dtype`, `time_conditioning`, ...). The
three families are the published combinations; `pi0`, `pi05` and `pi0_fast` create them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Family = Literal["pi0", "pi05", "pi0_fast"]
StateAs = Literal["token", "prompt", "unused"]
Dtype = Literal["float32", "bfloat16"]

PALIGEMMA_VOCAB_SIZE = 257_152
"""256 000 Gemma pieces, 1024 `<locNNNN>` and 128 `<segNNN>`."""

FLOW_CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
FAST_CAMERAS = ("base_0_rgb", "base_1_rgb", "wrist_0_rgb")


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters on the attention and feed-forward projections of one expert."""

    rank: int
    alpha: float = 1.0
    rslora: bool = False
    """Scale by alpha/sqrt(rank) (arXiv:2312.03732) instead of alpha/rank."""

    @property
    def scaling(self) -> float:
        """Factor on the adapters of attention projections; adapters of the feed-forward part have none."""
        return self.alpha / math.sqrt(self.rank) if self.rslora else self.alpha / self.rank


@dataclass(frozen=True)
class GemmaConfig:
    """Size of one expert of the transformer."""

    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    lora: LoraConfig | None = None

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads must be a multiple of num_kv_heads; got {self.num_heads} and {self.num_kv_heads}."
            )
        if self.head_dim % 2:
            raise ValueError(f"Rotary positions need an even head_dim; got {self.head_dim}.")


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Size of a SigLIP image encoder and the options it was published with."""

    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    patch_size: int
    position_embedding: Literal["learned", "sincos2d"] = "learned"
    pooling: Literal["none", "gap", "tok", "map"] = "none"
    """Output of the encoder: every token (`none`), their mean (`gap`), a class token (`tok`), or an
    attention-pooled token (`map`)."""
    representation_head: bool = False
    """A tanh layer of the encoder's width between pooling and output projection."""
    stacked: bool = True
    """Whether the parameters of the blocks are stacked along a leading layer axis."""

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.width // self.num_heads


@dataclass(frozen=True)
class ModelConfig:
    """Everything that determines the parameters and the arithmetic of a model."""

    family: Family
    language: GemmaConfig
    action_expert: GemmaConfig | None
    image_encoder: ImageEncoderConfig
    action_dim: int
    """Length of the padded state and action vectors inside the model."""
    action_horizon: int
    """Actions per chunk."""
    max_token_len: int
    """Length that prompts are padded to (with the action tokens, for pi0-FAST in training)."""
    cameras: tuple[str, ...]
    """Model camera names in the order of their tokens."""
    state_as: StateAs
    """How the robot state enters: as a token, as digits in the prompt, or not at all."""
    time_conditioning: Literal["concatenate", "adaptive_norm"] | None
    """How flow time enters: beside each action token, or through the norms of the action expert."""
    rope_dtype: Literal["activation", "float32"]
    """Dtype of rotated queries. Keys are always cast back to the activation dtype."""
    first_decode_position: Literal["skip_one", "next"] | None = None
    """Position of the first generated token. The published checkpoints of pi0-FAST are evaluated with
    one position skipped between prompt and answer (openpi issue 705)."""
    decode_mask: Literal["window", "valid"] | None = None
    """Slots that generated tokens attend to. `window` is the published behaviour: as many slots before the
    end as the prompt has valid tokens, which is wrong if a camera in the middle is masked.
    `valid` is the valid tokens. Both agree if no camera is masked."""
    vocab_size: int = PALIGEMMA_VOCAB_SIZE
    image_size: int = 224
    dtype: Dtype = "bfloat16"
    """Dtype that both transformers compute in, whatever the dtype of the parameters."""
    recompute_layers: bool = True
    """Whether gradients recompute each layer instead of storing its activations: a quarter slower, but
    required to train the full size. Changes no answer."""

    def __post_init__(self) -> None:
        expert = self.action_expert
        shared = ("depth", "num_heads", "num_kv_heads", "head_dim")
        if expert is not None:
            for name in shared:
                if getattr(expert, name) != getattr(self.language, name):
                    raise ValueError(
                        f"Both experts share one attention, so their {name} must agree; "
                        f"got {getattr(self.language, name)} and {getattr(expert, name)}."
                    )
        if (expert is None) != (self.time_conditioning is None):
            raise ValueError("A model has an action expert exactly if it has a time conditioning.")
        if self.image_size % self.image_encoder.patch_size:
            raise ValueError(
                f"image_size must be a multiple of patch_size; got {self.image_size} and "
                f"{self.image_encoder.patch_size}."
            )

    @property
    def experts(self) -> tuple[GemmaConfig, ...]:
        """The experts in the order of their tokens."""
        return (self.language,) if self.action_expert is None else (self.language, self.action_expert)

    @property
    def state_in_prompt(self) -> bool:
        """Whether the prompt contains the state."""
        return self.state_as == "prompt"

    @property
    def tokens_per_image(self) -> int:
        """Tokens per camera."""
        return (self.image_size // self.image_encoder.patch_size) ** 2

    @staticmethod
    def from_case(case: Mapping[str, Any], *, dtype: Dtype = "float32") -> ModelConfig:
        """Read one entry of a `cases.json` of recorded reference outputs.

        Raises:
          KeyError: If an entry is missing.
          ValueError: If the family is unknown.
        """
        language = _gemma_from(case["language"])
        sizes: dict[str, Any] = {
            "image_encoder": ImageEncoderConfig(**case["image_encoder"]),
            "action_dim": case["action_dim"],
            "action_horizon": case["action_horizon"],
            "max_token_len": case["max_token_len"],
            "cameras": tuple(case["cameras"]),
            "vocab_size": case["vocab_size"],
            "dtype": dtype,
        }
        match case["family"]:
            case "pi0":
                return pi0(language, _gemma_from(case["action_expert"]), **sizes)
            case "pi05":
                sizes["state_as"] = "prompt" if case["state_in_prompt"] else "unused"
                return pi05(language, _gemma_from(case["action_expert"]), **sizes)
            case "pi0_fast":
                return pi0_fast(language, **sizes)
            case family:
                raise ValueError(f"A case's family is pi0, pi05 or pi0_fast; got {family!r}.")


def _gemma_from(sizes: Mapping[str, Any]) -> GemmaConfig:
    lora = sizes.get("lora")
    return GemmaConfig(**{**sizes, "lora": None if lora is None else LoraConfig(**lora)})


GEMMA_2B = GemmaConfig(width=2048, depth=18, mlp_dim=16_384, num_heads=8, num_kv_heads=1, head_dim=256)
GEMMA_300M = GemmaConfig(width=1024, depth=18, mlp_dim=4096, num_heads=8, num_kv_heads=1, head_dim=256)
GEMMA_2B_LORA = dataclasses.replace(GEMMA_2B, lora=LoraConfig(rank=16, alpha=16.0))
GEMMA_300M_LORA = dataclasses.replace(GEMMA_300M, lora=LoraConfig(rank=32, alpha=32.0))
SO400M_14 = ImageEncoderConfig(width=1152, depth=27, mlp_dim=4304, num_heads=16, patch_size=14)


def pi0(
    language: GemmaConfig = GEMMA_2B,
    action_expert: GemmaConfig = GEMMA_300M,
    *,
    image_encoder: ImageEncoderConfig = SO400M_14,
    action_dim: int = 32,
    action_horizon: int = 50,
    max_token_len: int = 48,
    cameras: tuple[str, ...] = FLOW_CAMERAS,
    vocab_size: int = PALIGEMMA_VOCAB_SIZE,
    dtype: Dtype = "bfloat16",
) -> ModelConfig:
    """The flow model of pi0 (arXiv:2410.24164), full size by default."""
    return ModelConfig(
        family="pi0",
        language=language,
        action_expert=action_expert,
        image_encoder=image_encoder,
        action_dim=action_dim,
        action_horizon=action_horizon,
        max_token_len=max_token_len,
        cameras=cameras,
        state_as="token",
        time_conditioning="concatenate",
        rope_dtype="activation",
        vocab_size=vocab_size,
        dtype=dtype,
    )


def pi05(
    language: GemmaConfig = GEMMA_2B,
    action_expert: GemmaConfig = GEMMA_300M,
    *,
    state_as: Literal["prompt", "unused"] = "prompt",
    image_encoder: ImageEncoderConfig = SO400M_14,
    action_dim: int = 32,
    action_horizon: int = 50,
    max_token_len: int = 200,
    cameras: tuple[str, ...] = FLOW_CAMERAS,
    vocab_size: int = PALIGEMMA_VOCAB_SIZE,
    dtype: Dtype = "bfloat16",
) -> ModelConfig:
    """The flow model of pi0.5 (arXiv:2504.16054), full size by default."""
    return ModelConfig(
        family="pi05",
        language=language,
        action_expert=action_expert,
        image_encoder=image_encoder,
        action_dim=action_dim,
        action_horizon=action_horizon,
        max_token_len=max_token_len,
        cameras=cameras,
        state_as=state_as,
        time_conditioning="adaptive_norm",
        rope_dtype="activation",
        vocab_size=vocab_size,
        dtype=dtype,
    )


def pi0_fast(
    language: GemmaConfig = GEMMA_2B,
    *,
    image_encoder: ImageEncoderConfig = SO400M_14,
    action_dim: int = 32,
    action_horizon: int = 32,
    max_token_len: int = 250,
    cameras: tuple[str, ...] = FAST_CAMERAS,
    vocab_size: int = PALIGEMMA_VOCAB_SIZE,
    dtype: Dtype = "bfloat16",
) -> ModelConfig:
    """The autoregressive model of pi0-FAST (arXiv:2501.09747), full size by default."""
    return ModelConfig(
        family="pi0_fast",
        language=language,
        action_expert=None,
        image_encoder=image_encoder,
        action_dim=action_dim,
        action_horizon=action_horizon,
        max_token_len=max_token_len,
        cameras=cameras,
        state_as="prompt",
        time_conditioning=None,
        rope_dtype="float32",
        first_decode_position="skip_one",
        decode_mask="window",
        vocab_size=vocab_size,
        dtype=dtype,
    )
