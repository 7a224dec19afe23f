"""Models small enough for a CPU test, with weights that make every part of them matter."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from simloop.policies.inference.weight_layout import laid_out
from simloop.policies.models import configs
from simloop.policies.models.configs import GemmaConfig, ImageEncoderConfig, LoraConfig, ModelConfig
from simloop.policies.models.inference_plan import PLAIN, InferencePlan
from simloop.policies.models.model_input import ModelInput
from simloop.policies.models.parameters import Model, abstract_model, model_from, shapes
from tests.helpers.xla import PRODUCTION

VOCAB = 96
LANGUAGE = GemmaConfig(width=32, depth=2, mlp_dim=48, num_heads=4, num_kv_heads=2, head_dim=8)
ACTION = GemmaConfig(width=24, depth=2, mlp_dim=40, num_heads=4, num_kv_heads=2, head_dim=8)
IMAGES = ImageEncoderConfig(width=16, depth=2, mlp_dim=24, num_heads=2, patch_size=14)
LORA = LoraConfig(rank=3, alpha=6.0)
RSLORA = LoraConfig(rank=2, alpha=3.0, rslora=True)


def small_config(family: str, *, dtype: str = "float32", **changes) -> ModelConfig:
    """A member of the family with 4 tokens per camera."""
    sizes = {"image_encoder": IMAGES, "vocab_size": VOCAB, "max_token_len": 10, "dtype": dtype}
    if family == "pi0_fast":
        config = configs.pi0_fast(LANGUAGE, action_dim=4, action_horizon=5, **sizes)
    else:
        make = configs.pi0 if family == "pi0" else configs.pi05
        config = make(LANGUAGE, ACTION, action_dim=4, action_horizon=5, **sizes)
    return dataclasses.replace(config, image_size=28, **changes)


def with_lora(config: ModelConfig) -> ModelConfig:
    """The same with adapters on every expert."""
    expert = config.action_expert and dataclasses.replace(config.action_expert, lora=RSLORA)
    return dataclasses.replace(
        config, language=dataclasses.replace(config.language, lora=LORA), action_expert=expert
    )


def random_flat(config: ModelConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of which none is zero or one, unlike fresh ones, and large enough to peak attention."""
    rng = np.random.default_rng(seed)
    flat = {}
    for name, shape in shapes(config).items():
        fan_in = shape[-2] if len(shape) > 1 else 16
        flat[name] = (rng.standard_normal(shape) * 1.5 / np.sqrt(fan_in)).astype(np.float32)
    return flat


def small_model(config: ModelConfig, seed: int = 0, *, plan: InferencePlan = PLAIN) -> Model:
    """A model with those weights, laid out for a plan."""
    return laid_out(model_from(config, random_flat(config, seed)), plan)


def random_batch(config: ModelConfig, rows: int, seed: int = 1, *, all_valid: bool = False) -> ModelInput:
    """Queries with masked cameras and prompts of different lengths."""
    rng = np.random.default_rng(seed)
    size, length = config.image_size, config.max_token_len
    masks = {camera: np.ones(rows, np.bool_) for camera in config.cameras}
    if not all_valid:
        masks[config.cameras[1]][::2] = False
        masks[config.cameras[2]][1::3] = False
    lengths = rng.integers(3, length - 1, rows)
    token_mask = np.arange(length)[None] < lengths[:, None]
    tokens = np.where(token_mask, rng.integers(2, config.vocab_size, (rows, length)), 0).astype(np.int32)
    return ModelInput(
        images={
            camera: rng.integers(0, 256, (rows, size, size, 3), dtype=np.uint8) for camera in config.cameras
        },
        image_masks=masks,
        state=rng.standard_normal((rows, config.action_dim)).astype(np.float32),
        tokens=tokens,
        token_mask=token_mask,
        token_ar_mask=np.zeros_like(tokens),
        token_loss_mask=np.zeros_like(token_mask),
    )


def random_noise(config: ModelConfig, rows: int, seed: int = 2) -> np.ndarray:
    """Standard normal noise for the flow models."""
    shape = (rows, config.action_horizon, config.action_dim)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run(model: Model, function: Callable[..., Any], *args: Any, production: bool = False) -> Any:
    """`function(model, *args)`, compiled once for all models of a config and a plan.

    With `production`, XLA optimizes as in production: for tests that compare bits.
    """
    return _jitted(model.config, model.plan, function, production)(nnx.state(model), *args)


@functools.cache
def _jitted(
    config: ModelConfig, plan: InferencePlan, function: Callable[..., Any], production: bool
) -> Callable[..., Any]:
    graph, _ = nnx.split(abstract_model(config, plan))
    return jax.jit(
        lambda state, *args: function(nnx.merge(graph, state), *args),
        compiler_options=PRODUCTION if production else None,
    )


def take_rows(batch: ModelInput, rows: list[int]) -> ModelInput:
    """The same queries in another order."""
    return jax.tree.map(lambda array: array[np.array(rows)], batch)


def relative(got: object, wanted: object) -> float:
    """rms(got - wanted) / rms(wanted)."""
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    return float(np.sqrt(np.mean((got - wanted) ** 2) / np.mean(wanted**2)))
