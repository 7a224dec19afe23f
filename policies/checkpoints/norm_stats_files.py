"""Normalization statistics in checkpoint folders."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Mapping
from pathlib import Path

from simloop.policies.checkpoints.array_source import CheckpointError
from simloop.policies.transforms import image_statistics
from simloop.policies.transforms.image_statistics import ImageStats
from simloop.policies.transforms.normalization import (
    NormalizationError,
    NormalizationKind,
    Normalizer,
    NormStats,
    norm_stats_from_json,
    require_size,
)
from simloop.untrusted import MAX_JSON_BYTES, inside, read_bytes

ASSETS = "assets"
FILE_NAME = "norm_stats.json"
UNNAMED = ""
"""Asset id of statistics whose origin the checkpoint does not record; matches any id."""


class Statistics(abc.ABC):
    """Statistics of one checkpoint, read on demand."""

    where: str
    """The folder, for messages."""

    @abc.abstractmethod
    def asset_ids(self) -> tuple[str, ...]:
        """Names of datasets or robots with statistics."""

    @abc.abstractmethod
    def kind(self) -> NormalizationKind | None:
        """Recorded kind of normalization; None if the checkpoint does not record it."""

    @abc.abstractmethod
    def read(self, asset_id: str) -> NormStats:
        """Read the statistics of `state` and `actions` of one asset id."""

    def images(self, asset_id: str) -> dict[str, ImageStats]:
        """Read the statistics of the training images by camera; empty if the checkpoint does not record them."""
        return {}


class AssetsFolder(Statistics):
    """Files `assets/<asset id>/norm_stats.json` in openpi's format, or one `norm_stats.json` beside the weights.

    Asset ids may contain slashes.
    """

    def __init__(
        self, folder: Path, kind: NormalizationKind | None = None, sha256: Mapping[str, str] | None = None
    ) -> None:
        """Describe the statistics of a checkpoint.

        Args:
          folder: Folder of the checkpoint, which contains `assets`.
          kind: Recorded kind of normalization.
          sha256: Recorded hash of each file by its path below `folder`.
        """
        self.where = str(folder)
        self._folder, self._kind, self._sha256 = folder, kind, sha256

    def asset_ids(self) -> tuple[str, ...]:
        root = self._folder / ASSETS
        named = tuple(sorted(file.parent.relative_to(root).as_posix() for file in root.rglob(FILE_NAME)))
        if named:
            return tuple(UNNAMED if name == "." else name for name in named)
        return (UNNAMED,) if (self._folder / FILE_NAME).is_file() else ()

    def kind(self) -> NormalizationKind | None:
        return self._kind

    def read(self, asset_id: str) -> NormStats:
        file = self._file(asset_id)
        try:
            return norm_stats_from_json(self._recorded(file))
        except NormalizationError as error:
            raise CheckpointError(f"{file}: {error}") from error

    def images(self, asset_id: str) -> dict[str, ImageStats]:
        file = self._file(asset_id).with_name(image_statistics.FILE_NAME)
        if not file.is_file():
            return {}
        try:
            return image_statistics.image_stats_from_json(self._recorded(file))
        except image_statistics.ImageStatisticsError as error:
            raise CheckpointError(f"{file}: {error}") from error

    def _recorded(self, file: Path) -> bytes:
        """Content of a file, which must have the recorded hash."""
        content = read_bytes(file, MAX_JSON_BYTES, error=CheckpointError)
        if self._sha256 is not None:
            recorded = self._sha256.get(file.relative_to(self._folder).as_posix())
            if recorded != hashlib.sha256(content).hexdigest():
                raise CheckpointError(
                    f"{file} has changed since the checkpoint was written. Restore it, or write the checkpoint "
                    "again with these statistics."
                )
        return content

    def _file(self, asset_id: str) -> Path:
        if asset_id == UNNAMED and not (self._folder / ASSETS / FILE_NAME).is_file():
            return self._folder / FILE_NAME
        name = f"{asset_id}/{FILE_NAME}" if asset_id else FILE_NAME
        return inside(self._folder / ASSETS, name, error=CheckpointError)


def chosen_asset(statistics: Statistics, asset_id: str | None) -> str:
    """Asset id of the statistics that are meant.

    Raises:
      CheckpointError: If there are none, or several without `asset_id`.
    """
    where, present = statistics.where, statistics.asset_ids()
    if not present:
        raise CheckpointError(
            f"{where} has no normalization statistics. Add assets/<asset id>/norm_stats.json, or norm_stats.json "
            "beside the weights (for a LeRobot policy older than 0.4, run LeRobot's migrate_policy_normalization)."
        )
    if present == (UNNAMED,):
        return UNNAMED
    if asset_id is None:
        if len(present) > 1:
            raise CheckpointError(
                f"{where} has statistics of {', '.join(present)}. Choose the robot or dataset with asset_id."
            )
        return present[0]
    if asset_id not in present:  # openpi's script puts the name of the config before the asset id.
        below = [one for one in present if one.endswith(f"/{asset_id}")]
        asset_id = below[0] if len(below) == 1 else asset_id
    if asset_id not in present:
        raise CheckpointError(f"{where} has statistics of {', '.join(present)}; got asset_id {asset_id!r}.")
    return asset_id


def usable_statistics(
    statistics: Statistics,
    asset_id: str | None,
    preset_kind: NormalizationKind | None,
    sizes: Mapping[str, int] | None = None,
) -> NormStats:
    """Select, read and check statistics; see `Checkpoint.norm_stats`."""
    where, asset_id = statistics.where, chosen_asset(statistics, asset_id)
    recorded = statistics.kind()
    if recorded is not None and preset_kind is not None and recorded != preset_kind:
        raise CheckpointError(
            f"{where} was trained with the normalization {recorded!r}; the preset has {preset_kind!r}. Use "
            "a preset with the same kind."
        )
    kind = recorded or preset_kind
    if kind is None:
        raise CheckpointError(f"{where} does not record its normalization. Pass the kind of the preset.")
    stats = statistics.read(asset_id)
    for key in ("state", "actions"):
        try:
            if key not in stats and kind != "none":
                raise NormalizationError(f"there are none; the keys are {', '.join(stats) or 'absent'}.")
            Normalizer(kind, stats.get(key))
            if sizes is not None and key in sizes and key in stats:
                require_size(key, stats[key], sizes[key])
        except NormalizationError as error:
            raise CheckpointError(f"{where}, statistics of {key}: {error}") from error
    return stats
