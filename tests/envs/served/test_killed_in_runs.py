"""Processes of served suites that are killed while `simloop run` plays neither lose nor double an episode."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from simloop.envs import registry
from simloop.envs.served import server, watched
from simloop.results.records import frames
from tests.helpers import served_points

KEY = ["policy", "suite", "protocol", "task", "episode"]
COMPARED = [
    "outcome",
    "ended_by",
    "steps",
    "queries",
    "reward",
    "seed",
    "actions_sha256",
    "final_state_sha256",
]
POINTS = f"process:{served_points.__file__}?python={sys.executable}&step_s=0.02"


def started(folder: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-c", "from simloop.harness.cli import main; main()", "run", *arguments]
    command += ["--no-video", "--env-actors", "2", "--out", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def records(run: subprocess.Popen, folder: Path):
    printed, _ = run.communicate(timeout=900)
    assert run.returncode == 0, printed
    assert (folder / "episodes.jsonl").read_text().count("\n") == len(frames.load(folder))
    return frames.load(folder).set_index(KEY)[COMPARED].sort_index()


def simulating(run: subprocess.Popen, script: str) -> list[psutil.Process]:
    """Processes below a run that execute a script: the server of a suite, or what watches it."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(run.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                scripts = [part for part in process.cmdline() if part in (server.__file__, watched.__file__)]
                found += [process] * (scripts[:1] == [script])
    return found


def kill(run: subprocess.Popen, count: int, within_s: float) -> list[psutil.Process]:
    """Kill processes of the suite at random moments, every fifth time what watches one; returns those killed."""
    chance, killed = np.random.default_rng(0), []
    while run.poll() is None and len(killed) < count:
        time.sleep(chance.uniform(0, within_s))
        if found := simulating(run, watched.__file__ if len(killed) % 5 == 4 else server.__file__):
            process = found[chance.integers(len(found))]
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                killed.append(process)
    return killed


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("suite", "policy", "task", "episodes", "kills", "within_s"),
    [
        (POINTS, "random", "point", 250, 50, 1.5),
        ("robosuite", "expert", "Lift", 8, 5, 6.0),
    ],
    ids=["points", "robosuite"],
)
def test_killing_processes_of_a_suite_during_a_run_changes_no_record(
    tmp_path, suite, policy, task, episodes, kills, within_s
):
    if suite == "robosuite" and not registry.suite(suite).is_installed():
        pytest.skip("Suite robosuite is not installed: scripts/setup robosuite.")
    arguments = ["--suite", suite, "--tasks", task, "--policies", policy, "--episodes", str(episodes)]
    run = started(tmp_path / "killed", *arguments)
    killed = kill(run, kills, within_s)
    found = records(run, tmp_path / "killed")
    assert len(killed) == kills, "the run ended earlier"
    assert not psutil.wait_procs(killed, timeout=15)[1]
    whole = records(started(tmp_path / "whole", *arguments), tmp_path / "whole")
    assert len(found) == episodes
    assert found.equals(whole), found.compare(whole)
