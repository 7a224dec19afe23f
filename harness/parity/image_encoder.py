"""The options of the image encoder against their recordings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from simloop.harness.parity.comparison import ArrayComparison
from simloop.harness.parity.models import ONE_PASS
from simloop.policies.inference.flat_jit import compiled
from simloop.policies.models.configs import ImageEncoderConfig
from simloop.policies.models.parameters import restored
from simloop.policies.models.siglip import ImageEncoder

VARIANTS: dict[str, dict[str, Any]] = {
    "none_scan": {},
    "none_noscan": {"stacked": False},
    "gap_sincos": {"pooling": "gap", "position_embedding": "sincos2d"},
    "tok": {"pooling": "tok"},
    "rep": {"pooling": "gap", "representation_head": True},
}
"""Name of a recorded variant, and the options it was recorded with."""


def checks(golden: Path) -> Iterator[ArrayComparison]:
    """Pooled and unpooled outputs of every recorded variant."""
    path = golden / "siglip_variants.npz"
    if not path.exists():
        return
    with np.load(path) as file:
        recorded = dict(file)
    for name, options in VARIANTS.items():
        if f"{name}/out" not in recorded:
            continue
        out, out_2d = run_variant(recorded, name, options)
        yield ArrayComparison(f"siglip_variants/{name}/out", recorded[f"{name}/out"], out, ONE_PASS)
        yield ArrayComparison(f"siglip_variants/{name}/out_2d", recorded[f"{name}/out_2d"], out_2d, ONE_PASS)


def run_variant(
    recorded: dict[str, np.ndarray], name: str, options: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Pooled output, and the output of every patch before pooling."""
    start = f"{name}/params/"
    flat = {
        f"PaliGemma/img/{key.removeprefix(start)}": value
        for key, value in recorded.items()
        if key.startswith(start)
    }
    encoder = restored(_abstract_encoder(flat, recorded["in"], options), flat, at="image_encoder")

    def run(encoder: ImageEncoder, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        result = encoder(images)
        return result.out, encoder.project(result.encoded)

    out, patches = compiled(encoder, run)(jnp.asarray(recorded["in"]))
    return np.asarray(out), np.asarray(patches).reshape(out.shape[0], *encoder.grid, -1)


def _abstract_encoder(flat: dict[str, np.ndarray], images: np.ndarray, options: dict[str, Any]) -> Any:
    patch, _, _, width = flat["PaliGemma/img/embedding/kernel"].shape
    stacked = options.get("stacked", True)
    block = "PaliGemma/img/Transformer/encoderblock" + ("" if stacked else "_0")
    query = flat[f"{block}/MultiHeadDotProductAttention_0/query/bias"]
    depth = query.shape[0] if stacked else sum("LayerNorm_0/bias" in name for name in flat)
    config = ImageEncoderConfig(
        width=width,
        depth=depth,
        mlp_dim=flat[f"{block}/MlpBlock_0/Dense_0/bias"].shape[-1],
        num_heads=query.shape[-2],
        patch_size=patch,
        **options,
    )
    return nnx.eval_shape(
        lambda: ImageEncoder(
            config,
            image_hw=images.shape[1:3],
            output_width=flat["PaliGemma/img/head/bias"].shape[0],
            dtype=jnp.float32,
            rngs=nnx.Rngs(0),
        )
    )
