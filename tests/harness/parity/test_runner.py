import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from simloop.harness.parity.runner import families, main
from simloop.harness.parity.xla_flags import OWN_KERNELS

GOLDEN = Path(__file__).parents[2] / "golden" / "models"


@pytest.fixture(autouse=True)
def _xla_flags_are_given(monkeypatch):
    """JAX is running in this process already, so `main` must not try other flags."""
    monkeypatch.setenv("XLA_FLAGS", OWN_KERNELS)


def test_families_include_every_recorded_case():
    assert {"units", "image_encoder", "pi0_dummy", "pi05_dummy", "pi0fast_dummy"} <= set(families(GOLDEN))


def test_passes_equal_recordings(capsys):
    assert main(GOLDEN, "units") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "26 arrays, 0 beyond their limit"
    assert any(line.startswith("units/rmsnorm/out_f32") and line.endswith("ok") for line in lines)


def test_fails_and_names_differing_arrays(tmp_path, capsys):
    arrays = dict(np.load(GOLDEN / "units.npz"))
    arrays["rmsnorm/out_f32"][0, 0, 0] += 0.1
    arrays["attn_mask/out"][0, 0, 0] ^= True
    arrays["rope/out_bf16"][0, 0, 0, 0] = np.nan
    np.savez(tmp_path / "units.npz", **arrays)
    assert main(tmp_path, "units") == 1
    lines = capsys.readouterr().out.splitlines()
    beyond = [line.split()[0] for line in lines if "BEYOND" in line]
    assert beyond == ["units/rope/out_bf16", "units/rmsnorm/out_f32", "units/attn_mask/out"]
    assert lines[-1] == "26 arrays, 3 beyond their limit"


def test_does_not_pass_a_folder_without_recordings(tmp_path, capsys):
    assert main(tmp_path, "units") == 2
    assert main(tmp_path / "missing", None) == 2
    assert "holds no recordings" in capsys.readouterr().err


def test_rejects_an_unknown_family(capsys):
    assert main(GOLDEN, "pi9") == 2
    assert "pi0_dummy" in capsys.readouterr().err


@pytest.mark.slow
def test_passes_every_case_of_the_small_recordings(tmp_path, capsys):
    for name in json.loads((GOLDEN / "cases.json").read_text())["cases"]:
        assert main(GOLDEN, name) == 0, capsys.readouterr().out
    shutil.copytree(GOLDEN, tmp_path / "changed")
    path = tmp_path / "changed" / "out_pi05_dummy_f32.npz"
    arrays = dict(np.load(path))
    arrays["sample/actions_5"] *= 1.001
    np.savez(path, **arrays)
    assert main(tmp_path / "changed", "pi05_dummy") == 1
