"""A run that is killed or interrupted loses nothing and ends as if it had not been."""

import os
import signal
import subprocess
import sys
import time

import pytest

from results import records

COMPARED = ["outcome", "ended_by", "steps", "queries", "seed", "actions_sha256", "final_state_sha256"]


def start(folder, *arguments):
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from harness.cli import main; main()",
            "run",
            *arguments,
            "--out",
            str(folder),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )


def finish(folder, *arguments):
    process = start(folder, *arguments)
    printed, _ = process.communicate(timeout=250)
    assert process.returncode == 0, printed


def stop_after(folder, episodes, how, *arguments):
    """Start a run, send it a signal once the ledger holds `episodes` lines; returns status and output."""
    process = start(folder, *arguments)
    ledger = folder / "episodes.jsonl"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if ledger.exists() and ledger.read_bytes().count(b"\n") >= episodes:
            break
        time.sleep(0.02)
    process.send_signal(how)
    printed, _ = process.communicate(timeout=60)
    return process.returncode, printed


def content(folder):
    frame = records.load(folder)
    keys = ["policy", "suite", "protocol", "task", "episode"]
    return frame.set_index(keys)[COMPARED].sort_index()


def test_killed_then_interrupted_then_finished_equals_uninterrupted(tmp_path):
    arguments = ["--policies", "expert", "random", "--tasks", "reach", "push", "--episodes", "3"]
    arguments += ["--max-steps", "120", "--no-video"]
    finish(tmp_path / "whole", *arguments, "--env-actors", "1")

    broken = tmp_path / "broken"
    status, _ = stop_after(broken, 2, signal.SIGKILL, *arguments, "--env-actors", "2")
    assert status == -signal.SIGKILL
    kept = (broken / "episodes.jsonl").read_bytes()
    status, printed = stop_after(
        broken, kept.count(b"\n") + 2, signal.SIGINT, *arguments, "--env-actors", "2"
    )
    assert status == 130, printed
    assert "Interrupted" in printed
    assert "To go on: simloop run" in printed
    assert (broken / "episodes.jsonl").read_bytes().startswith(kept.rsplit(b"\n", 1)[0])
    assert 0 < len(records.load(broken)) < 12
    assert (broken / "success.md").exists(), "tables of what is done"

    finish(broken, *arguments, "--env-actors", "2")
    assert content(broken).equals(content(tmp_path / "whole"))
    assert len(content(broken)) == 12


@pytest.mark.slow
def test_learned_policies_give_the_same_records_killed_or_not_and_for_any_number_of_simulators(tmp_path):
    arguments = ["--policies", "pi0-tiny", "pi05-tiny", "pi0_fast-tiny", "--tasks", "pick-place", "push"]
    arguments += ["--episodes", "2", "--max-steps", "60", "--undecodable", "hold"]
    finish(tmp_path / "one", *arguments, "--env-actors", "1")
    stop_after(tmp_path / "two", 5, signal.SIGKILL, *arguments, "--env-actors", "2")
    finish(tmp_path / "two", *arguments, "--env-actors", "2")
    assert content(tmp_path / "one").equals(content(tmp_path / "two"))
    assert len(content(tmp_path / "one")) == 12
