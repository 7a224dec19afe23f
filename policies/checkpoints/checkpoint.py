"""A checkpoint that has been opened: what it holds, and ways to load it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
from jax.sharding import Sharding
from jax.typing import DTypeLike

from simloop.policies.checkpoints.array_source import ArraySource, ArraySpec, Format, StoredArray
from simloop.policies.checkpoints.norm_stats_files import Statistics, usable_statistics
from simloop.policies.checkpoints.streaming import load_arrays
from simloop.policies.transforms.normalization import NormalizationKind, NormStats


@dataclass(frozen=True)
class Checkpoint:
    """Weights and statistics in a folder. Opening reads names, shapes and settings only."""

    path: Path
    format: Format
    source: ArraySource
    statistics: Statistics
    settings: Mapping[str, object]
    """What the checkpoint says about its model in its own words (JSON); empty where it says nothing."""
    preset: str | None = None
    """Name of the preset that it was written for, where the format records one."""
    recorded_sha256: str | None = None
    """Fingerprint of the weights that the format records and checks while loading."""

    @property
    def arrays(self) -> tuple[StoredArray, ...]:
        """Everything that can be loaded, by name, shape and dtype in the files."""
        return self.source.stored

    @property
    def normalization(self) -> NormalizationKind | None:
        """The kind that the checkpoint records; None where the preset has to say it."""
        return self.statistics.kind()

    def load(
        self,
        expected: Mapping[str, ArraySpec],
        *,
        dtype: DTypeLike | None = None,
        sharding: Sharding | Mapping[str, Sharding] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        may_lack: str = "",
        may_drop: str = "",
    ) -> dict[str, jax.Array]:
        """Load the arrays that a model expects onto the devices, one after the other.

        Adapters (LoRA) are arrays like any other: kept if expected, otherwise reported as extra.

        Args:
          expected: Shape and dtype of each array by its name in the model.
          dtype: What all arrays are cast to; None casts each to the dtype expected of it.
          sharding: Where arrays go: one placement for all, or one by name. None is the default device.
          on_progress: Called after each array with the bytes loaded so far and in all; `progress_bar` yields one.
          may_lack: Regular expression of the names (whole) that the checkpoint may lack, such as
            adapters that training adds. They are absent from the result.
          may_drop: Regular expression of the names (whole) that the checkpoint may have beyond what
            is expected.

        Raises:
          CheckpointMismatch: If anything is missing, extra or of another shape; all of it is listed,
            and nothing has been read.
          CheckpointError: If files are damaged.
        """
        return load_arrays(
            self.source,
            expected,
            where=str(self.path),
            dtype=dtype,
            sharding=sharding,
            on_progress=on_progress,
            may_lack=may_lack,
            may_drop=may_drop,
        )

    def norm_stats(self, asset_id: str | None = None, *, kind: NormalizationKind | None = None) -> NormStats:
        """Statistics of `state` and `actions` that suffice for the normalisation of this checkpoint.

        Args:
          asset_id: Whose statistics, where there are several.
          kind: The preset's kind. Needed where the checkpoint records none; must agree where it does.

        Raises:
          CheckpointError: If there are none, several without `asset_id`, the kinds disagree, or the
            statistics lack what the kind needs, such as quantiles.
        """
        return usable_statistics(self.statistics, asset_id, kind)

    def weights_sha256(self) -> str:
        """Fingerprint of the weights, for the provenance of results.

        Where the format records hashes (our own), it follows from them at once and does not depend on
        the number of shards. Otherwise every byte of the files is read.
        """
        if self.recorded_sha256 is not None:
            return self.recorded_sha256
        digest = hashlib.sha256()
        for file in self.source.files():
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(f"{file.relative_to(self.path).as_posix()} {content}\n".encode())
        return digest.hexdigest()
