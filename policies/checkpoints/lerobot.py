"""Policies in LeRobot's format: `pi0`, `pi05` and `pi0_fast`.

    config.json                      type, sizes and options of the policy
    model.safetensors                or shards with model.safetensors.index.json
    policy_preprocessor.json         steps before the model, normalization among them
    policy_postprocessor.json        steps after the model, unnormalization among them
    policy_*_normalizer_processor.safetensors    statistics, as `observation.state.mean`, `action.q99`

LeRobot records its normalization. Its z-scores and quantiles equal simloop's except for the constant that keeps
divisions finite (1e-8 there, 1e-6 here), which matters only for entries that hardly vary in the training data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simloop.policies.checkpoints.array_source import CheckpointError
from simloop.policies.checkpoints.checkpoint import Checkpoint
from simloop.policies.checkpoints.lerobot_options import CONFIG, read_options
from simloop.policies.checkpoints.lerobot_steps import POSTPROCESSOR, PREPROCESSOR, Pipeline
from simloop.policies.checkpoints.norm_stats_files import UNNAMED, Statistics
from simloop.policies.checkpoints.safetensors_files import SafetensorsFiles, file_beside
from simloop.policies.checkpoints.torch_source import TorchSource
from simloop.policies.transforms.normalization import (
    EntryStats,
    NormalizationError,
    NormalizationKind,
    NormStats,
    require_sound,
)
from simloop.untrusted import read_json_object


def read_config(folder: Path) -> dict[str, Any]:
    """Contents of `config.json`; empty if there is none.

    Raises:
      CheckpointError: If it is not a JSON object.
    """
    file = folder / CONFIG
    return (
        read_json_object(file, remedy="Download it again.", error=CheckpointError) if file.is_file() else {}
    )


def open_lerobot(folder: Path) -> Checkpoint:
    """Open a LeRobot policy.

    Raises:
      CheckpointError: If the type of policy is unknown, or an option or a step of its processors is not supported.
    """
    config = read_config(folder)
    options = read_options(folder, config)
    return Checkpoint(
        path=folder,
        format="lerobot",
        source=TorchSource(
            SafetensorsFiles.in_folder(folder), output_head_is_used=options.family == "pi0_fast"
        ),
        statistics=LerobotStatistics(folder, options.normalization),
        settings=config,
        options=options,
    )


class LerobotStatistics(Statistics):
    """Statistics in the normalization steps of LeRobot's processors."""

    def __init__(self, folder: Path, kind: NormalizationKind | None) -> None:
        self.where = str(folder)
        self._folder, self._kind = folder, kind

    def asset_ids(self) -> tuple[str, ...]:
        return (UNNAMED,) if None not in self._files() else ()

    def kind(self) -> NormalizationKind | None:
        return self._kind

    def read(self, asset_id: str) -> NormStats:
        before, after = self._files()
        if before is None or after is None:
            raise CheckpointError(f"{self.where} has processors without statistics.")
        return {"state": _entry(before, "observation.state"), "actions": _entry(after, "action")}

    def _files(self) -> tuple[Path | None, Path | None]:
        return self._state_file(PREPROCESSOR), self._state_file(POSTPROCESSOR)

    def _state_file(self, processor: str) -> Path | None:
        name = (Pipeline.read(self._folder / processor).normalizer or {}).get("state_file")
        if name is None:
            return None
        file = file_beside(self._folder / processor, str(name))
        if not file.is_file():
            raise CheckpointError(
                f"{self.where} lacks {name}, which contains its statistics. Download it again."
            )
        return file


def _entry(file: Path, key: str) -> EntryStats:
    stats = SafetensorsFiles([file])
    names = {name.rpartition(".")[2] for name in stats.entries if name.rpartition(".")[0] == key}
    if not {"mean", "std"} <= names:
        raise CheckpointError(
            f"{file} has {', '.join(sorted(names)) or 'nothing'} for {key!r}; mean and std are needed."
        )
    read: dict[str, np.ndarray | None] = {
        name: stats.read(f"{key}.{name}", np.dtype(np.float64))
        for name in ("mean", "std", "q01", "q99")
        if name in names
    }
    try:
        return require_sound(key, read)
    except NormalizationError as error:
        raise CheckpointError(f"{file}: {error}") from error
