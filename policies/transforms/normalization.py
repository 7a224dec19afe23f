"""Normalize robot units to model units, and back.

Statistics are per key (`state`, `actions`) and per entry, in the `norm_stats.json` of openpi:

    {"norm_stats": {"state": {"mean": [..], "std": [..], "q01": [..], "q99": [..]}, "actions": {..}}}

Axis letters: n vectors, d entries of a vector, s entries of the statistics.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Shaped

from simloop.untrusted import MAX_JSON_BYTES, parse_json, read_bytes

NormalizationKind = Literal["z_score", "quantile", "none"]

FIELDS = ("mean", "std", "q01", "q99")
AMPLIFIED_DEVIATION, AMPLIFIED_TO = 0.001, 1.0
"""Entries in which so small a deviation, in robot units, becomes more than this in model units hardly vary."""
PADDING_RANGE = 1e-6
"""Largest deviation and range of entries that were padded with a constant."""
EPSILON = 1e-6  # Keeps constant entries finite; models were trained with it.
HISTOGRAM_BINS = 5000
_RANGE_MARGIN = 1e-10  # Gives constant entries a range, and keeps the largest value inside it.


class NormalizationError(ValueError):
    """Statistics that cannot be read, or do not suffice for a normalization."""

    user_facing = True


@dataclass(frozen=True)
class EntryStats:
    """Statistics of each entry of a vector; quantiles are optional."""

    mean: Float[np.ndarray, "s"]
    std: Float[np.ndarray, "s"]
    q01: Float[np.ndarray, "s"] | None = None
    q99: Float[np.ndarray, "s"] | None = None


NormStats = Mapping[str, EntryStats]
"""By key: `state` and `actions`."""


@dataclass(frozen=True)
class Normalizer:
    """Linear map between robot units and model units, without clipping.

    `z_score`: (x - mean) / std. `quantile`: maps the range from the 1 % to the 99 % quantile to [-1, 1].
    """

    kind: NormalizationKind
    stats: EntryStats | None = None

    def __post_init__(self) -> None:
        """Reject statistics that lack what the kind needs."""
        if self.kind == "none":
            return
        if self.stats is None:
            raise NormalizationError(f"Normalization {self.kind!r} needs statistics; there are none.")
        if self.kind == "quantile" and (self.stats.q01 is None or self.stats.q99 is None):
            raise NormalizationError(
                "Normalization 'quantile' needs q01 and q99; the statistics have only mean and std. Compute "
                "them again from the data, or choose a preset that was trained with z-scores."
            )

    def normalize(self, x: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n d"]:
        """Convert robot units to model units, with the first d statistics.

        Raises:
          NormalizationError: If there are more entries than statistics.
        """
        if self.kind == "none":
            return x
        scale, offset = self._linear(x.shape[-1])
        if self.kind == "z_score":
            return (x - offset) / scale
        return (x - offset) / scale * 2.0 - 1.0

    def unnormalize(self, x: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n d"]:
        """Convert model units to robot units. Entries beyond the statistics are padding and stay unchanged.

        (With z-scores they are multiplied by 1 + 1e-6, as in the reference implementation.)
        """
        if self.kind == "none":
            return x
        known = min(x.shape[-1], _size(self.stats))
        scale, offset = self._linear(known)
        if self.kind == "z_score":
            head = x[..., :known] * scale + offset
            tail = x[..., known:] * (1.0 + EPSILON)
        else:
            head = (x[..., :known] + 1.0) / 2.0 * scale + offset
            tail = x[..., known:]
        return np.concatenate([head, tail], axis=-1)

    def _linear(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Divisor and offset of the first `size` entries."""
        stats = self.stats
        assert stats is not None
        if size > _size(stats):
            raise NormalizationError(
                f"A vector of {size} entries cannot be normalized with statistics of {_size(stats)}."
            )
        if self.kind == "z_score":
            return stats.std[:size] + EPSILON, stats.mean[:size]
        assert stats.q01 is not None
        assert stats.q99 is not None
        return stats.q99[:size] - stats.q01[:size] + EPSILON, stats.q01[:size]

    def amplified(self, deviation: float = 0.001) -> Float[np.ndarray, "s"]:
        """What a deviation in robot units becomes in model units, for every entry with statistics."""
        if self.kind == "none":
            return np.zeros(0)
        scale, _ = self._linear(_size(self.stats))
        return deviation / scale * (1.0 if self.kind == "z_score" else 2.0)


def _size(stats: EntryStats | None) -> int:
    return 0 if stats is None else stats.mean.shape[0]


