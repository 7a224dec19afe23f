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

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simloop.policies.checkpoints.array_source import CheckpointError
from simloop.policies.checkpoints.checkpoint import Checkpoint
from simloop.policies.checkpoints.norm_stats_files import UNNAMED, Statistics
from simloop.policies.checkpoints.safetensors_files import SafetensorsFiles, file_beside
from simloop.policies.checkpoints.torch_source import TorchSource
from simloop.policies.transforms.normalization import EntryStats, NormalizationKind, NormStats
from simloop.untrusted import read_json_object

CONFIG = "config.json"
POLICY_TYPES = ("pi0", "pi05", "pi0_fast")
KINDS: Mapping[str, NormalizationKind] = {"MEAN_STD": "z_score", "QUANTILES": "quantile", "IDENTITY": "none"}

CHANGED_MODELS = ("use_visual_memory", "use_proprioceptive_memory")
"""Options of LeRobot that change the model for the same weights."""

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"


def read_config(folder: Path) -> dict[str, Any]:
    """Contents of `config.json`; empty if there is none.

    Raises:
      CheckpointError: If it is not a JSON object.
    """
    file = folder / CONFIG
    return _read_json(file) if file.is_file() else {}


def open_lerobot(folder: Path) -> Checkpoint:
    """Open a LeRobot policy.

    Raises:
      CheckpointError: If the type of policy is unknown, or its options change the model.
    """
    config = read_config(folder)
    policy_type = config.get("type")
    if policy_type not in POLICY_TYPES:
        raise CheckpointError(
            f"{folder} is a LeRobot policy of the type {policy_type!r}; supported are {', '.join(POLICY_TYPES)}."
        )
    if changed := [option for option in CHANGED_MODELS if config.get(option)]:
        raise CheckpointError(
            f"{folder} was trained with {', '.join(changed)}, which simloop's {policy_type} does not support."
        )
    return Checkpoint(
        path=folder,
        format="lerobot",
        source=TorchSource(SafetensorsFiles.in_folder(folder), output_head_is_used=policy_type == "pi0_fast"),
        statistics=LerobotStatistics(folder),
        settings=config,
    )


class LerobotStatistics(Statistics):
    """Statistics in the normalization steps of LeRobot's processors."""

    def __init__(self, folder: Path) -> None:
        self.where = str(folder)
        self._folder = folder

    def asset_ids(self) -> tuple[str, ...]:
        return (UNNAMED,) if all(self._state_file(step) is not None for step in self._steps()) else ()

    def kind(self) -> NormalizationKind | None:
        before, after = self._steps()
        if before is None or after is None:
            return None
        modes = {"STATE": self._mode(before, "STATE"), "ACTION": self._mode(after, "ACTION")}
        if modes["STATE"] != modes["ACTION"] or modes["STATE"] not in KINDS:
            raise CheckpointError(
                f"{self.where} normalizes states by {modes['STATE']} and actions by {modes['ACTION']}; simloop "
                f"supports one kind for both, of {', '.join(KINDS)}."
            )
        return KINDS[modes["STATE"]]

    def read(self, asset_id: str) -> NormStats:
        before, after = (self._state_file(step) for step in self._steps())
        if before is None or after is None:
            raise CheckpointError(f"{self.where} has processors without statistics.")
        return {"state": _entry(before, "observation.state"), "actions": _entry(after, "action")}

    def _steps(self) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        return self._step(PREPROCESSOR, "normalizer_processor"), self._step(
            POSTPROCESSOR, "unnormalizer_processor"
        )

    def _step(self, file: str, name: str) -> dict[str, Any] | None:
        path = self._folder / file
        if not path.is_file():
            return None
        found = [step for step in _read_json(path).get("steps", ()) if step.get("registry_name") == name]
        return found[0] if found else None

    def _mode(self, step: dict[str, Any], feature: str) -> str:
        try:
            return str(step["config"]["norm_map"].get(feature, "IDENTITY"))
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{self.where}: step {step.get('registry_name')!r} does not record its normalization (norm_map)."
            ) from error

    def _state_file(self, step: dict[str, Any] | None) -> Path | None:
        name = None if step is None else step.get("state_file")
        if name is None:
            return None
        file = file_beside(self._folder / PREPROCESSOR, name)
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

    def read(name: str) -> np.ndarray | None:
        return stats.read(f"{key}.{name}", np.dtype(np.float64)) if name in names else None

    return EntryStats(
        stats.read(f"{key}.mean", np.dtype(np.float64)),
        stats.read(f"{key}.std", np.dtype(np.float64)),
        read("q01"),
        read("q99"),
    )


def _read_json(file: Path) -> dict[str, Any]:
    return read_json_object(file, remedy="Download it again.", error=CheckpointError)
