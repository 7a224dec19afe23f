import dataclasses
import json
import re
from pathlib import Path

import pytest

from simloop.policies.bench.bench_config import BenchConfig, BenchError, compiler_options, measured_preset
from simloop.policies.bench.benchmark import benchmark_policy
from simloop.policies.files.manifest import MANIFEST
from simloop.policies.presets import PRESETS, UnknownPresetError
from tests.helpers.fresh_python import run_python

RANDOM = BenchConfig(random_weights=True, batches=(2,), seconds=0.0)


@pytest.fixture
def one_layer(monkeypatch):
    """`pi0-tiny` with one layer of everything and small images, which compiles faster."""
    whole = PRESETS["pi0-tiny"]
    model = dataclasses.replace(
        whole.model,
        image_size=32,
        language=dataclasses.replace(whole.model.language, depth=1),
        action_expert=dataclasses.replace(whole.model.action_expert, depth=1),
        image_encoder=dataclasses.replace(whole.model.image_encoder, depth=1),
    )
    monkeypatch.setitem(PRESETS, "one-layer", dataclasses.replace(whole, model=model, flow_steps=2))


@pytest.mark.slow
def test_tables_show_every_stage_with_roofline_and_counts(one_layer, tmp_path, capsys):
    out = tmp_path / "tables" / "bench.md"
    assert benchmark_policy("one-layer", dataclasses.replace(RANDOM, reference=True, out=out)) == 0
    text = capsys.readouterr().out
    assert out.read_text() == text
    rows = {
        line.split(" | ")[1]: line.split(" | ") for line in text.splitlines() if line.startswith("| 2 | ")
    }
    for stage in ("host", "copy", "image encoder", "prefill", "flow step", "post"):
        assert float(rows[stage][3]) >= 0
    for stage in ("image encoder", "prefill", "flow step"):
        *_, roofline_ms, _, gigaflops, counted, _ = rows[stage]
        assert float(roofline_ms) > 0
        assert float(counted) == pytest.approx(float(gigaflops), rel=0.3)
    difference = float(re.findall(r"\| (\S+) \|\n\Z", text)[0])
    assert difference < 1e-5


@pytest.mark.slow
def test_measures_8_bit_weights_without_calibration_or_stages(one_layer, capsys):
    assert benchmark_policy("one-layer", dataclasses.replace(RANDOM, quantized="int8", stages=False)) == 0
    text = capsys.readouterr().out
    assert "Large products in int8 with arbitrary ranges; the roofline is that of float32." in text
    assert "Kernels" not in text
    assert text.count("| --- |") == 1
    (row,) = (line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| 2 | "))
    device_ms, roofline_ms = float(row[6]), float(row[8])
    assert device_ms > 0
    assert roofline_ms > 0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pi0-tiny", {"without": ("sleep",)}, r"--without: .*'sleep'"),
        ("pi05_libero", {"random_weights": False}, "--checkpoint FOLDER or --random-weights"),
        ("pi05_libero", {"checkpoint": Path("x")}, "contradict each other"),
        ("pi05_libero", {"random_weights": False, "size": "dummy"}, "add --random-weights"),
        ("pi0-tiny", {"kernels": ("prompt_attention=cudnn",)}, "With --kernels prompt_"),
        ("pi0-tiny", {"kernels": ("cudnn",)}, "--kernels: Kernels are given as OPERATION=IMPLEMENTATION"),
        ("pi05_libero", {"batches": (0,)}, "numbers from 1"),
        ("pi05_libero", {"devices": 0}, "numbers from 1; got 0"),
        ("pi0-tiny", {"devices": 99}, "Ask for no more"),
        ("pi0-tiny", {"devices_per_copy": 3}, "must divide the number of devices"),
        ("pi0-tiny", {"devices": 2, "reference": True}, "compares on one device"),
        ("pi0-tiny", {"quantized": "int8", "reference": True}, "leave out --quantized"),
        ("pi0-tiny", {"compiler_options": ("xla_x",)}, "takes NAME=VALUE; got 'xla_x'"),
        ("pi0-tiny", {"compiler_options": ("xla_x=1",)}, "No such compile option: 'xla_x'"),
        ("pi05_libero", {"cameras": 4}, "takes 2 to 3 cameras; got --cameras 4"),
    ],
)
def test_rejects_options_that_cannot_be_measured(name, options, message, capsys):
    with pytest.raises(BenchError, match=message):
        benchmark_policy(name, dataclasses.replace(RANDOM, **options))
    assert capsys.readouterr().out == ""


