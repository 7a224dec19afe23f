"""The plain image classifier against recordings of the reference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from simloop.harness.parity.comparison import ArrayComparison
from simloop.policies.inference.flat_jit import compiled
from simloop.policies.models.configs import ImageEncoderConfig
from simloop.policies.models.vit import VisionTransformer, VitConfig, vit_from

ONE_PASS = 2e-5  # Relative rms that float32 rounding makes of one forward pass.

BLOCKS = ImageEncoderConfig(width=24, depth=2, mlp_dim=48, num_heads=3, patch_size=8)
RECORDED = {
    "token": VitConfig(BLOCKS, classifier="token", classes=5),
    "gap": VitConfig(BLOCKS, classifier="gap", classes=5, representation_width=10),
    "unpooled": VitConfig(BLOCKS, classifier="unpooled", classes=5),
}


def checks(golden: Path) -> Iterator[ArrayComparison]:
    """Compare every classifier in `vit.npz`, if it is there."""
    file = golden / "vit.npz"
    if not file.exists():
        return
    with np.load(file) as npz:
        arrays = dict(npz)
    for name, config in RECORDED.items():
        prefix = f"{name}/params/"
        flat = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        images = jnp.asarray(arrays[f"{name}/in"])
        classifier = vit_from(config, flat, image_hw=images.shape[1:3])
        got = compiled(classifier, VisionTransformer.__call__)(images)
        yield ArrayComparison(f"vit/{name}", arrays[f"{name}/out"], np.asarray(got), ONE_PASS)
