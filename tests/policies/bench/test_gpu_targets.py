"""Programs for a GPU that is not there. Most of it needs JAX's plugin for CUDA, which the environment leaves out."""

import dataclasses
import importlib.util

import jax
import pytest

from simloop.policies.bench import command, gpu_targets
from simloop.policies.bench.bench_config import BenchConfig, BenchError, measured_preset
from simloop.policies.bench.command import main
from simloop.policies.bench.gpu_kernels import KINDS, Launches
from simloop.policies.bench.gpu_targets import compile_for
from simloop.policies.models.kernels import Kernels
from simloop.policies.presets import PRESETS
from tests.helpers.fresh_python import run_python


def compiled(*options):
    """Numbers of the table of a preset, compiled in a process of its own."""
    program = (
        "import io, contextlib\n"
        "from simloop.policies.bench.command import main\n"
        "out = io.StringIO()\n"
        "with contextlib.redirect_stdout(out):\n"
        f"    assert main({list(options)!r}) == 0\n"
        "print(out.getvalue().replace('\\n', '~'))\n"
    )
    lines = [line for line in run_python(program).split("~") if line.startswith("|")]
    names, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(names, row, strict=True)) for row in rows]


needs_plugin = pytest.mark.skipif(
    not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)),
    reason="JAX's plugin for CUDA is an extra package of gigabytes",
)


def test_without_the_plugin_a_sentence_says_what_is_missing(monkeypatch, capsys):
    def nothing(**_):
        raise NotImplementedError("topology not implemented for cuda")

    monkeypatch.setattr(gpu_targets.topologies, "get_topology_desc", nothing)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)  # It holds for the whole process.
    assert main(["pi0-tiny", "--compile-for", "h100", "--batches", "1"]) == 2
    assert "It takes the plugin for CUDA" in capsys.readouterr().err


def test_a_batch_that_does_not_compile_takes_no_other_one_along(monkeypatch, capsys):
    def compile_some(target, work, rows, **_):
        if rows == 2:
            raise jax.errors.JaxRuntimeError("INTERNAL: no tile fits\nmore")
        parts = dict.fromkeys(KINDS, Launches(3, 10**9))
        return gpu_targets.GpuProgram(rows, parts, dict.fromkeys(KINDS, Launches()), 10**9, 0)

    monkeypatch.setattr(command, "compile_for", compile_some)
    assert main(["pi0-tiny", "--compile-for", "h100", "--batches", "1", "2", "4"]) == 1
    printed = capsys.readouterr()
    assert "batch 2: XLA does not compile this: INTERNAL: no tile fits\n" in printed.err
    rows = [line.split(" | ")[:3] for line in printed.out.splitlines() if "| once |" in line]
    assert rows == [["| 1", "once", "9"], ["| 4", "once", "9"]]


@pytest.mark.parametrize("other", [{"devices": 2}, {"transcription": True}])
def test_what_runs_cannot_be_asked_of_a_gpu_that_is_not_there(other):
    config = dataclasses.replace(BenchConfig(compile_for="h100"), **other)
    with pytest.raises(BenchError, match="runs nothing"):
        measured_preset(PRESETS["pi0-tiny"], config, "gpu")


@needs_plugin
@pytest.mark.slow
def test_a_flow_step_launches_few_kernels_beside_its_products():
    (row,) = compiled("pi05_libero", "--compile-for", "h100", "--batches", "1")
    steps, layers = 10, 18
    assert int(row["kernels"]) < 20 * steps * layers
    assert float(row["weights GB"]) == pytest.approx(6.27, rel=0.02)


@needs_plugin
@pytest.mark.slow
def test_a_token_moves_the_weights_and_little_else():
    once, token = compiled("pi0_fast_droid", "--compile-for", "h200", "--batches", "1")
    assert (once["part"], token["part"]) == ("once", "each turn of a loop")
    read = float(token["GB of products"]) + float(token["GB of others"])
    assert read < 1.04 * 5.03


@needs_plugin
@pytest.mark.slow
def test_products_in_8_bits_read_half():
    wide, small = (
        compiled("pi05_libero", "--compile-for", "h100", "--batches", "1", *more)[0]
        for more in ((), ("--quantized", "int8"))
    )
    assert float(small["GB of products"]) < 0.65 * float(wide["GB of products"])
    assert int(small["kernels"]) < 1.05 * int(wide["kernels"])


@needs_plugin
@pytest.mark.slow
@pytest.mark.parametrize("rows", [2, 32])
@pytest.mark.parametrize("bits", [None, "int8", "fp8"])
@pytest.mark.parametrize("kernels", [(), ("image_attention=cudnn", "action_attention=cudnn")])
@pytest.mark.parametrize("name", ["pi05_libero", "pi0_base", "pi0_fast_droid"])
def test_batches_of_every_form_compile(name, kernels, bits, rows):
    """Two layers of each kind, as wide as they are; XLA has failed at some of these."""
    _, work = measured_preset(PRESETS[name], BenchConfig(compile_for="h100", kernels=kernels), "gpu")
    config = work.config
    shallow = {
        part: dataclasses.replace(getattr(config, part), depth=2)
        for part in ("language", "action_expert", "image_encoder")
        if getattr(config, part) is not None
    }
    chosen = Kernels.from_words(kernels) or Kernels()
    config = dataclasses.replace(config, **shallow, kernels=chosen)
    work = dataclasses.replace(work, config=config, flow_steps=2)
    program = compile_for("h100", work, rows, bits=bits)
    assert (program.once["attention"].kernels > 0) == bool(kernels)
    assert program.once["product"].kernels >= 2 * 4 * 2
