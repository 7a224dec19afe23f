"""What is to be measured of a policy. Needs no JAX."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from simloop.policies.bench.roofline import QueryWorkload
from simloop.policies.bench.sizes import Size, resized
from simloop.policies.inference.quantization import Kind
from simloop.policies.inference.unrolling import unrolled_where_it_pays
from simloop.policies.models.kernels import Kernels
from simloop.policies.presets import Preset

Target = Literal["h100", "h200"]
"""GPUs that are described well enough to compile for them."""


class BenchError(ValueError):
    """What was asked cannot be measured."""

    user_facing = True


@dataclass(frozen=True)
class BenchConfig:
    """Options of the measurement; the same on both command lines."""

    checkpoint: Path | None = None
    """Folder with trained weights, whose speed is that of any others."""
    random_weights: bool = False
    """Draw weights at random: needs neither a checkpoint nor tokenizers. Speed is the same, actions mean
    nothing."""
    batches: tuple[int, ...] = (1, 8)
    """Batch sizes."""
    size: Size = "preset"
    """Measure a smaller model with the robot, cameras, prompts, chunk and flow steps of the preset: dummy has
    half a million weights, 100m a hundred million; both in float32."""
    cameras: int | None = None
    """How many cameras queries bring; as many as the preset asks for unless given."""
    prompt_tokens: int | None = None
    """Length that prompts are filled up to; the preset's shortest unless given."""
    answer_tokens: int | None = None
    """Tokens of an answer, for models that answer in tokens; 60 unless given."""
    devices: int = 1
    """How many devices rows are split over, where their number divides the batch."""
    devices_per_copy: int | None = None
    """How many devices share one copy of the weights; as few as can hold them unless given."""
    unroll_layers: bool | None = None
    """Whether layers are compiled one after the other; as policies are loaded on this device unless given."""
    unroll_steps: bool | None = None
    """Whether flow steps are compiled one after the other; as policies are loaded on this device unless given."""
    compiler_options: tuple[str, ...] = ()
    """Options of XLA for the program that answers, as NAME=VALUE, such as
    xla_gpu_command_buffer_unroll_loops=true; XLA's own unless given."""
    kernels: tuple[str, ...] = ()
    """What computes attention and gated products, as OPERATION=IMPLEMENTATION, such as prompt_attention=cudnn, or
    xla for all; what is fastest for the largest batch unless given."""
    quantized: Kind | None = None
    """Measure with weights and inputs in 8 bits, of made-up ranges."""
    without: tuple[str, ...] = ()
    """Savings to do without, such as keys_only, schedule or separate_layers, to see what each brings."""
    seconds: float = 3.0
    """How long each part is measured; at least five calls."""
    count: Literal["lowered", "compiled", "no"] = "lowered"
    """What XLA counts FLOPs and bytes in: the program before or after it has optimised it, which takes another
    compilation but gives bytes that mean something."""
    compile_for: Target | None = None
    """Compile for this GPU, which need not be there, and tell what it would launch, read and write, and hold in memory,
    instead of measuring. Takes JAX's plugin for CUDA and no weights; give the --kernels that it would choose."""
    transcription: bool = False
    """Measure a straightforward transcription of the reference computation as well, in turns."""
    stages: bool = True
    """Measure the stages of batches, too; without, whole batches alone, or the transcription alone, in a third of
    the time."""
    out: Path | None = None
    """File to write the tables to, as Markdown."""


USUAL_ANSWER = 60


def compiler_options(config: BenchConfig) -> dict[str, str | bool]:
    """Options by name, in the types that JAX passes on.

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
    """The preset as it is measured on a platform, and what its queries ask.

    Raises:
      BenchError: If that does not fit the preset.
    """
    if config.random_weights and config.checkpoint is not None:
        raise BenchError("--random-weights and --checkpoint contradict each other; give one.")
    several = config.devices > 1 or config.devices_per_copy is not None
    if config.compile_for and (config.checkpoint or config.transcription or several):
        raise BenchError(
            "--compile-for runs nothing, on one device; leave out --checkpoint, --transcription, --devices and "
            "--devices-per-copy."
        )
    if config.size != "preset" and not (config.random_weights or config.compile_for):
        raise BenchError(
            f"There are no weights of size {config.size!r} but random ones; add --random-weights."
        )
    if not config.batches or min(config.batches) < 1:
        raise BenchError(f"--batches takes numbers from 1, such as --batches 1 8 32; got {config.batches}.")
    if config.devices < 1 or (config.devices_per_copy or 1) < 1:
        raise BenchError(
            f"--devices and --devices-per-copy take numbers from 1; got {config.devices} and "
            f"{config.devices_per_copy}."
        )
    try:
        Kernels.from_words(config.kernels)
    except ValueError as error:
        raise BenchError(f"--kernels: {error}") from error
    if config.transcription and config.quantized:
        raise BenchError("--transcription compares with the same weights; leave out --quantized.")
    if config.transcription and config.devices > 1:
        raise BenchError("--transcription compares on one device; leave out --devices.")
    model = unrolled_where_it_pays(resized(preset.model, config.size), platform)
    try:
        optimizations = model.optimizations.without(*config.without)
    except ValueError as error:
        raise BenchError(f"{error} Give --without one of these.") from error
    if config.unroll_steps is not None:
        optimizations = dataclasses.replace(optimizations, unrolled_steps=config.unroll_steps)
    unroll = model.unroll_layers if config.unroll_layers is None else config.unroll_layers
    model = dataclasses.replace(model, unroll_layers=unroll, optimizations=optimizations)

    black = preset.absent_cameras == "black"
    asked = len(model.cameras) if black else len(preset.cameras)
    cameras = config.cameras if config.cameras is not None else asked
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
    return changed, QueryWorkload(model, cameras, length, preset.flow_steps, answer)
