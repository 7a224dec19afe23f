"""Normalisation, resizing and augmentation against recordings of the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from simloop.harness.parity.comparison import ArrayComparison
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

NUMBERS = 1e-6
GREY_LEVEL = 1.0  # Of a resized uint8 image: a value half-way between two may round either way.
RESIZED_FLOAT = 2e-6
HALF_PRECISION = 5e-4  # Augmented images are recorded in float16, whose steps near ±1 are this wide.

Arrays = Mapping[str, np.ndarray]


def checks(golden: Path) -> Iterator[ArrayComparison]:
    """Compare everything in `normalize.npz`, `images.npz` and `augment.npz` that is there."""
    for name, compare in (("normalize", _normalize), ("images", _images), ("augment", _augment)):
        file = golden / f"{name}.npz"
        if file.exists():
            with np.load(file) as arrays:
                yield from compare(dict(arrays))


def _normalize(arrays: Arrays) -> Iterator[ArrayComparison]:
    data, running = arrays["running/data"], RunningStats()
    for batch in (data[:200], data[200:350] * 1.5, data[350:]):
        running.update(batch)
    measured = running.stats()
    for name, got in (
        ("mean", measured.mean),
        ("std", measured.std),
        ("q01", measured.q01),
        ("q99", measured.q99),
    ):
        assert got is not None
        yield _close(f"normalize/running/{name}", arrays[f"running/{name}"], got)
    text = str(arrays["running/json"])
    wanted, got = (
        np.frombuffer(t.encode(), np.uint8) for t in (text, norm_stats_to_json({"state": measured}))
    )
    yield ArrayComparison("normalize/running/json", wanted, got, 0.0, "identical")
    reread = norm_stats_from_json(text)["state"]
    yield ArrayComparison(
        "normalize/running/json_read", arrays["running/mean"], reread.mean, 0.0, "identical"
    )

    stats = {
        key: EntryStats(*(arrays[f"stats/{key}/{name}"] for name in ("mean", "std", "q01", "q99")))
        for key in ("state", "actions")
    }
    kinds: tuple[tuple[NormalizationKind, str], ...] = (("z_score", "zscore"), ("quantile", "quantile"))
    for kind, recorded in kinds:
        for key in ("state", "actions"):
            normalizer = Normalizer(kind, stats[key])
            normalized = normalizer.normalize(arrays[f"in/{key}"])
            wide = normalizer.unnormalize(arrays[f"{recorded}/wide_in_{key}"])
            back = normalizer.unnormalize(normalized)
            for name, got in ((key, normalized), (f"roundtrip_{key}", back), (f"wide_{key}", wide)):
                yield _close(f"normalize/{recorded}/{name}", arrays[f"{recorded}/{name}"], got)
        narrow = Normalizer(kind, stats["state"]).normalize(arrays["in/state"][:5])
        yield _close(f"normalize/{recorded}/narrow_state", arrays[f"{recorded}/narrow_state"], narrow)

    state, actions, mask = arrays["in/state"], arrays["in/actions"], delta_mask(6, -1)
    delta = delta_actions(actions, state, mask)
    for name, got in (
        ("delta/actions", delta),
        ("delta/absolute", absolute_actions(delta, state, mask)),
        ("pad/state", zero_padded(state, 32)),
        ("pad/actions", zero_padded(actions, 32)),
        ("subsample/actions", subsampled(actions, 2)),
    ):
        yield _close(f"normalize/{name}", arrays[name], got)


def _images(arrays: Arrays) -> Iterator[ArrayComparison]:
    for name in [
        key.removesuffix("/in_u8") for key in arrays if key.startswith("resize") and key.endswith("/in_u8")
    ]:
        image = arrays[f"{name}/in_u8"]
        height, width = arrays[f"{name}/pil_u8"].shape[:2]
        wanted = arrays[f"{name}/pil_u8"]
        yield ArrayComparison(
            f"images/{name}/pil_u8", wanted, resize_with_pad(image, height, width), 0.0, "identical"
        )
        on_device = np.asarray(device_images.resize_with_pad(jnp.asarray(image), height, width))
        yield ArrayComparison(f"images/{name}/jax_u8", arrays[f"{name}/jax_u8"], on_device, GREY_LEVEL, "max")
        if f"{name}/jax_f32" in arrays:
            floats = np.asarray(device_images.resize_with_pad(_as_float(image), height, width))
            yield ArrayComparison(
                f"images/{name}/jax_f32", arrays[f"{name}/jax_f32"], floats, RESIZED_FLOAT, "max"
            )
    levels = np.broadcast_to(arrays["convert_to_uint8/in"][:, None, None], (6, 1, 3))
    got = uint8_image(levels)[:, 0, 0]
    yield ArrayComparison("images/convert_to_uint8", arrays["convert_to_uint8/out"], got, 0.0, "identical")
    if "preprocess/in_u8" in arrays:
        resized = device_images.resize_with_pad(_as_float(arrays["preprocess/in_u8"]), 224, 224)
        wanted = arrays["preprocess/out_base"]
        yield ArrayComparison(
            "images/preprocess", wanted, np.asarray(resized)[:, ::4, ::4], RESIZED_FLOAT, "max"
        )


def _augment(arrays: Arrays) -> Iterator[ArrayComparison]:
    cameras = [name.removesuffix("/in_u8") for name in arrays if name.endswith("/in_u8")]
    key = jax.random.wrap_key_data(jnp.asarray(arrays["rng_key_data"]), impl="threefry2x32")
    augmented = jax.jit(augment)({camera: _as_float(arrays[f"{camera}/in_u8"]) for camera in cameras}, key)
    for camera in cameras:
        got = np.asarray(augmented[camera])
        wanted = arrays[f"{camera}/out"].astype(np.float32)
        yield ArrayComparison(f"augment/{camera}", wanted, got[:, ::2, ::2], HALF_PRECISION, "max")
        pixels = (1, 2, 3)
        of_rows = np.stack([got.mean(pixels), got.std(pixels), got.min(pixels), got.max(pixels)])
        yield _close(f"augment/{camera}/stats", arrays[f"{camera}/out_stats"], of_rows)


def _as_float(image: np.ndarray) -> jax.Array:
    return jnp.asarray(image).astype(jnp.float32) / 255.0 * 2.0 - 1.0


def _close(name: str, wanted: np.ndarray, got: np.ndarray) -> ArrayComparison:
    return ArrayComparison(name, wanted, got, NUMBERS, "max")
