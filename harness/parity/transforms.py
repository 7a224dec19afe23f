"""Comparisons of normalization, image resizing and augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simloop.harness.parity.comparison import ArrayComparison, Arrays, close, identical, load_arrays
from simloop.policies.transforms import device_images
from simloop.policies.transforms.augmentation import augment
from simloop.policies.transforms.normalization import (
    EntryStats,
    NormalizationKind,
    Normalizer,
    RunningStats,
    norm_stats_from_json,
    norm_stats_to_json,
)
from simloop.policies.transforms.preprocessing import (
    absolute_actions,
    delta_actions,
    delta_mask,
    resize_with_pad,
    subsampled,
    uint8_image,
    zero_padded,
)

EXACT = 1e-6
GREY_LEVEL = 1.0
"""Difference of resized uint8 images: a value half-way between two may round either way."""
RESIZED_FLOAT = 2e-6
HALF_PRECISION = 5e-4
"""Augmented images are recorded in float16, with about this distance between numbers near ±1."""
STATISTICS = ("mean", "std", "q01", "q99")


def checks(golden: Path) -> Iterator[ArrayComparison]:
    """Compare everything in `normalize.npz`, `images.npz` and `augment.npz`."""
    for name, compare in (("normalize", _normalize), ("images", _images), ("augment", _augment)):
        if arrays := load_arrays(golden / f"{name}.npz"):
            yield from compare(arrays)


def _normalize(arrays: Arrays) -> Iterator[ArrayComparison]:
    data, running = arrays["running/data"], RunningStats()
    for batch in (data[:200], data[200:350] * 1.5, data[350:]):
        running.update(batch)
    measured, text = running.stats(), str(arrays["running/json"])
    computed: dict[str, Any] = {f"running/{name}": getattr(measured, name) for name in STATISTICS}
    written = norm_stats_to_json({"state": measured})
    yield identical("normalize/running/json", _bytes(text), _bytes(written))
    reread = norm_stats_from_json(text)["state"]
    yield identical("normalize/running/json_read", arrays["running/mean"], reread.mean)

    stats = {
        key: EntryStats(*(arrays[f"stats/{key}/{name}"] for name in STATISTICS))
        for key in ("state", "actions")
    }
    kinds: tuple[tuple[NormalizationKind, str], ...] = (("z_score", "zscore"), ("quantile", "quantile"))
    for kind, recorded in kinds:
        for key in ("state", "actions"):
            normalizer = Normalizer(kind, stats[key])
            normalized = normalizer.normalize(arrays[f"in/{key}"])
            computed[f"{recorded}/{key}"] = normalized
            computed[f"{recorded}/roundtrip_{key}"] = normalizer.unnormalize(normalized)
            computed[f"{recorded}/wide_{key}"] = normalizer.unnormalize(arrays[f"{recorded}/wide_in_{key}"])
        narrow = Normalizer(kind, stats["state"]).normalize(arrays["in/state"][:5])
        computed[f"{recorded}/narrow_state"] = narrow

    state, actions, mask = arrays["in/state"], arrays["in/actions"], delta_mask(6, -1)
    delta = delta_actions(actions, state, mask)
    computed |= {
        "delta/actions": delta,
        "delta/absolute": absolute_actions(delta, state, mask),
        "pad/state": zero_padded(state, 32),
        "pad/actions": zero_padded(actions, 32),
        "subsample/actions": subsampled(actions, 2),
    }
    for name, got in computed.items():
        yield close(f"normalize/{name}", arrays[name], got, EXACT)


def _images(arrays: Arrays) -> Iterator[ArrayComparison]:
    resized = [name for name in arrays if name.startswith("resize") and name.endswith("/in_u8")]
    for name in (name.removesuffix("/in_u8") for name in resized):
        image, wanted = arrays[f"{name}/in_u8"], arrays[f"{name}/pil_u8"]
        height, width = wanted.shape[:2]
        yield identical(f"images/{name}/pil_u8", wanted, resize_with_pad(image, height, width))
        on_device = device_images.resize_with_pad(jnp.asarray(image), height, width)
        yield close(f"images/{name}/jax_u8", arrays[f"{name}/jax_u8"], on_device, GREY_LEVEL)
        if f"{name}/jax_f32" in arrays:
            floats = device_images.resize_with_pad(_as_float(image), height, width)
            yield close(f"images/{name}/jax_f32", arrays[f"{name}/jax_f32"], floats, RESIZED_FLOAT)
    levels = np.broadcast_to(arrays["convert_to_uint8/in"][:, None, None], (6, 1, 3))
    got = uint8_image(levels)[:, 0, 0]
    yield identical("images/convert_to_uint8", arrays["convert_to_uint8/out"], got)
    if "preprocess/in_u8" in arrays:
        base = device_images.resize_with_pad(_as_float(arrays["preprocess/in_u8"]), 224, 224)
        yield close("images/preprocess", arrays["preprocess/out_base"], base[:, ::4, ::4], RESIZED_FLOAT)


def _augment(arrays: Arrays) -> Iterator[ArrayComparison]:
    cameras = [name.removesuffix("/in_u8") for name in arrays if name.endswith("/in_u8")]
    key = jax.random.wrap_key_data(jnp.asarray(arrays["rng_key_data"]), impl="threefry2x32")
    augmented = jax.jit(augment)({camera: _as_float(arrays[f"{camera}/in_u8"]) for camera in cameras}, key)
    for camera in cameras:
        got = np.asarray(augmented[camera])
        wanted = arrays[f"{camera}/out"].astype(np.float32)
        yield close(f"augment/{camera}", wanted, got[:, ::2, ::2], HALF_PRECISION)
        pixels = (1, 2, 3)
        by_row = np.stack([got.mean(pixels), got.std(pixels), got.min(pixels), got.max(pixels)])
        yield close(f"augment/{camera}/stats", arrays[f"{camera}/out_stats"], by_row, EXACT)


def _as_float(image: np.ndarray) -> jax.Array:
    return jnp.asarray(image).astype(jnp.float32) / 255.0 * 2.0 - 1.0


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)