def identity_stats(size: int) -> EntryStats:
    """Statistics that leave entries in [-1, 1] unchanged to 1e-6, for both kinds."""
    one = np.ones(size)
    return EntryStats(mean=0 * one, std=one, q01=-one, q99=one)


def load_norm_stats(path: Path) -> dict[str, EntryStats]:
    """Read a `norm_stats.json`.

    Raises:
      NormalizationError: If the file is missing, has another format or holds impossible statistics.
    """
    content = read_bytes(path, MAX_JSON_BYTES, error=NormalizationError)
    try:
        return norm_stats_from_json(content)
    except NormalizationError as error:
        raise NormalizationError(f"{path}: {error}") from error


def norm_stats_from_json(text: str | bytes) -> dict[str, EntryStats]:
    """Parse the text of a `norm_stats.json`. Actions may be under the key `action`.

    Raises:
      NormalizationError: If it has another format or holds impossible statistics.
    """
    content = parse_json(text, "the text", error=NormalizationError)
    try:
        entries = dict(content["norm_stats"])
        if "action" in entries and "actions" not in entries:
            entries["actions"] = entries.pop("action")
        return {
            key: require_sound(key, {name: _array(key, name, entry.get(name)) for name in FIELDS})
            for key, entry in entries.items()
        }
    except NormalizationError:
        raise
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError) as error:
        if rlds := _rlds_names(content):
            raise NormalizationError(
                f"these are RLDS statistics of {', '.join(rlds)}, as OpenVLA keeps them, whose mask leaves entries "
                "unnormalized. Write them as openpi's norm_stats.json, with mean 0 and deviation 1 (q01 -1, q99 1) for "
                "entries with a false mask."
            ) from error
        raise NormalizationError(
            f'Expected {{"norm_stats": {{"state": {{"mean": [..], "std": [..], ..}}, ..}}}}; got {error!r}.'
        ) from error


def norm_stats_to_json(stats: NormStats) -> str:
    """Text of a `norm_stats.json` in openpi's format."""
    entries = {
        key: {
            name: None if value is None else value.tolist()
            for name, value in (("mean", s.mean), ("std", s.std), ("q01", s.q01), ("q99", s.q99))
        }
        for key, s in stats.items()
    }
    return json.dumps({"norm_stats": entries}, indent=2)


