"""What the pages of episodes show and step records do not hold: images of policies, and trajectories."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from simloop.harness.debugging.episodes import find_episode
from simloop.harness.debugging.moments import recorded_queries, stored_images
from simloop.harness.debugging.trajectories import trajectories
from simloop.results.records.step_records import StepRecords
from simloop.results.records.trajectories import Trajectories, read_trajectories

_drawing = ThreadPoolExecutor(1, "drawing")
"""The thread of all renderers: each works in the thread that made it alone."""


def recorded_images(run: Path, records: StepRecords) -> list[dict[str, np.ndarray]]:
    """Images of every query of an episode by camera; those that are not stored are drawn again from saved states.

    Raises:
      EpisodeError, StateError, SimloopError: If they cannot be read, or this machine renders other pixels.
    """
    if records.header.stores_images:
        return list(stored_images(run, records))
    return _drawing.submit(_draw, run, records).result()


def recorded_trajectories(run: Path, records: StepRecords) -> Trajectories:
    """Trajectories of an episode; those that do not lie beside its step records are computed.

    Raises:
      EpisodeError, StateError, SimloopError, TrajectoriesError: If they cannot be read or computed.
    """
    return read_trajectories(run, records) or _drawing.submit(_compute, run, records).result()


def _compute(run: Path, records: StepRecords) -> Trajectories:
    episode = find_episode(run, "/".join(map(str, records.header.key)))
    with contextlib.closing(episode.make_env()) as env:
        return trajectories(episode, records, env)


def _draw(run: Path, records: StepRecords) -> list[dict[str, np.ndarray]]:
    episode = find_episode(run, "/".join(map(str, records.header.key)))
    with contextlib.closing(episode.make_env()) as env:
        return [dict(query.images) for query in recorded_queries(episode, records, env)]
