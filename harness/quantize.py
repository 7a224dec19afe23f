"""Policies in 8 bits: calibrated on demonstrations, compared with what they were made from, written down."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from simloop.harness.errors import SimloopError
from simloop.harness.planning.policy_names import parse
from simloop.policies.inference.quantization import SETTING, Kind, Quantization, QuantizationError
from simloop.policies.presets import PRESETS, preset
from simloop.policies.training.config import TrainConfig
from simloop.policies.training.layout import DatasetError

if TYPE_CHECKING:
    from simloop.policies.inference.model_policy import ModelPolicy
    from simloop.policies.training.calibration import ActionDeviation


@dataclasses.dataclass(frozen=True)
class Quantizing:
    """What is to be made of what."""

    policy: str
    kind: Kind
    data: Path
    out: Path
    frames: int
    cameras: tuple[str, ...] = ()


def quantize(wanted: Quantizing, console: Console) -> str:
    """Write a checkpoint that answers in 8 bits; returns the name that it runs as.

    Half of the frames give the ranges of inputs, and the other half say how much actions change.

    Raises:
      SimloopError: If the policy cannot be quantised, the folder exists, or the data do not fit.
    """
    named = parse(wanted.policy)
    if named.base not in PRESETS or named.random or named.quantized:
        raise SimloopError(
            f"What is quantised is a policy with trained weights, PRESET@FOLDER or a preset that has some in the "
            f"box; got {wanted.policy!r}."
        )
    if wanted.frames < 2:
        raise SimloopError(
            f"--frames must be at least 2, of which half are to calibrate on; got {wanted.frames}."
        )
    if wanted.out.exists():
        raise SimloopError(f"{wanted.out} exists; name another folder with --out.")
    # These take a second to import.
    from simloop.policies.checkpoints import CheckpointError
    from simloop.policies.inference.loading import NoWeightsError, load_policy
    from simloop.policies.training.calibration import action_error, calibrate, in_8_bits, observations
    from simloop.policies.training.prepared import prepare

    chosen = preset(named.base)
    keys = TrainConfig(chosen.name, (wanted.data,), wanted.out, cameras=wanted.cameras).camera_keys(
        chosen.cameras
    )
    try:
        data = prepare(wanted.data, keys, chosen.model.image_size, on_progress=console.print)
        policy = load_policy(chosen.name, named.checkpoint)
    except (CheckpointError, NoWeightsError) as error:
        raise SimloopError(str(error)) from error
    if data.states.shape[1] != chosen.state_size:
        raise DatasetError(
            f"{chosen.name} takes a state of {chosen.state_size} numbers (robot {chosen.robot}); {wanted.data} has "
            f"{data.states.shape[1]}."
        )
    queries = observations(data, wanted.frames)
    seen, unseen = queries[::2], queries[1::2]
    try:
        with _counted(console, f"Calibrating on {len(seen)} frames", len(seen)) as on_progress:
            quantization = calibrate(policy, seen, wanted.kind, on_progress)
        with _counted(console, f"Comparing on {len(unseen)} others", len(unseen)) as on_progress:
            change = action_error(policy, in_8_bits(policy, quantization), unseen, on_progress)
    except QuantizationError as problem:
        raise SimloopError(str(problem)) from problem
    made_of = {
        "calibrated_on": {"sha256": data.sha256, "frames": len(seen), "episodes": data.episodes},
        "action_error": dataclasses.asdict(change),
    }
    _write(wanted.out, policy, named.checkpoint, quantization, made_of)
    _say(console, wanted.kind, change)
    return f"{named.base}-{wanted.kind}@{wanted.out}"


def _write(
    out: Path, policy: ModelPolicy, source: Path | None, quantization: Quantization, made_of: dict[str, Any]
) -> None:
    """The checkpoint that the policy came from, in its own dtype, with the ranges among its settings."""
    from simloop.policies.checkpoints import CheckpointError, open_checkpoint, save_checkpoint
    from simloop.policies.models.parameters import flatten
    from simloop.policies.tokenizers.fast_actions import FOLDER_IN_CHECKPOINT

    assert source is not None
    opened = open_checkpoint(source)
    settings: dict[str, Any] = dict(opened.settings) if opened.format == "simloop" else {}
    settings[SETTING] = {
        **quantization.as_json(),
        **made_of,
        "weights_sha256": opened.weights_sha256(),
    }
    tokens = source / FOLDER_IN_CHECKPOINT
    files = sorted(tokens.iterdir()) if tokens.is_dir() else []
    try:
        save_checkpoint(
            out,
            flatten(policy.model),
            preset=policy.preset.name,
            normalization=policy.preset.normalization,
            config=settings,
            norm_stats={policy.preset.robot: policy.stats},
            files={f"{FOLDER_IN_CHECKPOINT}/{file.name}": file.read_bytes() for file in files},
        )
    except CheckpointError as error:
        raise SimloopError(str(error)) from error


def _say(console: Console, kind: Kind, change: ActionDeviation) -> None:
    if not change.compared:
        console.print(
            f"None of {change.queries} queries was answered with actions by both, so nothing is known."
        )
        return
    apart = "" if change.compared == change.queries else f" ({change.compared} answered with actions by both)"
    console.print(
        f"Actions of {change.queries} frames that were not calibrated on{apart} differ in {kind} by "
        f"{100 * change.relative:.2g} % of their standard deviation (root mean square); cosine {change.cosine:.4f}.",
        highlight=False,
        soft_wrap=True,
    )


@contextmanager
def _counted(console: Console, title: str, total: int) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)
