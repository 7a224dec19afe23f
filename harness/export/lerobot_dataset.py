"""A LeRobotDataset of recorded episodes: what was there before every step, and the action that was executed."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from simloop.harness.errors import SimloopError
from simloop.harness.export.exported_episode import ExportedEpisode
from simloop.policies.files.video import VideoEncoder
from simloop.policies.training.dataset_writer import DatasetHeader, write_dataset
from simloop.policies.training.demonstration import IMAGE_STATS_EVERY, Demonstration, image_stats


class RateError(SimloopError):
    """Episodes whose rate a dataset cannot have."""


def write_lerobot(episodes: Iterable[ExportedEpisode], out: Path) -> list[Path]:
    """Write episodes as a LeRobotDataset of version 3, with success and policy as metadata of each.

    Raises:
      RateError: If the control rate is no whole number of steps per second.
      DatasetError: If `out` exists, or episodes differ in their entries or cameras.
    """
    pending = iter(episodes)
    first = next(pending)
    recorded = _demonstration(first)
    header = first.records.header
    if header.control_hz != round(header.control_hz):
        raise RateError(
            f"{first.name} has {header.control_hz:g} steps per second; a LeRobotDataset has a whole number of frames "
            "per second. Export to parquet, rerun or mcap."
        )
    render = first.planned.experiment.protocol.render
    layout = DatasetHeader(
        robot=header.suite,
        fps=round(header.control_hz),
        state_names=header.state_names,
        action_names=header.action_names,
        cameras=tuple(recorded.videos),
        image_hw=(render.height // 2 * 2, render.width // 2 * 2),
        notes={"exported_from": {"run": first.planned.run.name, "source": header.source}},
    )
    write_dataset(out, layout, chain([recorded], map(_demonstration, pending)))
    return [out]


def _demonstration(episode: ExportedEpisode) -> Demonstration:
    """The frames of an episode; what is there after its last step has no action, and is left out."""
    states, actions = [], []
    sampled: dict[str, list[np.ndarray]] = {}
    videos: dict[str, VideoEncoder] = {}
    hz = round(episode.records.header.control_hz)
    for before, after in pairwise(episode.moments()):
        assert after.step is not None
        states.append(before.state)
        actions.append(after.step.executed)
        for camera, image in before.images.items():
            videos.setdefault(camera, VideoEncoder(hz)).add(image)
            if before.steps % IMAGE_STATS_EVERY == 0:
                sampled.setdefault(camera, []).append(image)
    record = episode.outcome
    return Demonstration(
        suite=record.suite,
        task=record.task,
        episode=record.episode,
        seed=record.seed,
        instruction=episode.instruction,
        success=record.outcome == "success",
        states=np.array(states),
        actions=np.array(actions),
        environment_states=np.zeros((len(states), 0), np.float32),
        videos={camera: encoder.finish() for camera, encoder in videos.items()},
        image_stats={camera: image_stats(images) for camera, images in sampled.items()},
        labels={
            name: episode.metadata[name] for name in ("policy", "protocol", "episode", "outcome", "ended_by")
        },
    )