def test_rejects_unknown_presets_and_quantized_checkpoints(one_layer, tmp_path):
    with pytest.raises(UnknownPresetError, match="Did you mean 'pi0-tiny'"):
        benchmark_policy("pi0-tinny", RANDOM)
    (tmp_path / MANIFEST).write_text(json.dumps({"config": {"quantization": {"kind": "int8"}}}))
    with pytest.raises(BenchError, match=r"is quantized; .* with --quantized KIND"):
        benchmark_policy("one-layer", BenchConfig(checkpoint=tmp_path))


def test_smaller_sizes_keep_robot_and_query():
    whole = PRESETS["pi05_libero"]
    chosen, work = measured_preset(whole, dataclasses.replace(RANDOM, size="dummy"))
    assert (work.cameras, work.prompt_tokens, work.flow_steps) == (2, 32, 10)
    assert chosen.model.action_horizon == whole.model.action_horizon
    assert chosen.model.max_token_len == whole.model.max_token_len
    assert chosen.model.image_size == whole.model.image_size


def test_models_with_black_absent_cameras_encode_all_cameras():
    _, work = measured_preset(PRESETS["pi0_fast_libero"], RANDOM)
    assert work.cameras == 3
    with pytest.raises(BenchError, match="takes 2 to 3 cameras"):
        measured_preset(PRESETS["pi0_fast_libero"], dataclasses.replace(RANDOM, cameras=1))


def test_accelerators_are_measured_unrolled_as_policies_are_loaded():
    def unrolled(platform: str, **options) -> tuple[bool, bool]:
        chosen, work = measured_preset(
            PRESETS["pi05_libero"], dataclasses.replace(RANDOM, **options), platform
        )
        assert work.config == chosen.model
        return work.plan.unroll_layers, work.plan.unroll_steps

    assert unrolled("cpu") == (False, False)
    assert unrolled("gpu") == (True, True)
    assert unrolled("gpu", without=("unroll_steps",)) == (True, False)


def test_compiler_options_are_parsed_into_their_types():
    config = BenchConfig(compiler_options=("xla_a=TRUE", "xla_b=FUSION,WHILE", "xla_c=3"))
    assert compiler_options(config) == {"xla_a": True, "xla_b": "FUSION,WHILE", "xla_c": "3"}


@pytest.mark.slow
@pytest.mark.parametrize(("per_copy", "spread"), [(None, "4 x cpu."), (2, "4 x cpu, 2 to a copy")])
def test_rows_are_split_over_several_devices(per_copy, spread):
    program = (
        "from simloop.policies.bench.bench_config import BenchConfig\n"
        "from simloop.policies.bench.benchmark import benchmark_policy\n"
        f"spread = dict(batches=(4, 2), devices=4, devices_per_copy={per_copy}, seconds=0.0)\n"
        "config = BenchConfig(random_weights=True, **spread)\n"
        "assert benchmark_policy('pi0-tiny', config) == 0\n"
    )  # fmt: skip
    text = run_python(program, devices=4)
    assert f"Spread over {spread}" in text
    assert "| batch | devices | " in text
    assert {line.split(" | ")[1] for line in text.splitlines() if line.startswith(("| 4 | ", "| 2 | "))} >= {
        "4",
        "prefill",
    }