def save_norm_stats(path: Path, stats: NormStats) -> None:
    """Write a `norm_stats.json`, creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(norm_stats_to_json(stats))


def require_sound(key: str, arrays: Mapping[str, np.ndarray | None]) -> EntryStats:
    """Statistics of one key, after checks of every entry.

    Raises:
      NormalizationError: If mean or std is absent, lengths differ, an entry is not finite, a deviation is negative, or
        q01 is above q99; names key and entry.
    """
    mean, std, q01, q99 = (arrays.get(name) for name in FIELDS)
    if mean is None or std is None:
        raise NormalizationError(f"The statistics of {key!r} lack mean or std.")
    present = {name: array for name in FIELDS if (array := arrays.get(name)) is not None}
    shapes = {name: array.shape for name, array in present.items()}
    if len(set(shapes.values())) != 1 or mean.ndim != 1:
        raise NormalizationError(
            f"The statistics of {key!r} must be lists of one length; got shapes {shapes}."
        )
    faults = [(name, ~np.isfinite(array), "wanted a finite number") for name, array in present.items()]
    faults.append(("std", std < 0, "a deviation is not negative"))
    if q01 is not None and q99 is not None:
        faults.append(("q01", q01 > q99, "q01 is above q99"))
    for name, wrong, why in faults:
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            raise NormalizationError(f"{name} of {key!r}, entry {i}, is {present[name][i]:g}; {why}.")
    return EntryStats(mean=mean, std=std, q01=q01, q99=q99)


def require_size(key: str, stats: EntryStats, size: int) -> None:
    """Check that statistics are those of a robot whose vectors have `size` entries.

    Entries beyond them must be padding, which does not vary.

    Raises:
      NormalizationError: If there are too few entries, or further ones vary.
    """
    found = len(stats.mean)
    if found < size:
        raise NormalizationError(f"{key!r} has statistics of {found} entries; the robot has {size}.")
    varies = stats.std[size:] > PADDING_RANGE
    if stats.q01 is not None and stats.q99 is not None:
        varies |= stats.q99[size:] - stats.q01[size:] > PADDING_RANGE
    if varies.any():
        i = size + int(np.flatnonzero(varies)[0])
        raise NormalizationError(
            f"{key!r} has statistics of {found} entries; the robot has {size}, and entry {i} varies, so it is no "
            "padding. These are the statistics of another robot."
        )


def nearly_constant(key: str, stats: EntryStats, kind: NormalizationKind, size: int) -> list[str]:
    """A sentence for every entry in which a small deviation becomes a large one for the model."""
    return [
        f"Entry {i} of {key} hardly varies in the statistics: a deviation of {AMPLIFIED_DEVIATION:g} becomes "
        f"{value:.3g} for the model."
        for i, value in enumerate(Normalizer(kind, stats).amplified(AMPLIFIED_DEVIATION)[:size])
        if value > AMPLIFIED_TO
    ]


def _array(key: str, name: str, values: Any) -> np.ndarray | None:
    if values is None:
        return None
    if isinstance(values, list) and None in values:
        raise NormalizationError(f"{name} of {key!r}, entry {values.index(None)}, is null; wanted a number.")
    return np.asarray(values, np.float64)


def _rlds_names(content: Any) -> list[str]:
    """Names of the datasets in a `dataset_statistics.json`; empty for other files."""
    if not isinstance(content, dict):
        return []
    return [
        name for name, one in content.items() if isinstance(one, dict) and isinstance(one.get("action"), dict)
    ]


class RunningStats:
    """Statistics of vectors that arrive in batches and are not kept.

    Mean and population standard deviation are exact up to rounding. Quantiles come from a histogram of
    5000 bins per entry over the range so far. When the range grows, each bin moves as a whole to the bin of its
    left edge, so quantiles are accurate to about two bins of the final range.
    """

    def __init__(self) -> None:
        self._count = 0
        self._low, self._high = np.zeros(0), np.zeros(0)
        self._mean = np.zeros(0)
        self._mean_of_squares = np.zeros(0)
        self._histograms = np.zeros((0, HISTOGRAM_BINS))
        self._edges = np.zeros((0, HISTOGRAM_BINS + 1))

    def update(self, batch: Shaped[np.ndarray, "*n d"]) -> None:
        """Add a batch of vectors along the last axis."""
        vectors = batch.reshape(-1, batch.shape[-1])
        low, high = vectors.min(axis=0), vectors.max(axis=0)
        if self._count == 0:
            size = vectors.shape[-1]
            self._low, self._high = low, high
            self._mean, self._mean_of_squares = np.zeros(size), np.zeros(size)
            self._histograms = np.zeros((size, HISTOGRAM_BINS))
            self._edges = np.linspace(low - _RANGE_MARGIN, high + _RANGE_MARGIN, HISTOGRAM_BINS + 1, axis=-1)
        else:
            if vectors.shape[-1] != self._mean.size:
                raise ValueError(f"Expected vectors of {self._mean.size} entries; got {vectors.shape[-1]}.")
            self._widen(low, high)
        for i, column in enumerate(vectors.T):
            self._histograms[i] += np.histogram(column, bins=self._edges[i])[0]
        added = vectors.shape[0]
        self._count += added
        self._mean += (vectors.mean(axis=0) - self._mean) * (added / self._count)
        self._mean_of_squares += ((vectors**2).mean(axis=0) - self._mean_of_squares) * (added / self._count)

    def stats(self) -> EntryStats:
        """Statistics of all vectors so far.

        Raises:
          ValueError: If there are fewer than two.
        """
        if self._count < 2:
            raise ValueError(f"Statistics need at least 2 vectors; got {self._count}.")
        variance = np.maximum(0.0, self._mean_of_squares - self._mean**2)
        return EntryStats(self._mean.copy(), np.sqrt(variance), self._quantile(0.01), self._quantile(0.99))

    def _quantile(self, q: float) -> np.ndarray:
        """Left edge of the bin in which the cumulative count reaches q n."""
        cumulative = np.cumsum(self._histograms, axis=1)
        bins = np.array([np.searchsorted(row, q * self._count) for row in cumulative])
        return self._edges[np.arange(bins.size), bins]

    def _widen(self, low: np.ndarray, high: np.ndarray) -> None:
        """Stretch the histograms to cover [low, high]."""
        low, high = np.minimum(low, self._low), np.maximum(high, self._high)
        if np.array_equal(low, self._low) and np.array_equal(high, self._high):
            return
        self._low, self._high = low, high
        for i, (a, b) in enumerate(zip(low, high, strict=True)):
            edges = np.linspace(a, b, HISTOGRAM_BINS + 1)
            moved = np.clip(self._edges[i, :-1], a, b)
            self._histograms[i] = np.histogram(moved, bins=edges, weights=self._histograms[i])[0]
            self._edges[i] = edges
