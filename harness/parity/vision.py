"""Comparisons of the image encoder's variants and of the plain image classifier."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from simloop.harness.parity.comparison import ONE_PASS, ArrayComparison, Arrays, below, load_arrays
from simloop.policies.inference.flat_jit import compiled
from simloop.policies.models.configs import ImageEncoderConfig
from simloop.policies.models.parameters import restored
from simloop.policies.models.siglip import ImageEncoder
from simloop.policies.models.vit import VisionTransformer, VitConfig, vit_from

ENCODERS: dict[str, dict[str, Any]] = {
    "none_scan": {},
    "none_noscan": {"stacked": False},
    "gap_sincos": {"pooling": "gap", "position_embedding": "sincos2d"},
    "tok": {"pooling": "tok"},
    "rep": {"pooling": "gap", "representation_head": True},
}
"""Options of each recorded image encoder, by name."""

BLOCKS = ImageEncoderConfig(width=24, depth=2, mlp_dim=48, num_heads=3, patch_size=8)
CLASSIFIERS = {
    "token": VitConfig(BLOCKS, classifier="token", classes=5),
    "gap": VitConfig(BLOCKS, classifier="gap", classes=5, representation_width=10),
    "unpooled": VitConfig(BLOCKS, classifier="unpooled", classes=5),
}
"""Configuration of each recorded classifier, by name."""


def image_encoder_checks(golden: Path) -> Iterator[ArrayComparison]:
    """Compare pooled and unpooled outputs of every encoder in `siglip_variants.npz`."""
    recorded = load_arrays(golden / "siglip_variants.npz")
    for name, options in ENCODERS.items():
        if f"{name}/out" in recorded:
            out, out_2d = _encoded(below(recorded, f"{name}/params/"), recorded["in"], options)
            yield ArrayComparison(f"siglip_variants/{name}/out", recorded[f"{name}/out"], out, ONE_PASS)
            yield ArrayComparison(
                f"siglip_variants/{name}/out_2d", recorded[f"{name}/out_2d"], out_2d, ONE_PASS
            )


def _encoded(
    parameters: Arrays, images: np.ndarray, options: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pooled output, and the output of every patch before pooling."""
    patch, _, _, width = parameters["embedding/kernel"].shape
    stacked = options.get("stacked", True)
    block = "Transformer/encoderblock" + ("" if stacked else "_0")
    query = parameters[f"{block}/MultiHeadDotProductAttention_0/query/bias"]
    config = ImageEncoderConfig(
        width=width,
        depth=query.shape[0] if stacked else sum("LayerNorm_0/bias" in name for name in parameters),
        mlp_dim=parameters[f"{block}/MlpBlock_0/Dense_0/bias"].shape[-1],
        num_heads=query.shape[-2],
        patch_size=patch,
        **options,
    )
    abstract = nnx.eval_shape(
        lambda: ImageEncoder(
            config,
            image_hw=images.shape[1:3],
            output_width=parameters["head/bias"].shape[0],
            dtype=jnp.float32,
            rngs=nnx.Rngs(0),
        )
    )
    flat = {f"PaliGemma/img/{name}": array for name, array in parameters.items()}
    encoder = restored(abstract, flat, at="image_encoder")

    def run(encoder: ImageEncoder, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        result = encoder(images)
        return result.out, encoder.project(result.encoded)

    out, patches = compiled(encoder, run)(jnp.asarray(images))
    return np.asarray(out), np.asarray(patches).reshape(out.shape[0], *encoder.grid, -1)


def vit_checks(golden: Path) -> Iterator[ArrayComparison]:
    """Compare every classifier in `vit.npz`."""
    recorded = load_arrays(golden / "vit.npz")
    for name, config in CLASSIFIERS.items() if recorded else ():
        images = jnp.asarray(recorded[f"{name}/in"])
        classifier = vit_from(config, below(recorded, f"{name}/params/"), image_hw=images.shape[1:3])
        got = compiled(classifier, VisionTransformer.__call__)(images)
        yield ArrayComparison(f"vit/{name}", recorded[f"{name}/out"], np.asarray(got), ONE_PASS)
