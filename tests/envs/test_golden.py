"""Every suite shows and computes here what it did where its results were checked."""

import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

from simloop.envs import golden, registry
from simloop.envs.interface import RenderSettings
from simloop.harness import doctor

FAST = {"metaworld": 3, "aloha_sim": 2, "libero": 1}  # Golden tasks that the fast tests play.

GOLDEN = [
    pytest.param(
        suite, task, id=f"{suite.name}/{task}", marks=() if i < FAST[suite.name] else pytest.mark.slow
    )
    for suite in map(registry.suite, registry.suites())
    for i, task in enumerate(suite.golden_tasks)
]


@pytest.mark.parametrize(("suite", "task"), GOLDEN)
def test_a_golden_task_comes_out_as_kept(suite, task):
    compared = list(golden.compare(suite, task))
    assert [found.moment for found in compared] == ["first", "moved"]
    for found in compared:
        assert found.agrees, found


def test_every_suite_keeps_golden_tasks_with_their_origin():
    for suite in map(registry.suite, registry.suites()):
        assert suite.golden_tasks
        kept = json.loads((golden._kept(suite) / "golden.json").read_text())
        assert list(kept["tasks"]) == list(suite.golden_tasks)
        assert golden.origin(suite).packages["mujoco"] == "3.3.0"
        assert golden.origin(suite).renderer


@pytest.fixture
def aloha():
    return registry.suite("aloha_sim")


def printed(capsys, *suites: str) -> tuple[int, str]:
    status = doctor.main(Console(width=1000), suites)
    return status, capsys.readouterr().out


def test_the_doctor_is_content_with_this_machine_and_names_what_draws(capsys, aloha):
    status, text = printed(capsys, "aloha_sim")
    assert status == 0
    assert text.count("state agrees") == 4
    assert golden.origin_here(aloha).renderer in text


def test_the_doctor_says_which_version_and_renderer_differ_where_pictures_do(capsys, monkeypatch, aloha):
    monkeypatch.setattr(golden, "RENDER", RenderSettings("fast", 128, 128))  # Without shadows.
    here = golden.origin_here(aloha)
    there = dataclasses.replace(here, packages={**here.packages, "mujoco": "3.2.3"}, renderer="a GPU")
    monkeypatch.setattr(golden, "origin", lambda _: there)
    status, text = printed(capsys, "aloha_sim")
    assert status == 1
    assert "mujoco 3.2.3 -> 3.3.0" in text
    assert "renderer: a GPU -> " in text
    assert "FAIL" in text


def test_the_doctor_notices_physics_that_differ(capsys, monkeypatch):
    monkeypatch.setattr(golden, "REACH", 0.21)
    status, text = printed(capsys, "aloha_sim")
    assert status == 1
    assert "robot's state differs" in text
    assert "first" in text


def test_a_suite_that_is_not_there_is_answered_with_the_command_that_installs_it(capsys, monkeypatch, aloha):
    monkeypatch.setattr(type(aloha), "packages", ("gym-aloha-of-another-world",))
    status, text = printed(capsys, "aloha_sim")
    assert status == 1
    assert "gym-aloha-of-another-world cannot be found. Install it with: scripts/setup aloha" in text


def test_pictures_are_small():
    for suite in map(registry.suite, registry.suites()):
        files = [file for file in golden._kept(suite).iterdir() if file.name.endswith(".png")]
        assert len(files) == 2 * len(suite.golden_tasks)
        assert sum(len(file.read_bytes()) for file in files) < 300_000
    assert np.asarray(golden.RENDER.height) <= 128
