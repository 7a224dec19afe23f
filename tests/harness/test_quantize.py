"""Policies in 8 bits from the command line: made, named, run and refused."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from simloop.harness import cli
from simloop.harness.errors import SimloopError
from simloop.harness.planning.policy_names import UnknownPolicyError, is_policy, parse
from simloop.harness.quantize import QuantizeOptions, quantize
from simloop.policies.checkpoints import CheckpointError, save_checkpoint
from simloop.policies.checkpoints.native import Manifest
from simloop.policies.files.manifest import MANIFEST, settings_of
from simloop.policies.inference.loading import NoWeightsError, load_policy
from simloop.policies.inference.quantization import QuantizationError
from simloop.policies.interface import Query
from simloop.policies.models.parameters import flatten
from simloop.policies.presets import PRESETS
from simloop.policies.training import calibration
from simloop.policies.training.calibration import observations
from simloop.policies.training.dataset_layout import DatasetError
from simloop.policies.training.dataset_writer import write_dataset
from simloop.policies.training.prepared import prepare
from tests.helpers.demonstrations import CAMERAS, demonstration, header, small_dataset
from tests.helpers.families import first_of


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("data") / "points", episodes=2)


def make(data, out, policy="pi0-tiny", kind="int8", **changes):
    wanted = QuantizeOptions(policy, kind, data, out, **{"frames": 16, **changes})
    console = Console(record=True, width=200)
    return quantize(wanted, console), console.export_text()


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "small"
    name, text = make(data, out)
    return out, name, text


def query(seed=0):
    rng = np.random.default_rng(seed)
    images = {camera: rng.integers(0, 256, (96, 96, 3), np.uint8) for camera in PRESETS["pi0-tiny"].cameras}
    return Query("", "Open a drawer", seed, rng.uniform(-0.5, 0.5, 4).astype(np.float32), images)


def test_quantized_policy_has_its_own_name(made):
    out, name, _ = made
    assert name == f"pi0-tiny-int8@{out}"
    assert is_policy(name)
    assert parse(name).spec().name == name
    policy, plain = parse(name).load(), parse("pi0-tiny").load()
    assert policy.spec.name == name
    assert policy.fingerprint()["weights"] != plain.fingerprint()["weights"]
    small, large = (one.infer([query()], 1).chunks[0].actions for one in (policy, plain))
    assert 0 < np.abs(small - large).max() < 0.3


def test_reports_and_records_the_change_of_actions(made):
    out, _, text = made
    settings = settings_of(out)["quantization"]
    change = settings["action_error"]
    assert change["queries"] == change["compared"] == 8
    assert 0 < change["relative"] < 0.3
    assert change["cosine"] > 0.95
    assert settings["calibrated_on"]["frames"] == 8
    assert re.search(r"Actions of 8 frames .* change in int8 by .* cosine 0\.9", text)


def test_keeps_the_recorded_training_seeds(made):
    """Runs refuse to test a policy on initial states that it was trained on."""
    out, _, _ = made
    assert settings_of(out)["demonstrations"] == settings_of(PRESETS["pi0-tiny"].bundled)["demonstrations"]


def test_rejects_names_that_disagree_with_the_folder(made):
    out, _, _ = made
    with pytest.raises(UnknownPolicyError, match=rf"quantized to int8; .* Name it pi0-tiny-int8@{out}"):
        parse(f"pi0-tiny@{out}")
    with pytest.raises(UnknownPolicyError, match=rf"Name it pi0-tiny-int8@{out}"):
        parse(f"pi0-tiny-fp8@{out}")
    bundled = PRESETS["pi0-tiny"].bundled
    with pytest.raises(UnknownPolicyError, match=rf"not quantized; .* Name it pi0-tiny@{bundled}"):
        parse(f"pi0-tiny-int8@{bundled}")
    for name in ("pi0-tiny-int8", "pi0-tiny-int8@random"):
        with pytest.raises(UnknownPolicyError, match="name the folder: pi0-tiny-int8@FOLDER"):
            parse(name)


def test_frames_are_spread_over_all_episodes_and_never_used_twice(data):
    prepared = prepare(data, {camera: f"observation.images.{camera}" for camera in CAMERAS}, 32)
    queries = observations(prepared, 9)
    assert [one.key for one in queries] == sorted({one.key for one in queries})
    assert queries[0].key == 0
    assert queries[-1].key == prepared.size - 1
    assert {one.instruction for one in queries} == set(prepared.instructions)
    np.testing.assert_array_equal(queries[3].state, prepared.states[queries[3].key])
    np.testing.assert_array_equal(queries[3].images[CAMERAS[1]], prepared.frames[CAMERAS[1]][queries[3].key])
    assert len(observations(prepared, 10**6)) == prepared.size


def test_difference_is_in_units_of_each_entry():
    rng = np.random.default_rng(0)
    before = rng.standard_normal((50, 4, 3)) * np.array([1.0, 100.0, 0.0])
    noise = rng.standard_normal(before.shape) * np.array([1.0, 100.0, 0.0])
    relative, cosine = calibration._difference(before, before + 0.1 * noise)
    assert relative == pytest.approx(0.1, rel=0.1)
    assert cosine == pytest.approx(1 / np.sqrt(1.01), rel=1e-2)
    assert calibration._difference(before, before) == pytest.approx((0.0, 1.0))


def test_rejects_policies_that_cannot_be_quantized(data, made, tmp_path):
    out, name, _ = made
    for policy in ("random", "pi0-tiny@random", name):
        with pytest.raises(SimloopError, match="quantize needs trained weights"):
            make(data, tmp_path / "out", policy)
    keys = (f"{camera}=observation.images.{CAMERAS[0]}" for camera in PRESETS["pi0_libero"].cameras)
    with pytest.raises(NoWeightsError, match="published at"):
        make(data, tmp_path / "out", "pi0_libero", cameras=tuple(keys))
    with pytest.raises(SimloopError, match="exists; choose another folder"):
        make(data, out)
    with pytest.raises(SimloopError, match="--frames must be at least 2"):
        make(data, tmp_path / "out", frames=1)
    assert not (tmp_path / "out").exists()


def test_rejects_data_of_another_robot(tmp_path):
    folder = tmp_path / "points"
    write_dataset(folder, header(state_size=6), [demonstration(0, state_size=6)])
    with pytest.raises(DatasetError, match=r"a state of 4 numbers .* has 6"):
        make(folder, tmp_path / "out")


@pytest.mark.parametrize("number", first_of(float("nan"), float("inf")))
def test_rejects_weights_that_are_not_finite(data, tmp_path, number):
    policy = load_policy("pi0-tiny")
    broken = dict(flatten(policy.model))
    name = "PaliGemma/llm/layers/mlp/linear"
    broken[name] = broken[name].at[1, 0, 0].set(number)
    save_checkpoint(
        tmp_path / "broken",
        broken,
        preset="pi0-tiny",
        normalization=policy.preset.normalization,
        config={},
        norm_stats={"metaworld": policy.stats},
    )
    with pytest.raises(QuantizationError, match=r"in layer 2 reach (nan|inf); the weights are broken"):
        make(data, tmp_path / "out", f"pi0-tiny@{tmp_path / 'broken'}")


def test_rejects_damaged_ranges_on_loading(made, tmp_path):
    out, _, _ = made
    folder = tmp_path / "damaged"
    shutil.copytree(out, folder)
    content = json.loads((folder / MANIFEST).read_text())
    content["config"]["quantization"]["ranges"]["images/mlp/in"] = []
    changed = Manifest.model_validate(content)
    changed = changed.model_copy(update={"manifest_sha256": changed.checksum()})
    (folder / MANIFEST).write_text(changed.model_dump_json())
    with pytest.raises(
        CheckpointError, match=r"damaged: The model has 3 layers with a product 'images/mlp/in'"
    ):
        parse(f"pi0-tiny-int8@{folder}").load()


@pytest.mark.slow
def test_command_line_prints_the_policy_name(data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "from-command"
    arguments = [
        "quantize",
        "pi0-tiny",
        "--to",
        "fp8",
        "--data",
        str(data),
        "--out",
        str(out),
        "--frames",
        "4",
    ]
    monkeypatch.setattr(sys, "argv", ["simloop", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    assert f"It runs as pi0-tiny-fp8@{out}." in capsys.readouterr().out


def test_parsing_names_needs_no_jax(made):
    _, name, _ = made
    code = (
        "import sys; from simloop.harness.planning.policy_names import parse; "
        f"print(parse({name!r}).quantized, 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["int8", "False"]
