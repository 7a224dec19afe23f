"""`Checkpoint`: an open folder of weights and statistics."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jax
from jax.sharding import Sharding
from jax.typing import DTypeLike

from simloop.policies.checkpoints.array_source import (
    ArraySource,
    ArraySpec,
    CheckpointError,
    Format,
    StoredArray,
)
from simloop.policies.checkpoints.norm_stats_files import Statistics, chosen_asset, usable_statistics
from simloop.policies.checkpoints.recorded_options import RecordedOptions
from simloop.policies.checkpoints.streaming import load_arrays
from simloop.policies.transforms.image_statistics import ImageStats
from simloop.policies.transforms.normalization import NormalizationKind, NormStats
from simloop.untrusted import file_sha256


@dataclass(frozen=True)
class Checkpoint:
    """Weights and statistics in a folder. Opening it reads names, shapes and settings only."""

    path: Path
    format: Format
    source: ArraySource
    statistics: Statistics
    settings: Mapping[str, object]
    """JSON description of the model in the checkpoint's own format; may be empty."""
    preset: str | None = None
    """Name of the preset of the weights, if the format records it."""
    options: RecordedOptions = field(default_factory=RecordedOptions)
    """What the files state about the policy beside weights and statistics."""
    recorded_sha256: str | None = None
    """Hash of the weights, if the format records it and checks it while loading."""

    def require_preset(self, name: str) -> None:
        """Raise `CheckpointError` if the weights are recorded as those of another preset."""
        if self.preset not in (None, name.partition("@")[0]):
            raise CheckpointError(
                f"{self.path} was written for preset {self.preset!r}; got {name!r}. Name it "
                f"{self.preset}@{self.path}."
            )

    @property
    def arrays(self) -> tuple[StoredArray, ...]:
        """Names, shapes and dtypes of all arrays in the files."""
        return self.source.stored

    @property
    def normalization(self) -> NormalizationKind | None:
        """Recorded kind of normalization; None if the checkpoint does not record it."""
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
        """Load the arrays that a model expects onto the devices, one at a time.

        Adapters (LoRA) are treated as other arrays: loaded if expected, otherwise reported as extra.

        Args:
          expected: Shape and dtype of each array by its name in the model.
          dtype: Dtype to cast all arrays to; None casts each to its expected dtype.
          sharding: One for all arrays, or one by name; None for the default device.
          on_progress: Called after each array with the bytes loaded so far and in all; `progress_bar` yields one.
          may_lack: Regular expression that fully matches names which the checkpoint may lack, such as
            adapters that training adds. They are absent from the result.
          may_drop: Regular expression that fully matches names of extra arrays to ignore. An array of another shape is
            absent from the result if both expressions match.

        Raises:
          CheckpointMismatch: If arrays are missing, extra or of another shape. The message lists all of them, and
            nothing is loaded.
          CheckpointError: If a file is damaged.
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

    def norm_stats(
        self,
        asset_id: str | None = None,
        *,
        kind: NormalizationKind | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> NormStats:
        """Statistics of `state` and `actions` that suffice for the checkpoint's normalization.

        Args:
          asset_id: Robot or dataset of the statistics; needed if there are several.
          kind: Kind of the preset; needed if the checkpoint records none, and must agree otherwise.
          sizes: Lengths of the robot's vectors by key; further entries of the statistics must be padding.

        Raises:
          CheckpointError: If there are no statistics, several without `asset_id`, the kinds disagree, or the
            statistics lack values that the kind needs, such as quantiles, or are those of another robot.
        """
        return usable_statistics(self.statistics, asset_id, kind, sizes)

    def image_stats(self, asset_id: str | None = None) -> dict[str, ImageStats]:
        """Statistics of the training images by camera; empty if the checkpoint does not record them.

        Raises:
          CheckpointError: If the file is damaged, or there are several robots without `asset_id`.
        """
        return self.statistics.images(chosen_asset(self.statistics, asset_id))

    def weights_sha256(self) -> str:
        """Hash of the weights, for the provenance of results.

        For simloop's own format it is computed from recorded hashes and does not depend on the number of shards.
        For other formats every byte of the files is read.
        """
        if self.recorded_sha256 is not None:
            return self.recorded_sha256
        digest = hashlib.sha256()
        for file in self.source.files():
            content = file_sha256(file, error=CheckpointError)
            digest.update(f"{file.relative_to(self.path).as_posix()} {content}\n".encode())
        return digest.hexdigest()
