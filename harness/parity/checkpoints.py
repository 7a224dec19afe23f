"""Comparisons of checkpoints that openpi wrote with the parameters they were written from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

from simloop.harness.parity.comparison import ArrayComparison, Arrays, below, identical, load_arrays
from simloop.policies.checkpoints import open_checkpoint

WRITTEN_FROM: Mapping[str, str] = {
    "pi0_libero/100": "pi0_dummy",
    "pi05_libero/100": "pi05_dummy",
    "pi0_fast_libero/100": "pi0fast_dummy",
    "pi05_dummy_pure_bf16": "pi05_dummy",
}
"""Case in `params_<case>.npz` for each folder below `ckpt`."""

TRAINED = "train_pi0_dummy/2"
"""Averaged weights after three training steps; some of their arrays are recorded in full."""
WHOLE = "ema_full/"


def checks(golden: Path) -> Iterator[ArrayComparison]:
    """Compare every array of every checkpoint that is present, in the dtype in which it is stored."""
    for folder, case in WRITTEN_FROM.items():
        parameters = load_arrays(golden / f"params_{case}.npz")
        yield from _arrays(golden, folder, parameters, parameters)
    trained = below(load_arrays(golden / "train_pi0_dummy.npz"), WHOLE)
    yield from _arrays(golden, TRAINED, load_arrays(golden / "params_pi0_dummy.npz"), trained)


def _arrays(golden: Path, folder: str, model: Arrays, wanted: Arrays) -> Iterator[ArrayComparison]:
    """Load the parameters of a model from a checkpoint and compare them with `wanted`, cast to the stored dtype."""
    if not (golden / "ckpt" / folder / "params").is_dir() or not model:
        return
    checkpoint = open_checkpoint(golden / "ckpt" / folder)
    stored = {array.model_name: array.dtype for array in checkpoint.arrays}
    expected = {
        name: jax.ShapeDtypeStruct(array.shape, stored.get(name, array.dtype))
        for name, array in model.items()
    }
    loaded = checkpoint.load(expected)
    for name, array in wanted.items():
        got = np.asarray(loaded[name])
        yield identical(f"ckpt/{folder}/{name}", array.astype(got.dtype), got)
