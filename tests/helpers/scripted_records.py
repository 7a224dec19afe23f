"""Step records of an episode with one thing, written down as a letter per step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simloop.results.records.records import EpisodeRecord
from simloop.results.records.step_records import RecordedQuery, RecordedStep, StepHeader, StepRecords
from tests.helpers.run_folders import EPISODE

HEIGHT_M = {"L": 0.05, "f": -0.2}
AWAY_M = {"a": 0.6, "A": 0.6}
TOUCHED, HELD = "thLA", "hLA"


def recorded(
    scenes: str,
    dx: Sequence[float] | None = None,
    gripper: Sequence[float] | None = None,
    episode: EpisodeRecord = EPISODE,
    steps_per_query: int = 2,
) -> StepRecords:
    """Step records of an episode.

    Args:
      scenes: Per step: `.` nothing, `t` touched, `h` held, `L` held and lifted, `A` held and carried away, `f` fallen,
        `a` pushed away, and a space for a step without a scene.
      dx: Motion of the hand per step, within [-1, 1].
      gripper: Command of the gripper per step, within [-1, 1].
    """
    zero = [0.0] * len(scenes)
    steps = [
        _step(i, letter, np.array([x, g], np.float32))
        for i, (letter, x, g) in enumerate(zip(scenes, dx or zero, gripper or zero, strict=True))
    ]
    queries = tuple(
        _query(i, first, tuple(steps[first : first + steps_per_query]))
        for i, first in enumerate(range(0, len(steps), steps_per_query))
    )
    header = StepHeader(
        level="steps", policy=episode.policy, suite=episode.suite, protocol=episode.protocol, task=episode.task,
        episode=episode.episode, seed=episode.seed, source="metaworld 3.1.1", renderer="", control_hz=80.0, cameras=(),
        state_names=(), action_names=("dx", "gripper"), ended_by=episode.ended_by,
    )  # fmt: skip
    return StepRecords(header, queries)


def _step(number: int, letter: str, action: np.ndarray) -> RecordedStep:
    step = RecordedStep(number, action, action, 0, 0, 0.0, False, "ab" * 32)
    if letter == " ":
        return step
    cup = np.array([AWAY_M.get(letter, 0.0), 0, HEIGHT_M.get(letter, 0.0), 1, 0, 0, 0], np.float64)
    contacts = (("finger", "cup", 1.0),) if letter in TOUCHED else (("finger", "table", 1.0),)
    scene = {"poses": {"cup": cup}, "contacts": contacts, "held": ("cup",) if letter in HELD else ()}
    return RecordedStep(**{**vars(step), **scene})


def _query(number: int, first_step: int, steps: tuple[RecordedStep, ...]) -> RecordedQuery:
    bound = np.ones(2)
    return RecordedQuery(
        query=number, step=first_step, key=0, instruction="lift the cup", state=np.zeros(1, np.float32),
        privileged=None, action_low=-bound, action_high=bound, images_sha256=(), chunk=np.zeros((2, 2), np.float32),
        undecodable=None, latency=None, env_state=b"", steps=steps,
    )  # fmt: skip
