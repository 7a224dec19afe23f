"""Compiling for a GPU that need not be there: what it would launch, what that moves, and the memory it takes.

XLA compiles for a described device where JAX's plugin for CUDA is installed (`pip install "jax[cuda12]"`). Nothing is
tried out then: on the device itself, XLA times several kernels for each product and takes the fastest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from simloop.policies.bench.bench_config import Target
from simloop.policies.bench.gpu_kernels import Kind, Launches, launches
from simloop.policies.bench.random_weights import in_8_bits
from simloop.policies.bench.roofline import QueryWorkload
from simloop.policies.bench.stages import random_batch
from simloop.policies.inference.compilation import CompilerOptions
from simloop.policies.inference.quantization import Kind as Bits
from simloop.policies.inference.sampling import answering
from simloop.policies.models.parameters import abstract_model

_HOPPER = """gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: {memory}
  cuda_compute_capability {{ major: 9 }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{name}"
"""

TARGETS: dict[Target, str] = {
    "h100": _HOPPER.format(name="NVIDIA H100 80GB HBM3", bandwidth=3_350_000_000_000, memory=84_942_979_072),
    "h200": _HOPPER.format(name="NVIDIA H200", bandwidth=4_800_000_000_000, memory=151_397_597_184),
}
"""Descriptions of GPUs as XLA takes them, `GpuTargetConfigProto` as text."""


class TargetError(RuntimeError):
    """This installation of JAX cannot compile for a GPU that is not there."""


@dataclass(frozen=True)
class GpuProgram:
    """The program that answers a batch."""

    rows: int
    once: dict[Kind, Launches]
    each_turn: dict[Kind, Launches]
    """In one turn of each loop that it has."""
    weights_bytes: int
    """With all other arguments."""
    temporary_bytes: int


def compile_for(
    target: Target,
    work: QueryWorkload,
    rows: int,
    *,
    bits: Bits | None = None,
    options: CompilerOptions | None = None,
) -> GpuProgram:
    """The program for a batch, from the shapes of its weights alone: none are made.

    Args:
      target: The GPU.
      work: What is asked, with a model that is unrolled as it answers on accelerators.
      rows: Of the batch.
      bits: Compile the model in 8 bits of a kind.
      options: For XLA.

    Raises:
      TargetError: If JAX has no plugin for CUDA, or one that compiles for no absent device.
      jax.errors.JaxRuntimeError: If XLA cannot compile the program, or does not know an option.
    """
    where = _timer(target)
    config = work.config
    jitted: list[Any] = []

    def laid_out() -> tuple:
        graph, state = nnx.split(abstract_model(config))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, config.dtype), state)
        model = nnx.merge(graph, zeros)
        call = answering(
            model if bits is None else in_8_bits(model, bits),
            flow_steps=work.flow_steps,
            answer_tokens=work.answer_tokens,
        )
        jitted.append(call.func)
        return call.args

    given = jax.eval_shape(laid_out)
    keys = jax.ShapeDtypeStruct((rows, 2), "uint32")
    arguments = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        (*given, random_batch(work, rows), keys),
    )
    with _cudnn_as_on_hopper():
        lowered = jitted[0].trace(*arguments).lower(lowering_platforms=("cuda",))
    program = lowered.compile(dict(options or {}))
    memory = program.memory_analysis()
    once, each_turn = launches(program.as_text())
    return GpuProgram(rows, once, each_turn, memory.argument_size_in_bytes, memory.temp_size_in_bytes)


def kernel_table(programs: Sequence[GpuProgram]) -> list[list[str]]:
    """Rows of a table below `KERNEL_COLUMNS`."""
    rows = []
    for program in programs:
        memory = [f"{size / 1e9:.2f}" for size in (program.weights_bytes, program.temporary_bytes)]
        rows.append([str(program.rows), "once", *_cells(program.once), *memory])
        if any(one.kernels for one in program.each_turn.values()):
            rows.append([str(program.rows), "each turn of a loop", *_cells(program.each_turn), "", ""])
    return rows


KERNEL_COLUMNS = [
    "batch",
    "part",
    "kernels",
    "products",
    "fused attention",
    "others",
    "GB of products",
    "GB of fused attention",
    "GB of others",
    "weights GB",
    "temporary GB",
]


def _cells(parts: dict[Kind, Launches]) -> list[str]:
    counts = [str(one.kernels) for one in parts.values()]
    return [
        str(sum(one.kernels for one in parts.values())),
        *counts,
        *(f"{one.bytes / 1e9:.2f}" for one in parts.values()),
    ]


def _timer(target: Target) -> SingleDeviceSharding:
    # A process that computes on CPUs alone loads the plugin without asking for a device.
    jax.config.update("jax_platforms", "cpu")
    jax.devices()
    try:
        topology = topologies.get_topology_desc(
            platform="cuda", topology_name="", topology="1x1x1", target_config=TARGETS[target]
        )
    except (NotImplementedError, RuntimeError) as error:
        raise TargetError(
            f"JAX cannot compile for {target} here: {str(error).splitlines()[0]}. It takes the plugin for CUDA, "
            f'pip install "jax[cuda12]=={jax.__version__}", and no GPU.'
        ) from error
    return SingleDeviceSharding(topology.devices[0])


@contextlib.contextmanager
def _cudnn_as_on_hopper() -> Iterator[None]:
    """JAX asks the device that is there whether cuDNN takes an attention; this answers in its place."""
    from jax._src.cudnn import fused_attention_stablehlo as library

    answers: dict[str, Any] = {
        "check_cudnn_version": lambda: 91000,
        "check_compute_capability": lambda capability: True,
        "is_cuda_compute_capability_equal": lambda capability: False,
    }
    before = {name: getattr(library, name) for name in answers}
    vars(library).update(answers)
    try:
        yield
    finally:
        vars(library).update(before)
