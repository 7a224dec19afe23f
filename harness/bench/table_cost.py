"""Processor time and memory of tables of many policies, tasks and episodes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from simloop.results.records.ledger import encode_line
from simloop.results.records.records import CONFIG, EPISODES, EpisodeRecord
from simloop.terminal import Terminal

_EPISODE = EpisodeRecord(
    policy="", weights="trained", suite="metaworld", protocol="metaworld/default-v1", task="", episode=0, seed=0,
    outcome="success", ended_by="success", steps=50, queries=0, undecodable=0, reward=1.0, attempts=1, error="",
    actions_sha256="ab" * 32, final_state_sha256="cd" * 32, wall_s=2.5, video="", max_steps=500,
)  # fmt: skip
_FAILED = {"outcome": "failure", "ended_by": "step_limit", "steps": 500}


def run(policies: int, tasks: int, episodes: int, console: Terminal) -> int:
    """Print processor time and peak memory of commands on a made-up run; `episodes` are of each policy and task."""
    with tempfile.TemporaryDirectory(prefix="simloop-") as name:
        folder = Path(name)
        write_made_up_run(folder, policies, tasks, episodes)
        console.print(
            f"{policies} policies x {tasks} tasks x {episodes} episodes: {policies * tasks * episodes}"
        )
        simloop = [sys.executable, "-m", "simloop.harness.cli"]
        for shown, command in {
            "python -c 'import pandas', for comparison": [sys.executable, "-c", "import pandas"],
            "simloop --help": [*simloop, "--help"],
            "simloop list tasks": [*simloop, "list", "tasks"],
            "simloop table RUN --only success": [*simloop, "table", name, "--only", "success"],
            "simloop table RUN --format tex": [*simloop, "table", name, "--format", "tex"],
            "simloop table RUN": [*simloop, "table", name],
        }.items():
            seconds, mebibytes = cost(command)
            console.print(f"{shown}: {seconds:.2f} s of processor time, {mebibytes:.0f} MiB")
    return 0


def cost(command: list[str]) -> tuple[float, float]:
    """Processor time in s and peak memory in MiB of a command, from the start of its process to its end."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def write_made_up_run(folder: Path, policies: int, tasks: int, episodes: int) -> None:
    """Write a finished run whose policies have different success rates."""
    rng = np.random.default_rng(0)
    names, task_names = (
        [f"{kind}-{i:03}" for i in range(n)] for kind, n in (("policy", policies), ("task", tasks))
    )
    rates = np.linspace(0.5, 0.95, policies)[:, None] - rng.uniform(0, 0.3, tasks)
    succeeded = rng.uniform(size=(policies, tasks, episodes)) < rates[..., None]
    config = {
        "experiment": {"suite": "metaworld", "policies": names, "episodes": episodes},
        "tasks": task_names,
    }
    (folder / CONFIG).write_text(json.dumps(config))
    with (folder / EPISODES).open("w") as ledger:
        for (policy, task, episode), success in np.ndenumerate(succeeded):
            changes: dict[str, Any] = {} if success else _FAILED
            record = dataclasses.replace(
                _EPISODE,
                policy=names[policy],
                task=task_names[task],
                episode=episode,
                seed=episode,
                **changes,
            )
            ledger.write(encode_line(record.to_dict()))
