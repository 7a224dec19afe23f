"""`Training`: what is known of the data that a policy was trained on, read without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simloop.harness.planning.policy_names import NamedPolicy
from simloop.policies.files.manifest import settings_of
from simloop.policies.presets import Preset, preset
from simloop.policies.transforms.normalization import NormalizationKind, NormStats, load_norm_stats


@dataclass(frozen=True)
class Training:
    """Statistics, instructions and control rate of the training data; empty where they are not known."""

    stats: NormStats = field(default_factory=dict)
    """In the convention of the policy: its actions, where they are relative, are those."""
    others: Mapping[str, NormStats] = field(default_factory=dict)
    """Statistics of the checkpoint that are not used, by their name."""
    normalization: NormalizationKind = "none"
    relative: tuple[bool, ...] = ()
    """Which leading entries of the actions are relative to the state."""
    instructions: tuple[str, ...] = ()
    fps: float | None = None


def training_of(policy: NamedPolicy) -> Training:
    """What the checkpoint of a policy records.

    Raises:
      CheckpointError: If its statistics do not fit the policy.
    """
    if policy.checkpoint is None or not policy.is_preset:
        return Training()
    chosen, recorded = preset(policy.base), _recorded(policy.checkpoint)
    if policy.checkpoint == chosen.bundled:  # Read without importing JAX.
        stats = load_norm_stats(chosen.bundled / "assets" / chosen.robot / "norm_stats.json")
        return Training(stats, {}, chosen.normalization, chosen.relative, **recorded)
    return _of_checkpoint(chosen, policy.checkpoint, recorded)


def _of_checkpoint(chosen: Preset, folder: Path, recorded: Mapping[str, Any]) -> Training:
    from simloop.policies.checkpoints import (  # Imports JAX, as do the next ones.
        CheckpointError,
        open_checkpoint,
    )
    from simloop.policies.inference.loading import checkpoint_stats
    from simloop.policies.presets.recorded import fitted

    opened = open_checkpoint(folder)
    chosen = fitted(chosen, opened.options, str(folder))
    stats, others = checkpoint_stats(chosen, opened, warn=False), {}
    for name in opened.statistics.asset_ids():
        try:
            found = opened.statistics.read(name)
        except CheckpointError:  # Those of another robot need not be sound.
            continue
        if set(stats) <= set(found) and not _equal(found, stats):
            others[name] = found
    return Training(stats, others, chosen.normalization, chosen.relative, **recorded)


def _equal(one: NormStats, other: NormStats) -> bool:
    return all(one[key].mean.tolist() == other[key].mean.tolist() for key in other)


def _recorded(folder: Path) -> dict[str, Any]:
    """Instructions and frames per second of the training data, where `simloop train` recorded them."""
    data: Any = settings_of(folder).get("data", {})
    if not isinstance(data, dict):
        return {}
    return {"instructions": tuple(data.get("instructions", ())), "fps": data.get("fps")}
