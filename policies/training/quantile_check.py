"""Compare stated quantiles with the data that they should describe.

LeRobot's datasets state quantiles that are averaged over episodes. Two episodes in [0, 1] and [10, 11] then have a
q01 of 5 and a q99 of 6, between which none of the data lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from simloop.policies.training import dataset_layout as layout
from simloop.policies.training.dataset_layout import DatasetError
from simloop.policies.transforms.normalization import EntryStats, NormalizationError, require_sound
from simloop.untrusted import read_json_object

FAR = 0.5
"""Distance from the quantiles, in parts of the range between them."""
FRACTION = 0.01
"""Part of the data that true quantiles leave on each side."""


def outside_quantiles(key: str, x: Shaped[np.ndarray, "n d"], stats: EntryStats) -> list[str]:
    """A sentence for every entry of which more than 1 % lie far below q01 or far above q99; none without quantiles."""
    if stats.q01 is None or stats.q99 is None:
        return []
    size = min(x.shape[1], len(stats.mean))
    q01, q99 = stats.q01[:size], stats.q99[:size]
    margin = FAR * (q99 - q01) + 1e-6 + 1e-6 * np.abs(q99)
    below, above = (x[:, :size] < q01 - margin).mean(axis=0), (x[:, :size] > q99 + margin).mean(axis=0)
    return [
        f"{100 * (below[i] + above[i]):.0f} % of {key}, entry {i}, lie far outside its stated quantiles, {q01[i]:.3g} "
        f"to {q99[i]:.3g}; in the data they are {np.quantile(x[:, i], 0.01):.3g} and {np.quantile(x[:, i], 0.99):.3g}."
        for i in range(size)
        if max(below[i], above[i]) > FRACTION
    ]


def stated_statistics(folder: Path, keys: Mapping[str, str]) -> dict[str, EntryStats]:
    """Statistics in `meta/stats.json` of a dataset, by the names in `keys`; empty if there is no such file.

    Args:
      folder: Folder of the dataset.
      keys: Column by name, such as `actions` of `action`.

    Raises:
      DatasetError: If they are impossible; names file, key and entry.
    """
    file = folder / layout.STATS
    if not file.is_file():
        return {}
    content = read_json_object(file, error=DatasetError)
    found = {}
    for name, key in keys.items():
        entry = content.get(key)
        if isinstance(entry, dict):
            try:
                found[name] = require_sound(
                    key, {one: _array(entry.get(one)) for one in ("mean", "std", "q01", "q99")}
                )
            except (NormalizationError, TypeError, ValueError) as error:
                raise DatasetError(f"{file}: {error}") from error
    return found


def _array(values: Any) -> np.ndarray | None:
    return None if values is None else np.atleast_1d(np.asarray(values, np.float64))
