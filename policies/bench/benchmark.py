"""`simloop bench policy`: measure latency and throughput by batch size, and each stage beside its roofline."""

from __future__ import annotations

import math
import sys

import jax
from jax.sharding import Mesh

from simloop.policies.bench.bench_config import BenchConfig, BenchError, compiler_options, measured_preset
from simloop.policies.bench.devices import ceilings
from simloop.policies.bench.measure import BatchTime, measure
from simloop.policies.bench.random_weights import in_8_bits, random_policy
from simloop.policies.bench.reference_implementation import Comparison, compare
from simloop.policies.bench.roofline import QueryWorkload
from simloop.policies.bench.table import comparison_table, times_table
from simloop.policies.checkpoints import CheckpointError
from simloop.policies.files.manifest import settings_of
from simloop.policies.inference.loading import NoWeightsError, load_policy
from simloop.policies.inference.model_policy import ModelPolicy
from simloop.policies.inference.placement import made_on, weights_bytes
from simloop.policies.inference.quantization import SETTING
from simloop.policies.kernels import Kernels
from simloop.policies.models.parameters import flatten, model_from, shapes
from simloop.policies.models.sharding import DevicesError, make_mesh, serving_mesh
from simloop.policies.presets import Preset, preset

INTERRUPTED = 130


def benchmark_policy(name: str, config: BenchConfig) -> int:
    """Measure one preset and print Markdown tables; returns the exit status.

    An interrupt ends the measurement; the tables then hold the batch sizes that are complete.

    Raises:
      BenchError: If the options do not fit the preset or this machine.
      UnknownPresetError: If there is no preset of that name.
    """
    try:
        return _benchmark(name, config)
    except (NotImplementedError, ImportError, RuntimeError) as error:
        kernels = Kernels.from_words(config.kernels)
        if kernels == Kernels() or isinstance(error, jax.errors.JaxRuntimeError):
            raise
        raise BenchError(f"With --kernels {' '.join(config.kernels)}: {error}") from error


def _benchmark(name: str, config: BenchConfig) -> int:
    chosen, work = measured_preset(preset(name), config, jax.default_backend())
    policy = _policy(name, chosen, config, work)
    limits = ceilings(chosen.model.dtype)
    notes = [
        *_notes(name, chosen, work, config),
        f"JAX {jax.__version__}, {limits.source}: {limits.flops_per_s / 1e12:.3g} TFLOP/s,"
        f" {limits.bytes_per_s / 1e12:.3g} TB/s.",
    ]
    if policy.mesh is not None:
        notes.append(f"Spread over {policy.device()}.")
    _log("\n".join(notes))
    times: list[BatchTime] = []
    comparisons: list[Comparison] = []
    status = 0
    try:
        for rows in config.batches:
            _log(f"batch {rows}: compiling and measuring ...")
            if config.stages or not config.reference:
                times.append(
                    measure(
                        policy,
                        work,
                        rows,
                        limits,
                        seconds=config.seconds,
                        count=config.count,
                        by_stage=config.stages,
                        guidance=config.guidance,
                    )
                )
                _log(
                    f"batch {rows}: {1e3 * times[-1].seconds:.3g} ms, {rows / times[-1].seconds:.3g} queries/s"
                )
            if config.reference:
                _log(f"batch {rows}: alternating with the reference implementation ...")
                comparisons.append(compare(policy, work, rows, seconds=config.seconds))
                _log(f"batch {rows}: the reference takes {comparisons[-1].ratio:.2f} times as long")
    except KeyboardInterrupt:
        status = INTERRUPTED
        _log("Interrupted; the tables hold the batch sizes that are complete.")
    tables = ([times_table(times)] if times else []) + (
        [comparison_table(comparisons)] if comparisons else []
    )
    text = "\n\n".join(notes) + "\n\n" + "\n".join(tables)
    print(text, end="")
    if config.out is not None:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        config.out.write_text(text)
    return status


def _log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _notes(name: str, chosen: Preset, work: QueryWorkload, config: BenchConfig) -> list[str]:
    """Sentences that describe what is measured."""
    model = chosen.model
    answer = (
        f"{work.answer_tokens} tokens"
        if work.answer_tokens
        else f"horizon {model.action_horizon}, {work.flow_steps} flow steps"
    )
    weights = sum(math.prod(shape) for shape in shapes(model).values())
    notes = [
        f"`{name}`{'' if config.size == 'preset' else f' at size {config.size}'}: {weights / 1e6:.1f} M weights,"
        f" {model.dtype}, {work.cameras} cameras, prompt {work.prompt_tokens}, prefix {work.prefix_tokens}, {answer}."
    ]
    if config.quantized:
        notes.append(
            f"Large products in {config.quantized} with arbitrary ranges; the roofline is that of {model.dtype}."
        )
    if config.compiler_options:
        notes.append(f"Compiled with {', '.join(config.compiler_options)}.")
    if config.without:
        notes.append(f"Without {', '.join(config.without)}.")
    libraries = [
        f"{operation} by {name}" for operation, name in work.plan.kernels.names().items() if name != "xla"
    ]
    if libraries:
        notes.append(f"Kernels: {', '.join(libraries)}.")
    return notes


def _policy(name: str, chosen: Preset, config: BenchConfig, work: QueryWorkload) -> ModelPolicy:
    options = compiler_options(config)
    try:
        jax.jit(lambda x: x + 1).lower(0.0).compile(options)
    except jax.errors.JaxRuntimeError as error:
        raise BenchError(f"XLA rejects --compiler-options {config.compiler_options}: {error}") from error
    try:
        mesh = _mesh(chosen, config)
    except DevicesError as error:
        raise BenchError(str(error)) from error
    if config.random_weights:
        return random_policy(
            chosen,
            work.prompt_tokens,
            mesh=mesh,
            plan=work.plan,
            compiler_options=options,
            kind=config.quantized,
        )
    if config.checkpoint is not None and SETTING in settings_of(config.checkpoint):
        raise BenchError(
            f"{config.checkpoint} is quantized; measure the checkpoint that it was made from with --quantized KIND."
        )
    try:
        loaded = load_policy(name, config.checkpoint)
    except NoWeightsError as error:
        raise BenchError(
            f"{name} needs trained weights: give --checkpoint FOLDER or --random-weights."
        ) from error
    except CheckpointError as error:
        raise BenchError(str(error)) from error
    model = made_on(mesh, lambda: model_from(chosen.model, flatten(loaded.model)))
    plan = work.plan
    if config.quantized:
        model = in_8_bits(model, config.quantized, plan)
        plan = model.plan
    return ModelPolicy(
        chosen, loaded.spec, model, loaded.stats, loaded.tokenizers, mesh, plan=plan, compiler_options=options
    )


def _mesh(chosen: Preset, config: BenchConfig) -> Mesh | None:
    if config.devices_per_copy is None:
        return serving_mesh(config.devices, weights_bytes(chosen.model))
    return make_mesh(config.devices_per_copy, config.devices)
