"""Quantize policies to 8 bits: calibrate on demonstrations, measure the change of actions, write a checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console

from simloop.harness.errors import SimloopError
from simloop.harness.planning.policy_names import NamedPolicy, parse
from simloop.policies.checkpoints import open_checkpoint, save_checkpoint
from simloop.policies.checkpoints.recorded_options import OPTIONS
from simloop.policies.files.progress import progress_bar
from simloop.policies.inference.loading import NoWeightsError, load_policy
from simloop.policies.inference.model_policy import ModelPolicy
from simloop.policies.inference.quantization import SETTING, Kind, Quantization
from simloop.policies.models.parameters import flatten
from simloop.policies.presets import Preset, preset
from simloop.policies.presets.recorded import fitted, taken_over
from simloop.policies.tokenizers.fast_actions import FOLDER_IN_CHECKPOINT, folder_contents
from simloop.policies.training.calibration import (
    ActionDeviation,
    action_error,
    calibrate,
    in_8_bits,
    observations,
)
from simloop.policies.training.config import TrainConfig
from simloop.policies.training.dataset_layout import DatasetError
from simloop.policies.training.prepared import prepare


@dataclasses.dataclass(frozen=True)
class QuantizeOptions:
    """Options of `simloop quantize`."""

    policy: str
    """PRESET@FOLDER, or a preset with bundled weights."""
    kind: Kind
    data: Path
    """Folder of a LeRobotDataset."""
    out: Path
    """Folder of the checkpoint to write; must not exist."""
    frames: int
    """Frames of the data to use."""
    cameras: tuple[str, ...] = ()
    """MODEL_CAMERA=DATASET_KEY pairs, as in `TrainConfig`."""


def quantize(options: QuantizeOptions, console: Console) -> str:
    """Write a checkpoint of an 8-bit policy; returns the policy name that it runs under.

    Half of the frames calibrate the input ranges; the other half measure how much actions change.

    Raises:
      SimloopError: If the policy has no trained weights, the folder exists, or too few frames are requested.
      DatasetError, CheckpointError, NoWeightsError: If data or checkpoint cannot be used.
      QuantizationError: If the model cannot be quantized.
    """
    name = parse(options.policy)
    if not name.is_preset or name.random or name.quantized:
        raise SimloopError(
            f"quantize needs trained weights: PRESET@FOLDER or a bundled preset; got {options.policy!r}."
        )
    if options.frames < 2:
        raise SimloopError(
            f"--frames must be at least 2, half of them for calibration; got {options.frames}."
        )
    if options.out.exists():
        raise SimloopError(f"{options.out} exists; choose another folder with --out.")
    chosen = _fitted(name)
    keys = TrainConfig(chosen.name, (options.data,), options.out, cameras=options.cameras).camera_keys(
        chosen.cameras
    )
    data = prepare(options.data, keys, chosen.model.image_size, resizing=chosen.resizing, log=console.print)
    policy = load_policy(name.base, name.checkpoint)
    if data.states.shape[1] != chosen.state_size:
        raise DatasetError(
            f"{chosen.name} takes a state of {chosen.state_size} numbers (robot {chosen.robot}); {options.data} has "
            f"{data.states.shape[1]}."
        )
    queries = observations(data, options.frames)
    seen, unseen = queries[::2], queries[1::2]
    with progress_bar(f"Calibrating on {len(seen)} frames", len(seen), console=console) as update:
        quantization = calibrate(policy, seen, options.kind, update)
    with progress_bar(f"Comparing on {len(unseen)} others", len(unseen), console=console) as update:
        change = action_error(policy, in_8_bits(policy, quantization), unseen, update)
    origin = {
        "calibrated_on": {"sha256": data.sha256, "frames": len(seen), "episodes": data.episodes},
        "action_error": dataclasses.asdict(change),
    }
    _write(options.out, policy, name.checkpoint, quantization, origin)
    console.print(_summary(options.kind, change), highlight=False, markup=False, soft_wrap=True)
    return f"{name.base}-{options.kind}@{options.out}"


def _fitted(name: NamedPolicy) -> Preset:
    chosen = preset(name.base)
    if name.checkpoint is None:
        raise NoWeightsError(chosen.where_to_get_weights())
    opened = open_checkpoint(name.checkpoint)
    return fitted(chosen, opened.options, str(opened.path))


def _write(
    out: Path, policy: ModelPolicy, source: Path | None, quantization: Quantization, origin: dict[str, Any]
) -> None:
    """Write the policy's weights in their own dtype, with the ranges among the settings."""
    assert source is not None
    opened = open_checkpoint(source)
    settings: dict[str, Any] = dict(opened.settings) if opened.format == "simloop" else {}
    settings[SETTING] = {
        **quantization.as_json(),
        **origin,
        "weights_sha256": opened.weights_sha256(),
    }
    settings[OPTIONS] = taken_over(policy.preset)
    save_checkpoint(
        out,
        flatten(policy.model),
        preset=policy.preset.name.partition("@")[0],
        normalization=policy.preset.normalization,
        config=settings,
        norm_stats={policy.preset.robot: policy.stats},
        image_stats={policy.preset.robot: policy.image_stats} if policy.image_stats else {},
        files=folder_contents(source / FOLDER_IN_CHECKPOINT),
    )


def _summary(kind: Kind, change: ActionDeviation) -> str:
    if not change.compared:
        return (
            f"No query of {change.queries} was answered with actions by both policies, so no change is known."
        )
    subset = (
        "" if change.compared == change.queries else f" ({change.compared} answered with actions by both)"
    )
    return (
        f"Actions of {change.queries} frames not used for calibration{subset} change in {kind} by "
        f"{100 * change.relative:.2g} % of their standard deviation (RMS); cosine {change.cosine:.4f}."
    )
