"""A whole run of the point suite, by a process that may be killed: python -m tests.helpers.point_run FOLDER."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from simloop.envs.interface import RenderSettings
from simloop.harness.engine.engine import Engine
from simloop.harness.engine.resources import Resources
from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.plan import Plan, make_plan
from simloop.harness.planning.protocol import Protocol
from simloop.harness.recording.run_folder import RunFolder
from simloop.harness.run import record_of
from tests.helpers.faults import FAULTY, POINT_STUB
from tests.helpers.point_suite import point_task

PROTOCOL = Protocol("points", render=RenderSettings("fast", 32, 32), replan_steps=3, max_steps=12)
EXPERIMENT = Experiment("points", "points", ("left", "right"), ("stub",), 40, protocol=PROTOCOL)
SLOW_DISK_S = 0.02  # For every flush.


def plan() -> Plan:
    return make_plan(
        ["stub"], [point_task("left"), point_task("right")], PROTOCOL, EXPERIMENT.episodes, seed=0
    )


def main(folder: Path) -> None:
    fsync = os.fsync
    os.fsync = lambda descriptor: (time.sleep(SLOW_DISK_S), fsync(descriptor))[1]
    spec = POINT_STUB.spec()
    with RunFolder(folder, EXPERIMENT, plan()) as run:
        todo = [episode for episode in plan().episodes if episode.id not in run.done]
        with Engine(PROTOCOL, {"stub": spec}, 4, Resources(env_actors=2), None, factories=FAULTY) as engine:
            for attempt, result in engine.results(todo):
                queries = result.played.queries if result.played else []
                run.append(record_of(result, spec, attempt, PROTOCOL.max_steps, filmed=False), queries)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
