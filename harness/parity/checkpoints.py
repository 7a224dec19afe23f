"""Checkpoints that openpi wrote, read here, beside the parameters they were written from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

from simloop.harness.parity.comparison import ArrayComparison
from simloop.policies.checkpoints import open_checkpoint

WRITTEN_FROM: Mapping[str, str] = {
    "pi0_libero/100": "pi0_dummy",
    "pi05_libero/100": "pi05_dummy",
    "pi0_fast_libero/100": "pi0fast_dummy",
    "pi05_dummy_pure_bf16": "pi05_dummy",
}
"""Case of `params_<case>.npz` by folder below `ckpt`."""

TRAINED = "train_pi0_dummy/2"
"""Averaged weights after three steps of training, of which some arrays are recorded whole."""
WHOLE = "ema_full/"


def checks(golden: Path) -> Iterator[ArrayComparison]:
    """Every array of every checkpoint that is there, in the dtype it is stored in."""
    for folder, case in WRITTEN_FROM.items():
        parameters = golden / f"params_{case}.npz"
        if (golden / "ckpt" / folder / "params").is_dir() and parameters.is_file():
            with np.load(parameters) as wanted:
                yield from _arrays(golden, folder, dict(wanted), dict(wanted))
    record, initial = golden / "train_pi0_dummy.npz", golden / "params_pi0_dummy.npz"
    if (golden / "ckpt" / TRAINED / "params").is_dir() and record.is_file() and initial.is_file():
        with np.load(record) as recorded, np.load(initial) as shapes:
            whole = {
                name.removeprefix(WHOLE): recorded[name] for name in recorded.files if name.startswith(WHOLE)
            }
            yield from _arrays(golden, TRAINED, dict(shapes), whole)


def _arrays(
    golden: Path, folder: str, model: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]
) -> Iterator[ArrayComparison]:
    """Load a whole model from a folder and compare the arrays of `wanted`, cast to how they are stored."""
    checkpoint = open_checkpoint(golden / "ckpt" / folder)
    stored = {array.model_name: array.dtype for array in checkpoint.arrays}
    expected = {
        name: jax.ShapeDtypeStruct(array.shape, stored.get(name, array.dtype))
        for name, array in model.items()
    }
    loaded = checkpoint.load(expected)
    for name, array in wanted.items():
        got = np.asarray(loaded[name])
        yield ArrayComparison(f"ckpt/{folder}/{name}", array.astype(got.dtype), got, 0.0, "identical")
