"""A run that is killed or interrupted loses no episode and, resumed, gives the records of an uninterrupted one."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from simloop.harness import cli
from simloop.harness.recording.run_status import read_status
from simloop.harness.rollout.loop import run_episode
from simloop.harness.serving.stub_policy import StubPolicy
from simloop.results.records import frames, records
from tests.helpers import point_run
from tests.helpers.faults import POINT_ADAPTER, POINT_STUB
from tests.helpers.point_suite import make_point_env

COMPARED = ["outcome", "ended_by", "steps", "queries", "seed", "actions_sha256", "final_state_sha256"]


MAIN = "from simloop.harness.cli import main; main()"
# A shell that starts tests in the background has them ignore Ctrl-C.
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); " + MAIN


def start(folder, *arguments, command=INTERRUPTIBLE, environment=None, **options):
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            command,
            "run",
            *arguments,
            "--out",
            str(folder),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200", **(environment or {})},
        **options,
    )


def finish(folder, *arguments):
    process = start(folder, *arguments)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed


def finish_here(monkeypatch, folder, *arguments):
    """The same in this process, on the Ray that runs."""
    monkeypatch.setattr(sys, "argv", ["simloop", "run", *arguments, "--out", str(folder)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code


def stop_after(folder, episodes, how, *arguments):
    """Start a run, send it a signal once the ledger holds `episodes` lines; returns status and output."""
    process = start(folder, *arguments)
    wait_for(lambda: lines(folder) >= episodes or process.poll() is not None)
    process.send_signal(how)
    printed, _ = process.communicate(timeout=60)
    return process.returncode, printed


def wait_for(condition, timeout_s=200.0):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and not condition():
        time.sleep(0.02)


def content(folder):
    frame = frames.load(folder)
    keys = ["policy", "suite", "protocol", "task", "episode"]
    return frame.set_index(keys)[COMPARED].sort_index()


@pytest.mark.usefixtures("shared_ray")
def test_killed_then_interrupted_then_finished_equals_uninterrupted(tmp_path, monkeypatch):
    # As many episodes as take seconds, so that the signals come before their end.
    arguments = ["--policies", "expert", "random", "--tasks", "reach", "--episodes", "8"]
    arguments += ["--max-steps", "100", "--no-video"]
    finish_here(monkeypatch, tmp_path / "whole", *arguments, "--env-actors", "1")

    broken = tmp_path / "broken"
    status, _ = stop_after(broken, 2, signal.SIGKILL, *arguments, "--env-actors", "2")
    assert status == -signal.SIGKILL
    kept = (broken / "episodes.jsonl").read_bytes()
    status, printed = stop_after(
        broken, kept.count(b"\n") + 2, signal.SIGINT, *arguments, "--env-actors", "2"
    )
    assert status == 130, printed
    assert "Interrupted" in printed
    assert "To resume: simloop run" in printed
    assert (broken / "episodes.jsonl").read_bytes().startswith(kept.rsplit(b"\n", 1)[0])
    assert 0 < len(frames.load(broken)) < 16
    assert (broken / "success.md").exists(), "tables of what is done"

    finish_here(monkeypatch, broken, *arguments, "--env-actors", "2")
    assert content(broken).equals(content(tmp_path / "whole"))
    assert len(content(broken)) == 16


LONG = ["expert", "--tasks", "reach", "--episodes", "400", "--no-video", "--env-actors", "1"]


@pytest.mark.parametrize("whole_group", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_ends_cleanly_on_sigterm(tmp_path, whole_group):
    """A cluster sends SIGTERM before it kills: to the command, or to all processes of its group."""
    process = start(tmp_path, *LONG, start_new_session=True)
    wait_for(lambda: lines(tmp_path) >= 2 or process.poll() is not None)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 130, printed
    assert "Interrupted" in printed
    assert read_status(tmp_path).state == "interrupted"
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert provenance["starts"][-1]["outcome"] == "interrupted"
    assert (tmp_path / "success.md").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("delay_s", [0.0, 1.0, 3.0, 6.0])
@pytest.mark.parametrize("whole_group", [False, True])
def test_ends_cleanly_on_sigterm_while_ray_starts_in_the_background(tmp_path, delay_s, whole_group):
    """A shell starts `simloop run &` with Ctrl-C ignored."""
    command = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); " + MAIN
    process = start(tmp_path, *LONG, command=command, start_new_session=True)
    ray = wait_for_child(process, "raylet")
    time.sleep(delay_s)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 130, printed
    assert "Interrupted" in printed
    assert "SIGTERM received" not in printed
    assert read_status(tmp_path).state == "interrupted"
    wait_for(lambda: not ray.is_running())
    assert not ray.is_running()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_start_of_ray_that_takes_too_long_ends_in_a_sentence_and_leaves_no_process(tmp_path):
    environment = {"RAY_raylet_start_wait_time_s": "4"}
    process = start(tmp_path, *LONG, environment=environment)
    ray = wait_for_child(process, "raylet")
    children = psutil.Process(process.pid).children(recursive=True)
    ray.suspend()
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 2, printed
    assert printed.splitlines()[-1].startswith("simloop: Ray did not start on this machine: ")
    assert "Traceback" not in printed
    assert not [child for child in children if child.is_running()]


def wait_for_child(process, name: str) -> psutil.Process:
    """Return the process of this name below another, as soon as there is one."""
    found: list[psutil.Process] = []

    def search() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.extend(c for c in psutil.Process(process.pid).children(recursive=True) if c.name() == name)
        return bool(found) or process.poll() is not None

    wait_for(search)
    return found[0]


@pytest.mark.nightly
@pytest.mark.timeout(1500)
def test_learned_policies_give_the_same_records_killed_or_not_and_for_any_number_of_simulators(tmp_path):
    arguments = ["--policies", "pi0-tiny", "pi05-tiny", "pi0_fast-tiny", "--tasks", "pick-place", "push"]
    arguments += ["--episodes", "2", "--max-steps", "60", "--undecodable", "hold"]
    finish(tmp_path / "one", *arguments, "--env-actors", "1")
    stop_after(tmp_path / "two", 5, signal.SIGKILL, *arguments, "--env-actors", "2")
    finish(tmp_path / "two", *arguments, "--env-actors", "2")
    assert content(tmp_path / "one").equals(content(tmp_path / "two"))
    assert len(content(tmp_path / "one")) == 12


@pytest.mark.nightly
@pytest.mark.timeout(1500)
def test_a_driver_that_is_killed_at_any_instant_on_a_slow_disk_loses_and_doubles_nothing(tmp_path):
    chance = random.Random(os.getpid())
    command = [sys.executable, "-m", "tests.helpers.point_run", str(tmp_path)]
    kills = 0
    while kills < 8:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 240
        before = lines(tmp_path)
        # Mostly once it plays, for before that there is little to lose.
        while lines(tmp_path) == before and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 1))
        process.kill()
        if process.wait(60) == 0:
            break
        kills += 1
    assert kills >= 2
    subprocess.run(command, check=True, timeout=600)
    found = {
        record.key: (record.outcome, record.steps, record.actions_sha256) for record in read_all(tmp_path)
    }
    wanted = {}
    for spec in point_run.plan().episodes:
        env = make_point_env("points", spec.task, point_run.PROTOCOL.render)
        played = run_episode(env, spec, StubPolicy(POINT_STUB), POINT_ADAPTER, point_run.PROTOCOL)
        record = played.record(spec, POINT_STUB.spec(), attempts=1, video="")
        wanted[spec.id] = (record.outcome, record.steps, record.actions_sha256)
    assert found == wanted


def lines(folder) -> int:
    ledger = folder / "episodes.jsonl"
    return ledger.read_bytes().count(b"\n") if ledger.exists() else 0


def read_all(folder):
    read = records.read_episodes(folder)
    assert len({record.key for record in read}) == len(read)
    return read
