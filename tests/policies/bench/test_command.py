import dataclasses
import json
import re

import pytest

from simloop.policies.bench.bench_config import BenchConfig, BenchError, compiler_options, measured_preset
from simloop.policies.bench.command import main
from simloop.policies.files.manifest import MANIFEST
from simloop.policies.presets import PRESETS
from tests.helpers.fresh_python import run_python

REFUSING = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
"""
REFUSED = ("ray", "mujoco", "tyro", "gymnasium", "pandas", "pydantic", "pyarrow", "av", "PIL")
REFUSED = (
    *REFUSED,
    "sentencepiece",
    "tokenizers",
    "safetensors",
    "jaxtyping",
    "scipy.stats",
    "harness",
    "envs",
)


def test_it_runs_with_python_numpy_jax_and_flax_alone():
    program = f"REFUSED = {REFUSED!r}\n" + REFUSING + (
        "from simloop.policies.bench.bare import without_jaxtyping\n"
        "without_jaxtyping()\n"
        "import simloop.policies.bench.command, simloop.policies.bench.reference_implementation, simloop.policies.bench.measure\n"
        "from simloop.policies.bench.bench_config import BenchConfig, measured_preset\n"
        "from simloop.policies.bench.counts import counts\n"
        "from simloop.policies.bench.random_weights import random_policy\n"
        "from simloop.policies.presets import preset\n"
        "chosen, work = measured_preset(preset('pi0-tiny'), BenchConfig(random_weights=True))\n"
        "print(counts(work, 1)['prefill'].flops)\n"
    )  # fmt: skip
    assert float(run_python(program)) > 1e6


@pytest.fixture
def one_layer(monkeypatch):
    """`pi0-tiny` with one layer of everything, which compiles faster."""
    whole = PRESETS["pi0-tiny"]
    model = dataclasses.replace(
        whole.model,
        language=dataclasses.replace(whole.model.language, depth=1),
        action_expert=dataclasses.replace(whole.model.action_expert, depth=1),
        image_encoder=dataclasses.replace(whole.model.image_encoder, depth=1),
    )
    monkeypatch.setitem(PRESETS, "one-layer", dataclasses.replace(whole, model=model, flow_steps=2))


def test_tables_have_every_stage_with_its_floor_and_counts(one_layer, tmp_path, capsys):
    out = tmp_path / "tables" / "bench.md"
    arguments = ["one-layer", "--random-weights", "--batches", "2", "--seconds", "0", "--out", str(out)]
    assert main([*arguments, "--transcription"]) == 0
    text = capsys.readouterr().out
    assert out.read_text() == text
    rows = {
        line.split(" | ")[1]: line.split(" | ") for line in text.splitlines() if line.startswith("| 2 | ")
    }
    for stage in ("host", "copy", "image encoder", "prefill", "flow step", "post"):
        assert float(rows[stage][3]) >= 0
    for stage in ("image encoder", "prefill", "flow step"):
        *_, floor_ms, _, gigaflops, counted, _ = rows[stage]
        assert float(floor_ms) > 0
        assert float(counted) == pytest.approx(float(gigaflops), rel=0.3)
    difference = float(re.findall(r"\| (\S+) \|\n\Z", text)[0])
    assert difference < 1e-5


def test_without_stages_there_is_the_table_of_whole_batches_alone(one_layer, capsys):
    assert main(["one-layer", "--random-weights", "--batches", "2", "--seconds", "0", "--no-stages"]) == 0
    text = capsys.readouterr().out
    assert text.count("| --- |") == 1
    (row,) = (line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| 2 | "))
    device_ms, floor_ms = float(row[6]), float(row[8])
    assert device_ms > 0
    assert floor_ms > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pi0-tinny"], "Did you mean 'pi0-tiny'"),
        (["pi0-tiny", "--without", "sleep"], "no saving 'sleep'"),
        (["pi05_libero"], "--checkpoint FOLDER or --random-weights"),
        (["pi05_libero", "--random-weights", "--checkpoint", "x"], "contradict each other"),
        (["pi05_libero", "--size", "dummy"], "add --random-weights"),
        (["pi0-tiny", "--compile-for", "h100", "--devices", "2"], "runs nothing, on one device"),
        (["pi0-tiny", "--random-weights", "--kernels", "prompt_attention=cudnn"], "With --kernels prompt_"),
        (["pi05_libero", "--random-weights", "--batches", "0"], "numbers from 1"),
        (["pi05_libero", "--random-weights", "--devices", "0"], "numbers from 1; got 0"),
        (["pi0-tiny", "--random-weights", "--devices", "99"], "Ask for no more"),
        (["pi0-tiny", "--random-weights", "--devices-per-copy", "3"], "must divide the number of devices"),
        (["pi0-tiny", "--devices", "2", "--transcription"], "compares on one device"),
        (["pi0-tiny", "--random-weights", "--compiler-options", "xla_x"], "takes NAME=VALUE; got 'xla_x'"),
        (
            ["pi0-tiny", "--random-weights", "--compiler-options", "xla_x=1"],
            "No such compile option: 'xla_x'",
        ),
        (["pi05_libero", "--random-weights", "--cameras", "4"], "takes 2 to 3 cameras; got --cameras 4"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(arguments, said, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_smaller_sizes_keep_what_the_robot_and_the_queries_are():
    whole = PRESETS["pi05_libero"]
    chosen, work = measured_preset(whole, BenchConfig(random_weights=True, size="dummy"))
    assert (work.cameras, work.prompt_tokens, work.flow_steps) == (2, 32, 10)
    assert chosen.model.action_horizon == whole.model.action_horizon
    assert chosen.model.max_token_len == whole.model.max_token_len
    assert chosen.model.image_size == whole.model.image_size


def test_models_that_see_black_for_absent_cameras_encode_all_of_them():
    _, work = measured_preset(PRESETS["pi0_fast_libero"], BenchConfig(random_weights=True))
    assert work.cameras == 3
    with pytest.raises(BenchError, match="takes 2 to 3 cameras"):
        measured_preset(PRESETS["pi0_fast_libero"], BenchConfig(random_weights=True, cameras=1))


def test_accelerators_are_measured_with_what_policies_run_there_unless_told_otherwise():
    def unrolled(platform: str, **options) -> tuple[bool, bool]:
        chosen, work = measured_preset(
            PRESETS["pi05_libero"], BenchConfig(random_weights=True, **options), platform
        )
        assert work.config == chosen.model
        return chosen.model.unroll_layers, chosen.model.optimizations.unrolled_steps

    assert unrolled("cpu") == (False, False)
    assert unrolled("gpu") == (True, True)
    assert unrolled("gpu", unroll_layers=False, unroll_steps=False) == (False, False)
    assert unrolled("gpu", without=("unrolled_steps",)) == (True, False)
    assert unrolled("cpu", unroll_layers=True, unroll_steps=True) == (True, True)


def test_options_of_the_compiler_are_read_in_their_types():
    config = BenchConfig(compiler_options=("xla_a=TRUE", "xla_b=FUSION,WHILE", "xla_c=3"))
    assert compiler_options(config) == {"xla_a": True, "xla_b": "FUSION,WHILE", "xla_c": "3"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("per_copy", "said"), [((), "4 x cpu."), (("--devices-per-copy", "2"), "4 x cpu, 2 to a copy")]
)
def test_rows_are_split_over_several_devices(per_copy, said):
    program = (
        "import sys\n"
        "from simloop.policies.bench.command import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )  # fmt: skip
    text = run_python(
        program, "pi0-tiny", "--random-weights", "--batches", "4", "2", "--seconds", "0", "--devices", "4", *per_copy,
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
    )  # fmt: skip
    assert f"Spread over {said}" in text
    assert "| batch | devices | " in text
    assert {line.split(" | ")[1] for line in text.splitlines() if line.startswith(("| 4 | ", "| 2 | "))} >= {
        "4",
        "prefill",
    }


def test_speed_in_8_bits_needs_no_observations(one_layer, capsys):
    arguments = ["one-layer", "--random-weights", "--batches", "2", "--seconds", "0", "--count", "no"]
    assert main([*arguments, "--quantized", "int8", "--kernels", "xla"]) == 0
    printed = capsys.readouterr().out
    assert "Large products in int8 of made-up ranges." in printed
    assert "The floor is that of float32." in printed
    assert "Kernels" not in printed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--kernels", "cudnn"], "--kernels: Kernels are given as OPERATION=IMPLEMENTATION"),
        (["--quantized", "int8", "--transcription"], "leave out --quantized"),
    ],
)
def test_what_contradicts_itself_is_refused(one_layer, options, words, capsys):
    assert main(["one-layer", "--random-weights", *options]) == 2
    assert words in capsys.readouterr().err


def test_a_quantised_checkpoint_is_measured_by_what_it_was_made_of(one_layer, tmp_path, capsys):
    (tmp_path / MANIFEST).write_text(json.dumps({"config": {"quantization": {"kind": "int8"}}}))
    assert main(["one-layer", "--checkpoint", str(tmp_path)]) == 2
    assert "is quantised; measure what it was made of with --quantized KIND" in capsys.readouterr().err
