"""`simloop bench recording`: processor time and size of step records.

One episode is played in turn without records and with each level, in one process. Processor time hardly depends on
other load; the least of all rounds counts.
"""

from __future__ import annotations

import dataclasses
import time

from rich.console import Console

from simloop.envs import registry
from simloop.harness.adapters.registry import checked_adapter
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.policy_names import parse
from simloop.harness.planning.protocol import named_protocol
from simloop.harness.rollout.loop import run_episode
from simloop.harness.rollout.step_recorder import StepRecorder
from simloop.results.records.paths import STEP_RECORDS
from simloop.results.records.step_records import Level
from simloop.results.tables.grid import Grid
from simloop.results.tables.typesetting import to_markdown

OPTIONS: tuple[tuple[Level | None, bool], ...] = (
    (None, False),
    ("queries", False),
    ("steps", False),
    ("queries", True),
)
"""Levels of records, without and with stored images."""


@dataclasses.dataclass(frozen=True)
class RecordingCost:
    """Cost of step records, per query."""

    cpu_ms: float
    """Processor time of the whole process, with simulation, rendering and policy."""
    records_bytes: float
    images_bytes: float


def run(suite: str, task: str, policy: str, steps: int, rounds: int, console: Console) -> int:
    """Measure and print a Markdown table; returns the exit status."""
    costs, queries = measure(suite, task, policy, steps, rounds)
    without = costs[None, False].cpu_ms
    rows = tuple(
        (
            f"{level or 'none'}{' --record-images' * images}",
            f"{cost.cpu_ms:.1f} ms",
            f"{cost.cpu_ms / without - 1:+.1%}",
            f"{50e-6 * cost.records_bytes:.2f} MB",
            f"{50e-6 * cost.images_bytes:.2f} MB",
        )
        for (level, images), cost in costs.items()
    )
    note = f"{policy} on {suite}/{task}, {queries} queries, the least of {rounds} rounds. Sizes are for 50 queries."
    columns = ("--record", "processor time per query", "more than none", "records", "images")
    grid = Grid("Step records", columns, (rows,), (note,))
    console.print(to_markdown(grid), highlight=False, markup=False, soft_wrap=True)
    return 0


def measure(
    suite: str, task: str, policy: str, steps: int, rounds: int
) -> tuple[dict[tuple[Level | None, bool], RecordingCost], int]:
    """Play the first episode of a task `rounds` times per option; returns the costs and the number of queries."""
    (task_spec,) = registry.resolve_tasks(suite, [task])
    protocol = dataclasses.replace(named_protocol(suite), max_steps=steps)
    loaded = parse(policy).load()
    adapter = checked_adapter(loaded.spec, [task_spec])
    spec = make_plan([loaded.spec.name], [task_spec], protocol, episodes=1, seed=0).episodes[0]
    env = registry.suite(suite).make(task_spec.name, protocol.render)
    run_episode(env, spec, loaded, adapter, protocol, [StepRecorder(spec, "steps")])  # Warm-up.
    costs: dict[tuple[Level | None, bool], RecordingCost] = {}
    queries = 0
    for _ in range(rounds):
        for option in OPTIONS:
            level, images = option
            recorders = [] if level is None else [StepRecorder(spec, level, images=images)]
            started = time.process_time()
            queries = len(run_episode(env, spec, loaded, adapter, protocol, recorders).queries)
            cpu_ms = 1e3 * (time.process_time() - started) / queries
            files = recorders[0].attachments if recorders else {}
            records = len(files.get(STEP_RECORDS, b""))
            stored = sum(map(len, files.values())) - records
            least = min(cpu_ms, costs[option].cpu_ms) if option in costs else cpu_ms
            costs[option] = RecordingCost(least, records / queries, stored / queries)
    env.close()
    return costs, queries
