"""The command line of the measurement, with nothing but the standard library.

python -m simloop.policies.bench pi05_libero --random-weights --batches 1 8 32
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence

import jax
from jax.sharding import Mesh

from simloop.policies.bench.bench_config import (
    BenchConfig,
    BenchError,
    Target,
    compiler_options,
    measured_preset,
)
from simloop.policies.bench.devices import ceilings
from simloop.policies.bench.gpu_targets import KERNEL_COLUMNS, TargetError, compile_for, kernel_table
from simloop.policies.bench.measure import BatchTime, measure
from simloop.policies.bench.random_weights import in_8_bits, random_policy
from simloop.policies.bench.reference_implementation import Versus, ratio_table, versus
from simloop.policies.bench.roofline import QueryWorkload
from simloop.policies.bench.table import grid, markdown
from simloop.policies.files.dataclass_cli import add_options
from simloop.policies.files.manifest import settings_of
from simloop.policies.inference.model_policy import ModelPolicy
from simloop.policies.inference.placement import made_on, weights_bytes
from simloop.policies.inference.quantization import SETTING
from simloop.policies.models.inference_plan import InferencePlan
from simloop.policies.models.kernels import Kernels
from simloop.policies.models.parameters import flatten, model_from, shapes
from simloop.policies.models.sharding import DevicesError, make_mesh, serving_mesh
from simloop.policies.presets import Preset, UnknownPresetError, preset

FAILED = 1
MISUSED = 2
INTERRUPTED = 130

DESCRIPTION = """Measure how fast a policy answers: latency and throughput over batch sizes, and every stage
beside the least time that this device could take for it. Prints Markdown."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit status. What a user did wrong is said in a sentence."""
    parser = argparse.ArgumentParser(prog="python -m simloop.policies.bench", description=DESCRIPTION)
    parser.add_argument("preset", metavar="PRESET", help="which policy, such as pi05_libero or pi0-tiny")
    add_options(parser, BenchConfig)
    chosen = vars(parser.parse_args(arguments))
    try:
        return bench(chosen.pop("preset"), BenchConfig(**chosen))
    except (BenchError, UnknownPresetError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        return INTERRUPTED


def bench(name: str, config: BenchConfig) -> int:
    """Measure one preset and print the tables; returns the exit status.

    Raises:
      BenchError: If what is asked does not fit the preset, or this machine.
      UnknownPresetError: If there is no such preset.
    """
    try:
        if config.compile_for is not None:
            return _compiled_elsewhere(name, config, config.compile_for)
        return _measured_here(name, config)
    except (NotImplementedError, ImportError, RuntimeError) as error:
        of_libraries = set(Kernels.from_words(config.kernels).names().values()) - {"xla"}
        if not of_libraries or isinstance(error, jax.errors.JaxRuntimeError):
            raise
        raise BenchError(f"With --kernels {' '.join(config.kernels)}: {error}") from error


def _measured_here(name: str, config: BenchConfig) -> int:
    chosen, work = measured_preset(preset(name), config, jax.default_backend())
    kernels = Kernels.from_words(config.kernels)
    chosen = dataclasses.replace(chosen, model=dataclasses.replace(chosen.model, kernels=kernels))
    policy = _policy(name, chosen, config, work.prompt_tokens)
    limits = ceilings(chosen.model.dtype)
    head = [
        *_head(name, chosen, work, config),
        f"JAX {jax.__version__}, {limits.source}: {limits.flops_per_s / 1e12:.3g} TFLOP/s,"
        f" {limits.bytes_per_s / 1e12:.3g} TB/s.",
    ]
    if config.quantized:
        head.append(f"The floor is that of {chosen.model.dtype}.")
    if policy.mesh is not None:
        head.append(f"Spread over {policy.device()}.")
    head += _by_libraries(kernels)
    say("\n".join(head))
    done: list[BatchTime] = []
    ratios: list[Versus] = []
    status = 0
    try:
        for rows in config.batches:
            say(f"batch {rows}: compiling and measuring ...")
            if config.stages or not config.transcription:
                done.append(
                    measure(
                        policy,
                        work,
                        rows,
                        limits,
                        seconds=config.seconds,
                        count=config.count,
                        by_stage=config.stages,
                    )
                )
                say(f"batch {rows}: {1e3 * done[-1].seconds:.3g} ms, {rows / done[-1].seconds:.3g} queries/s")
            if config.transcription:
                say(f"batch {rows}: measuring the transcription in turns ...")
                ratios.append(versus(policy, work, rows, seconds=config.seconds))
                say(f"batch {rows}: the transcription takes {ratios[-1].ratio:.2f} times as long")
    except KeyboardInterrupt:
        status = INTERRUPTED
        say("Interrupted; the tables have what was measured.")
    tables = [markdown(done)] if done else []
    tables += [ratio_table(ratios)] if ratios else []
    show("\n\n".join(head) + "\n\n" + "\n".join(tables), config)
    return status


def say(words: str) -> None:
    """Tell how far it is."""
    print(words, file=sys.stderr, flush=True)


def show(text: str, config: BenchConfig) -> None:
    """Print the result, and write it where it is wanted."""
    print(text, end="")
    if config.out is not None:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        config.out.write_text(text)


def _compiled_elsewhere(name: str, config: BenchConfig, target: Target) -> int:
    chosen, work = measured_preset(preset(name), config, "gpu")
    kernels = Kernels.from_words(config.kernels)
    work = dataclasses.replace(work, config=dataclasses.replace(work.config, kernels=kernels))
    head = [
        *_head(name, chosen, work, config),
        *_by_libraries(kernels),
    ]
    say("\n".join(head))
    options = compiler_options(config)
    programs = []
    status = 0
    try:
        for rows in config.batches:
            say(f"batch {rows}: compiling for {target} ...")
            try:
                programs.append(compile_for(target, work, rows, bits=config.quantized, options=options))
            except jax.errors.JaxRuntimeError as error:
                status = FAILED
                say(f"batch {rows}: XLA does not compile this: {str(error).splitlines()[0]}")
    except TargetError as error:
        raise BenchError(str(error)) from error
    except KeyboardInterrupt:
        status = INTERRUPTED
        say("Interrupted; the table has what was compiled.")
    head.append(f"Compiled by JAX {jax.__version__} for {target}, nothing run.")
    show("\n\n".join(head) + "\n\n" + grid(KERNEL_COLUMNS, kernel_table(programs)), config)
    return status


def _head(name: str, chosen: Preset, work: QueryWorkload, config: BenchConfig) -> list[str]:
    """What is looked at, in words."""
    model = chosen.model
    asked = (
        f"{work.answer_tokens} tokens"
        if work.answer_tokens
        else f"horizon {model.action_horizon}, {work.flow_steps} flow steps"
    )
    weights = sum(math.prod(shape) for shape in shapes(model).values())
    head = [
        f"`{name}`{'' if config.size == 'preset' else f' at size {config.size}'}: {weights / 1e6:.1f} M weights,"
        f" {model.dtype}, {work.cameras} cameras, prompt {work.prompt_tokens}, prefix {work.prefix_tokens}, {asked}."
    ]
    if config.quantized:
        head.append(f"Large products in {config.quantized} of made-up ranges.")
    if config.compiler_options:
        head.append(f"Compiled with {', '.join(config.compiler_options)}.")
    if config.without:
        head.append(f"Without {', '.join(config.without)}.")
    return head


def _policy(name: str, chosen: Preset, config: BenchConfig, prompt_tokens: int) -> ModelPolicy:
    options = compiler_options(config)
    try:
        jax.jit(lambda x: x + 1).lower(0.0).compile(options)
    except jax.errors.JaxRuntimeError as error:
        raise BenchError(
            f"XLA does not take --compiler-options {config.compiler_options}: {error}"
        ) from error
    try:
        mesh = _mesh(chosen, config)
    except DevicesError as error:
        raise BenchError(str(error)) from error
    if config.random_weights:
        return random_policy(
            chosen, prompt_tokens, mesh=mesh, compiler_options=options, kind=config.quantized
        )
    from simloop.policies.checkpoints import (
        CheckpointError,  # These need more packages than random weights do.
    )
    from simloop.policies.inference.loading import NoWeightsError, load_policy

    if config.checkpoint is not None and SETTING in settings_of(config.checkpoint):
        raise BenchError(
            f"{config.checkpoint} is quantised; measure what it was made of with --quantized KIND."
        )
    try:
        loaded = load_policy(name, config.checkpoint, plan=InferencePlan(kernels=chosen.model.kernels))
    except NoWeightsError as error:
        raise BenchError(
            f"{name} needs trained weights: give --checkpoint FOLDER or --random-weights."
        ) from error
    except CheckpointError as error:
        raise BenchError(str(error)) from error
    model = made_on(mesh, lambda: model_from(chosen.model, flatten(loaded.model)))
    if config.quantized:
        model = in_8_bits(model, config.quantized)
    return ModelPolicy(chosen, loaded.spec, model, loaded.stats, loaded.words, mesh, compiler_options=options)


def _by_libraries(kernels: Kernels) -> list[str]:
    """Kernels other than XLA's, if any."""
    named = [f"{operation} by {name}" for operation, name in kernels.names().items() if name != "xla"]
    return [f"Kernels: {', '.join(named)}."] if named else []


def _mesh(chosen: Preset, config: BenchConfig) -> Mesh | None:
    if config.devices_per_copy is None:
        return serving_mesh(config.devices, weights_bytes(chosen.model))
    return make_mesh(config.devices_per_copy, config.devices)
