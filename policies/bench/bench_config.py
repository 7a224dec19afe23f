"""Options of `simloop bench policy`, and the preset and workload that follow from them. Needs no JAX."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from simloop.policies.bench.roofline import QueryWorkload
from simloop.policies.bench.sizes import Size, resized
from simloop.policies.inference.quantization import Kind
from simloop.policies.interface import GuidanceMethod
from simloop.policies.kernels import Kernels
from simloop.policies.models.inference_plan import InferencePlan
from simloop.policies.presets import Preset

USUAL_ANSWER = 60


class BenchError(ValueError):
    """Options that contradict each other, the preset or the machine."""

    user_facing = True


@dataclass(frozen=True)
class BenchConfig:
    """Options of a measurement."""

    checkpoint: Path | None = None
    """Folder with trained weights."""
    random_weights: bool = False
    """Draw random weights. Needs neither checkpoint nor tokenizers; speed is that of trained weights, actions mean
    nothing."""
    batches: tuple[int, ...] = (1, 8)
    """Batch sizes to measure."""
    size: Size = "preset"
    """Measure a smaller model with the robot, cameras, prompts, chunk and flow steps of the preset: dummy has
    half a million weights, 100m a hundred million; both in float32."""
    cameras: int | None = None
    """Cameras per query; by default, the cameras that the preset requires."""
    prompt_tokens: int | None = None
    """Padded prompt length in tokens; by default, the shortest of the preset."""
    answer_tokens: int | None = None
    """Tokens per answer of token models; by default, 60."""
    devices: int = 1
    """Devices that the rows of a batch are split over, if they divide the batch size."""
    devices_per_copy: int | None = None
    """Devices that share one copy of the weights; by default, the fewest that can hold them."""
    compiler_options: tuple[str, ...] = ()
    """XLA options for the inference program as NAME=VALUE, such as
    xla_gpu_command_buffer_unroll_loops=true."""
    kernels: tuple[str, ...] = ()
    """Kernels for attention and gated products as OPERATION=IMPLEMENTATION, such as prompt_attention=cudnn; by
    default, xla for all."""
    quantized: Kind | None = None
    """Measure with weights and inputs in 8 bits, with arbitrary ranges."""
    without: tuple[str, ...] = ()
    """Inference optimizations to switch off, such as keys_only or fused_projections, to measure what each gains."""
    seconds: float = 3.0
    """Duration of each measurement in seconds; at least five calls are made."""
    count: Literal["lowered", "compiled", "no"] = "lowered"
    """The program in which XLA counts FLOPs and bytes: before or after optimization. The latter compiles once more
    and counts realistic bytes."""
    reference: bool = False
    """Also time a straightforward implementation of the reference computation, alternating with ours."""
    guidance: GuidanceMethod | None = None
    """Also time calls whose rows are guided by a previous chunk (real-time chunking), alternating with those that are
    not: full or identity."""
    stages: bool = True
    """Measure the stages of a batch too; without, whole batches (or the reference comparison) alone, in a third
    of the time."""
    out: Path | None = None
    """File to write the tables to, as Markdown."""


def compiler_options(config: BenchConfig) -> dict[str, str | bool]:
    """XLA options by name, in the types that JAX passes on.

    Raises:
      BenchError: If one has no value.
    """
    options: dict[str, str | bool] = {}
    for text in config.compiler_options:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise BenchError(f"--compiler-options takes NAME=VALUE; got {text!r}.")
        options[name] = {"true": True, "false": False}.get(value.lower(), value)
    return options


def measured_preset(
    preset: Preset, config: BenchConfig, platform: str = "cpu"
) -> tuple[Preset, QueryWorkload]:
    """The preset as it is measured on a platform, and the workload of its queries.

    Raises:
      BenchError: If the options contradict each other or do not fit the preset.
    """
    _check(config)
    model = resized(preset.model, config.size)
    try:
        kernels = Kernels.from_words(config.kernels)
    except ValueError as error:
        raise BenchError(f"--kernels: {error}") from error
    try:
        plan = InferencePlan(config.devices, kernels).without(*config.without)
    except ValueError as error:
        raise BenchError(f"--without: {error}") from error
    plan = plan.on(platform, unroll_on_cpu=preset.unroll_on_cpu or config.size != "preset")

    usual = len(model.cameras) if preset.absent_cameras == "black" else len(preset.cameras)
    cameras = usual if config.cameras is None else config.cameras
    if not len(preset.cameras) <= cameras <= len(model.cameras):
        raise BenchError(
            f"{preset.name} takes {len(preset.cameras)} to {len(model.cameras)} cameras; got --cameras {cameras}."
        )
    length = config.prompt_tokens or preset.prompt_lengths[0]
    answer = min(config.answer_tokens or USUAL_ANSWER, preset.answer_tokens) if preset.action_tokens else 0
    changed = dataclasses.replace(
        preset,
        model=model,
        cameras=model.cameras[:cameras],
        prompt_lengths=(length,),
        answer_tokens=answer or preset.answer_tokens,
    )
    return changed, QueryWorkload(model, cameras, length, preset.flow_steps, answer, plan)


def _check(config: BenchConfig) -> None:
    if config.random_weights and config.checkpoint is not None:
        raise BenchError("--random-weights and --checkpoint contradict each other; give one.")
    if config.size != "preset" and not config.random_weights:
        raise BenchError(f"Models of size {config.size!r} have random weights only; add --random-weights.")
    if not config.batches or min(config.batches) < 1:
        raise BenchError(f"--batches takes numbers from 1, such as --batches 1 8 32; got {config.batches}.")
    if config.devices < 1 or (config.devices_per_copy or 1) < 1:
        raise BenchError(
            f"--devices and --devices-per-copy take numbers from 1; got {config.devices} and "
            f"{config.devices_per_copy}."
        )
    if config.guidance and config.reference:
        raise BenchError("--reference compares queries that are not guided; leave out --guidance.")
    if config.reference and config.quantized:
        raise BenchError("--reference compares with the same weights; leave out --quantized.")
    if config.reference and config.devices > 1:
        raise BenchError("--reference compares on one device; leave out --devices.")
