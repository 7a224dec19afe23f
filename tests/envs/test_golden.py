"""Every suite reproduces its recorded golden moments."""

import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

from simloop.envs import golden, registry
from simloop.envs.interface import RenderSettings
from simloop.envs.served.suite import ServedSuite
from simloop.harness import doctor

FAST = {"metaworld": 3, "aloha_sim": 2, "libero": 1}  # Number of golden tasks in the fast tests.

IN_PROCESS = [suite for suite in map(registry.suite, registry.suites()) if not isinstance(suite, ServedSuite)]
RECORDED = [suite for suite in IN_PROCESS if suite.golden_tasks]
GOLDEN = [
    pytest.param(
        suite, task, id=f"{suite.name}/{task}", marks=() if i < FAST[suite.name] else pytest.mark.slow
    )
    for suite in IN_PROCESS
    for i, task in enumerate(suite.golden_tasks)
]


@pytest.mark.parametrize(("suite", "task"), GOLDEN)
def test_golden_tasks_agree_with_their_records(suite, task):
    compared = list(golden.compare(suite, task))
    assert [found.moment for found in compared] == ["first", "moved"]
    for found in compared:
        assert found.agrees, found


def test_every_suite_records_golden_tasks_with_their_origin():
    for suite in RECORDED:
        recorded = json.loads((golden._folder(suite) / "golden.json").read_text())
        assert list(recorded["tasks"]) == list(suite.golden_tasks)
        assert golden.origin(suite).packages["mujoco"] == "3.3.0"
        assert golden.origin(suite).renderer


@pytest.fixture
def aloha():
    return registry.suite("aloha_sim")


def printed(capsys, *suites: str) -> tuple[int, str]:
    status = doctor.main(Console(width=1000), suites)
    return status, capsys.readouterr().out


def test_doctor_accepts_this_machine_and_names_its_renderer(capsys, aloha):
    status, text = printed(capsys, "aloha_sim")
    assert status == 0
    assert text.count("state agrees") == 4
    assert golden.origin_here(aloha).renderer in text


def test_doctor_names_differing_versions_and_renderers(capsys, monkeypatch, aloha):
    monkeypatch.setattr(golden, "RENDER", RenderSettings("fast", 128, 128))  # Without shadows.
    here = golden.origin_here(aloha)
    there = dataclasses.replace(here, packages={**here.packages, "mujoco": "3.2.3"}, renderer="a GPU")
    monkeypatch.setattr(golden, "origin", lambda _: there)
    status, text = printed(capsys, "aloha_sim")
    assert status == 1
    assert "mujoco 3.2.3 -> 3.3.0" in text
    assert "renderer: a GPU -> " in text
    assert "FAIL" in text


def test_doctor_detects_different_physics(capsys, monkeypatch):
    monkeypatch.setattr(golden, "ACTION_SCALE", 0.21)
    status, text = printed(capsys, "aloha_sim")
    assert status == 1
    assert "robot's state differs" in text
    assert "first" in text


def test_doctor_prints_the_command_that_installs_a_missing_suite(capsys, monkeypatch, aloha):
    monkeypatch.setattr(type(aloha), "packages", ("gym-aloha-of-another-world",))
    status, text = printed(capsys, "aloha_sim")
    assert status == 1
    assert "gym-aloha-of-another-world cannot be found. Install it with: scripts/setup aloha" in text


def test_golden_images_are_small():
    for suite in RECORDED:
        files = [file for file in golden._folder(suite).iterdir() if file.name.endswith(".png")]
        assert len(files) == 2 * len(suite.golden_tasks)
        assert sum(len(file.read_bytes()) for file in files) < 300_000
    assert np.asarray(golden.RENDER.height) <= 128
