"""A scripted arm that picks a thing up and puts it onto another, from what the simulator knows of both.

It proves LIBERO's success detection with actions alone: nothing in the simulation is moved by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simloop.envs.interface import Env

OPEN, CLOSED = -1.0, 1.0
METRES_PER_UNIT = 0.05  # Of the controller's target; the hand follows it with a delay.


@dataclass(frozen=True)
class Grip:
    """Where a thing is held and released, relative to the positions that the simulator reports (m)."""

    held_at: tuple[float, float, float] = (0.0, 0.0, 0.0)
    release_height: float = 0.15
    clearance: float = 0.25


def pick_and_place(env: Env, seed: int, grip: Grip) -> list[np.ndarray]:
    """Play an episode; returns the actions up to the first success, or all that were tried.

    The thing and the place are the first and the last that the task is about.
    """
    env.reset(seed)
    played = []
    for action in _actions(env, grip):
        played.append(action)
        if env.step(action).success:
            return played
        if len(played) == env.spec.max_steps:
            break
    return played


def _actions(env: Env, grip: Grip) -> Iterator[np.ndarray]:
    def thing() -> np.ndarray:
        return env.privileged()[4:7]

    def place() -> np.ndarray:
        return env.privileged()[11:14]

    held_at = np.array(grip.held_at)
    grasp = thing() + held_at
    travel = max(thing()[2], place()[2]) + grip.clearance
    yield from _move(env, lambda: np.array([*grasp[:2], travel]), OPEN)
    yield from _move(env, lambda: grasp, OPEN)
    yield from _hold(CLOSED, 15)
    yield from _move(env, lambda: np.array([*grasp[:2], travel]), CLOSED)
    carried = env.privileged()[:3] - thing()
    yield from _move(env, lambda: np.array([*(place() + carried)[:2], travel]), CLOSED)
    low = place()[2] + grip.release_height
    yield from _move(env, lambda: np.array([*(place() + carried)[:2], low]), CLOSED)
    yield from _hold(OPEN, 20)
    yield from _move(env, lambda: np.array([*env.privileged()[:2], travel]), OPEN)
    yield from _hold(OPEN, 20)


def _move(env: Env, goal, gripper: float, *, near: float = 0.008, patience: int = 60) -> Iterator[np.ndarray]:
    for _ in range(patience):
        error = goal() - env.privileged()[:3]
        if np.linalg.norm(error) < near:
            return
        yield np.array([*np.clip(2.0 * error / METRES_PER_UNIT, -1, 1), 0, 0, 0, gripper])


def _hold(gripper: float, steps: int) -> Iterator[np.ndarray]:
    for _ in range(steps):
        yield np.array([0.0, 0, 0, 0, 0, 0, gripper])
