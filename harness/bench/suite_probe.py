"""What environments of a suite cost in this process, as JSON. Runs under older versions of simloop as well."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable

import numpy as np
import psutil

from simloop.envs import registry
from simloop.envs.interface import Env, RenderSettings

RENDER = RenderSettings("fast", 224, 224)
ACTION_SCALE = {"aloha_sim": 0.2}
"""Fraction of random actions, where whole ones make the physics unstable."""


def start(suite: str, task: str) -> float:
    """Return the processor time of this process, with its children, until the first picture, in seconds."""
    _drawn(suite, task)
    times = psutil.Process().cpu_times()
    return times.user + times.system + times.children_user + times.children_system


def steps(suite: str, task: str, count: int) -> tuple[float, str]:
    """Return the mean processor time of a control step, in ms, and a hash of the states.

    Seeded actions push downwards, so that the robot touches things.
    """
    env = registry.suite(suite).make(task, RENDER)
    env.reset(0)
    low, high = env.spec.action_low, env.spec.action_high
    actions = np.random.default_rng(0).uniform(low, high, (count, env.spec.action_size))
    actions[:, 2] = -np.abs(actions[:, 2])
    actions *= ACTION_SCALE.get(suite, 1.0)
    digest, total = hashlib.sha256(), 0.0
    for action in actions:
        began = time.process_time()
        env.step(action)
        total += time.process_time() - began
        digest.update(env.snapshot().tobytes())
    env.close()
    return 1e3 * total / count, digest.hexdigest()


def memory(suite: str, tasks: list[str]) -> list[float]:
    """Return the unique memory in MiB after each further environment that was reset and drawn once."""
    envs, sizes = [], []
    for task in tasks:
        envs.append(_drawn(suite, task))
        sizes.append(psutil.Process().memory_full_info().uss / 2**20)
    return sizes


def _drawn(suite: str, task: str) -> Env:
    env = registry.suite(suite).make(task, RENDER)
    env.reset(0)
    env.render(env.spec.cameras[0])
    return env


if __name__ == "__main__":
    measure, arguments = json.loads(sys.argv[1])
    measures: dict[str, Callable[..., object]] = {"start": start, "steps": steps, "memory": memory}
    print(json.dumps(measures[measure](*arguments)))
