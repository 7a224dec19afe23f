"""Compiled models are loaded the second time, and compiled again whenever something of them has changed."""

import os
import shutil
from pathlib import Path

import mujoco
import numpy as np
import pytest

from simloop.envs import model_cache
from simloop.envs.model_cache import compiled_model

TRIANGLES = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMLOOP_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "models"


@pytest.fixture
def xml(tmp_path: Path) -> str:
    mesh = tmp_path / "mesh.obj"
    mesh.write_text(TRIANGLES)
    return (
        f'<mujoco><asset><mesh name="mesh" file="{mesh}"/></asset>'
        '<worldbody><body name="a"><freejoint/><geom type="mesh" mesh="mesh"/></body></worldbody></mujoco>'
    )


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Documents that were compiled."""
    seen: list[str] = []

    compile_model = model_cache._compile

    def counting(xml: str) -> mujoco.MjModel:
        seen.append(xml)
        return compile_model(xml)

    monkeypatch.setattr(model_cache, "_compile", counting)
    return seen


def test_loads_what_was_compiled_before_with_equal_bytes(home: Path, xml: str, compiled: list[str]):
    first, second = compiled_model(xml, "suite 1"), compiled_model(xml, "suite 1")
    assert len(compiled) == 1
    assert content(first) == content(second)
    assert [file.suffix for file in home.iterdir()] == [".mjb"]


def content(model: mujoco.MjModel) -> bytes:
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()


def test_compiles_again_for_other_documents_assets_and_packages(
    home: Path, xml: str, compiled: list[str], tmp_path: Path
):
    compiled_model(xml, "suite 1")
    compiled_model(xml, "suite 2")
    compiled_model(xml.replace('name="a"', 'name="b"'), "suite 1")
    (tmp_path / "mesh.obj").write_text(TRIANGLES.replace("0 0 1", "0 0 2"))
    os.utime(tmp_path / "mesh.obj", (1, 1))  # A clock of seconds may not tell the two files apart.
    larger = compiled_model(xml, "suite 1")
    assert len(compiled) == 4
    assert larger.mesh_vert.max() > 1


def test_a_damaged_file_is_replaced(home: Path, xml: str, compiled: list[str]):
    whole = content(compiled_model(xml, "suite 1"))
    (file,) = home.iterdir()
    for damaged in (whole[:-100], whole[:500] + b"x" + whole[501:], b""):
        file.write_bytes(damaged)
        assert content(compiled_model(xml, "suite 1")) == whole
        assert file.read_bytes() == whole
    assert len(compiled) == 4


def test_deleted_files_are_made_again(home: Path, xml: str, compiled: list[str]):
    compiled_model(xml, "suite 1")
    shutil.rmtree(home)
    compiled_model(xml, "suite 1")
    assert len(compiled) == 2
    assert len(list(home.iterdir())) == 1


@pytest.mark.parametrize("broken", ["a file in the way", "hardly any space"])
def test_works_without_a_place_to_store(home: Path, xml: str, monkeypatch: pytest.MonkeyPatch, broken: str):
    if broken == "a file in the way":
        home.parent.mkdir()
        home.write_text("")
    else:
        monkeypatch.setattr(model_cache, "FREE_FACTOR", 1e18)
    assert compiled_model(xml, "suite 1").nmesh == 1
    assert home.is_file() or list(home.iterdir()) == []
