"""`simloop bench served`: what a step costs more when a child process simulates."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simloop.envs import registry
from simloop.envs.interface import Env, RenderSettings
from simloop.envs.served.connection import Program
from simloop.envs.served.environment import ServedEnv
from simloop.harness.bench import metaworld_served
from simloop.terminal import Terminal

RENDER = RenderSettings("fast", 224, 224)
TURN = 20
"""Steps of a turn, of which the first is not counted."""


def run(task: str, steps: int, terminal: Terminal) -> int:
    """Print a Markdown table; returns 1 if the two environments differ."""
    suite = registry.suite("metaworld")
    here = suite.make(task, RENDER)
    served = ServedEnv(
        here.spec, Program(sys.executable, Path(metaworld_served.__file__)), RENDER, suite.source
    )
    try:
        cameras = here.spec.cameras[:2]
        rows = [
            _row("step, state and two images of 224 x 224", _paired(here, served, steps, cameras)),
            _row("step and state", _paired(here, served, steps, ())),
        ]
        equal = all(np.array_equal(here.render(camera), served.render(camera)) for camera in cameras)
        equal &= np.array_equal(here.snapshot(), served.snapshot())
    finally:
        here.close()
        served.close()
    head = f"| {task}, median ms of {steps} steps | in this process | in a child | more | processor ms more |"
    terminal.print(f"{head}\n|---|---:|---:|---:|---:|", soft_wrap=True)
    terminal.print("\n".join(rows), soft_wrap=True)
    terminal.print(f"State and images at the end are {'equal' if equal else 'DIFFERENT'}.")
    return 0 if equal else 1


class Cost(NamedTuple):
    """Milliseconds of one step."""

    wall_ms: float
    processor_ms: float
    """Of this process and the child."""


def _paired(here: Env, served: Env, steps: int, cameras: Sequence[str]) -> list[tuple[Cost, Cost]]:
    """Costs of each step in both environments, which take turns of several steps, so that caches are theirs."""
    spec = here.spec
    actions = np.random.default_rng(0).uniform(spec.action_low, spec.action_high, (steps, spec.action_size))
    for env in (here, served):
        env.reset(0)
        for camera in cameras:
            env.render(camera)
    costs: dict[Env, list[Cost]] = {here: [], served: []}
    for begin in range(0, steps, TURN):
        for env in (here, served):
            turn = [_cost(env, action, cameras) for action in actions[begin : begin + TURN]]
            costs[env] += turn[1:]
    return list(zip(costs[here], costs[served], strict=True))


def _cost(env: Env, action: np.ndarray, cameras: Sequence[str]) -> Cost:
    child_s, processor_s = _child_s(env), time.process_time()
    began = time.perf_counter()
    env.step(action)
    env.state()
    for camera in cameras:
        env.render(camera)
    wall_s = time.perf_counter() - began
    processor_s = time.process_time() - processor_s
    return Cost(1e3 * wall_s, 1e3 * (processor_s + _child_s(env) - child_s))


def _child_s(env: Env) -> float:
    """Processor time of the child of a served environment."""
    if not isinstance(env, ServedEnv) or env.pid is None:
        return 0.0
    (child,) = Path(f"/proc/{env.pid}/task/{env.pid}/children").read_text().split()
    return int(Path(f"/proc/{child}/schedstat").read_text().split()[0]) / 1e9


def _row(name: str, pairs: list[tuple[Cost, Cost]]) -> str:
    here, served = (statistics.median(cost.wall_ms for cost in column) for column in zip(*pairs, strict=True))
    more = statistics.median(served.wall_ms - here.wall_ms for here, served in pairs)
    processor = statistics.median(served.processor_ms - here.processor_ms for here, served in pairs)
    return f"| {name} | {here:.2f} | {served:.2f} | {more:.2f} | {processor:.2f} |"
