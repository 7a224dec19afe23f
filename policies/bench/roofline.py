"""Roofline of a query: least time for its arithmetic and memory traffic, by stage.

A stage takes at least max(FLOPs / peak, bytes / bandwidth), the roofline of S. Williams et al. (2009),
doi:10.1145/1498765.1498785. A multiply-add counts as two FLOPs. Only matrix products are counted: all
other operations (norms, softmax, activations) are less than 1 % of the FLOPs at full size. Weights, keys and
values are read once per stage; activations never leave the chip. Low-rank adapters, and options of the image
encoder that no preset uses, are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from simloop.policies.models.configs import GemmaConfig, ImageEncoderConfig, ModelConfig
from simloop.policies.models.inference_plan import PLAIN, InferencePlan

BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class QueryWorkload:
    """Sizes of a query."""

    config: ModelConfig
    cameras: int
    """Encoded cameras."""
    prompt_tokens: int
    """Padded length of the prompt."""
    flow_steps: int = 10
    answer_tokens: int = 0
    """Generated tokens, for token models."""
    plan: InferencePlan = PLAIN

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the first action or answer token."""
        return self.cameras * self.config.tokens_per_image + self.prompt_tokens


@dataclass(frozen=True)
class Ceilings:
    """Rates that a device sustains in large products and long copies."""

    flops_per_s: float | int
    bytes_per_s: float | int
    source: str


@dataclass(frozen=True)
class Stage:
    """One part of a query, for a whole batch; counts are those of one run."""

    name: str
    times: int
    """Runs per query."""
    flops: float | int
    bytes: float | int

    def seconds(self, ceilings: Ceilings) -> float | int:
        """Least time of one run."""
        return max(self.flops / ceilings.flops_per_s, self.bytes / ceilings.bytes_per_s)


def roofline_stages(work: QueryWorkload, batch: int) -> tuple[Stage, ...]:
    """Stages of a batch of queries on the device, in order."""
    config = work.config
    language, prefix = config.language, work.prefix_tokens
    size = BYTES[config.dtype]

    images = batch * work.cameras
    encoder = encoder_parameters(config)
    flops: float | int = images * encoder_flops(config)
    out = [Stage("image encoder", 1, flops, size * encoder)]

    read = layer_parameters(language) * language.depth
    flops = 2 * prefix * read + attention_flops(language, prefix, prefix)
    if config.action_expert is not None:  # The last layer stops at keys and values.
        unread = layer_parameters(language) - key_value_parameters(language)
        flops -= 2 * prefix * unread + attention_flops(language, prefix, prefix) / language.depth
        read -= unread
    traffic: float | int = size * (read + batch * prefix * cached_numbers(language))
    table = language.width * config.vocab_size
    if config.action_expert is None:
        flops += 2 * table
        traffic += size * table
    out.append(Stage("prefill", 1, batch * flops, traffic))

    if config.action_expert is None:
        weights = layer_parameters(language) * language.depth + table
        seen = prefix + work.answer_tokens / 2  # On average.
        flops = 2 * weights + attention_flops(language, 1, seen)
        traffic = size * (weights + batch * seen * cached_numbers(language))
        out.append(Stage("token", work.answer_tokens, batch * flops, traffic))
        return tuple(out)

    expert = config.action_expert
    suffix = config.action_horizon + (config.state_as == "token")
    weights = layer_parameters(expert) * expert.depth + 2 * config.action_dim * expert.width
    if (
        config.time_conditioning == "concatenate"
    ):  # The half of the first layer that reads the actions, and the second layer.
        weights += 2 * expert.width**2
    flops = 2 * suffix * weights + attention_flops(expert, suffix, prefix + suffix)
    traffic = size * (weights + batch * (prefix + suffix) * cached_numbers(expert))
    out.append(Stage("flow step", work.flow_steps, batch * flops, traffic))
    return tuple(out)


def encoder_parameters(config: ModelConfig) -> int:
    """Weights of the image encoder that are factors of products."""
    encoder = config.image_encoder
    stem = 3 * encoder.patch_size**2 * encoder.width
    return _encoder_layer(encoder) * encoder.depth + stem + encoder.width * config.language.width


def encoder_flops(config: ModelConfig) -> int:
    """FLOPs of encoding one image."""
    encoder, tokens = config.image_encoder, config.tokens_per_image
    return 2 * tokens * encoder_parameters(config) + 4 * tokens**2 * encoder.width * encoder.depth


def layer_parameters(gemma: GemmaConfig) -> int:
    """Weights of one layer: queries, keys and values, output, and three matrices of the feed-forward part."""
    heads = gemma.width * gemma.num_heads * gemma.head_dim
    return 2 * heads + key_value_parameters(gemma) + 3 * gemma.width * gemma.mlp_dim


def key_value_parameters(gemma: GemmaConfig) -> int:
    """Weights of one layer that project to keys and values."""
    return 2 * gemma.width * gemma.num_kv_heads * gemma.head_dim


def cached_numbers(gemma: GemmaConfig) -> int:
    """Cached numbers of one token in all layers."""
    return 2 * gemma.num_kv_heads * gemma.head_dim * gemma.depth


def attention_flops(gemma: GemmaConfig, queries: float | int, keys: float | int) -> float | int:
    """FLOPs of both products of attention, in all layers."""
    return 4 * queries * keys * gemma.num_heads * gemma.head_dim * gemma.depth


def _encoder_layer(encoder: ImageEncoderConfig) -> int:
    return 4 * encoder.width**2 + 2 * encoder.width * encoder.mlp_dim
