"""What `simloop inspect` says about a folder."""

import io
import shutil

from rich.console import Console

from simloop.harness.inspection import show
from simloop.policies.presets import PRESETS
from tests.policies.checkpoints.test_lerobot import write_policy


def shown(folder, name=""):
    console = Console(file=io.StringIO(), width=200)
    return show(folder, name, console), console.file.getvalue()


def test_a_bundled_checkpoint_fits_its_preset():
    status, text = shown(PRESETS["pi05-tiny"].bundled)
    assert status == 0
    for line in (
        "format          simloop",
        "fits            pi05-tiny",
        "state of 4, actions of 4",
        "run as",
    ):
        assert line in text


def test_a_checkpoint_of_another_preset_fits_not(tmp_path):
    shutil.copytree(PRESETS["pi0-tiny"].bundled, tmp_path / "p")
    status, text = shown(tmp_path / "p", "pi05-tiny")
    assert status == 1
    assert "pi05-tiny:" in text
    assert "was written for preset 'pi0-tiny'" in text


def test_says_why_no_preset_fits(tmp_path):
    status, text = shown(write_policy(tmp_path / "p", "pi05", config={"chunk_size": 50}), "pi05-tiny")
    assert status == 1
    assert "chunk_steps 50" in text
    assert "does not fit the model" in text
