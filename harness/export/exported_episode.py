"""A recorded episode with everything that other programs show of it, moment by moment.

Images and camera matrices are not part of step records: they come from the simulator, which plays the recorded steps
again.

Axis letters: h image height, w image width, g grippers, s state size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from simloop.envs.camera_view import CameraView
from simloop.envs.interface import Env
from simloop.envs.scene_types import Scene
from simloop.harness.debugging.episodes import EpisodeError, PlannedEpisode, find_episode
from simloop.harness.debugging.playback import played_back
from simloop.harness.debugging.replay import finished_episodes
from simloop.results.records.records import EpisodeRecord
from simloop.results.records.step_records import RecordedQuery, RecordedStep, StepRecords, load_steps


@dataclass(frozen=True, eq=False)
class Moment:
    """What is there after a control step, or before the first."""

    steps: int
    """Control steps executed before."""
    time_s: float
    """Since the beginning of the episode: `steps` times the period of control."""
    query: RecordedQuery
    """The query whose chunk led here; the first at the beginning of the episode."""
    step: RecordedStep | None
    """The step that led here; None at the beginning of the episode."""
    images: dict[str, UInt8[np.ndarray, "h w 3"]]
    """By camera of the suite."""
    views: dict[str, CameraView]
    """Where these cameras are; without those of which the suite does not tell."""
    state: Float32[np.ndarray, "s"]
    """As `StepHeader.state_names` describes it."""
    scene: Scene | None
    """Things, contacts and grippers; None where the suite does not tell."""


class ExportedEpisode:
    """A recorded episode of a run.

    Args:
      run: Run folder.
      name: `POLICY/TASK/NUMBER`.
      cameras: Cameras of the suite; by default those of the policy or, if it has none, the first two.

    Raises:
      EpisodeError, StepRecordsError: If there are no such episode and step records.
    """

    def __init__(self, run: Path, name: str, cameras: tuple[str, ...] = ()):
        self.planned: PlannedEpisode = find_episode(run, name)
        self.records: StepRecords = load_steps(run, self.planned.spec.id)
        self._asked = cameras

    @property
    def name(self) -> str:
        """`POLICY/TASK/NUMBER`."""
        return self.planned.name

    @property
    def outcome(self) -> EpisodeRecord:
        """Its row of the ledger."""
        return self.planned.outcome

    @property
    def instruction(self) -> str:
        """What the policy was told in its first query."""
        return self.records.queries[0].instruction

    @property
    def metadata(self) -> dict[str, str | int | float | bool]:
        """What the ledger says of it, as plain values."""
        record = self.outcome
        return {
            "policy": record.policy,
            "suite": record.suite,
            "protocol": record.protocol,
            "task": record.task,
            "episode": record.episode,
            "seed": record.seed,
            "outcome": record.outcome,
            "success": record.outcome == "success",
            "ended_by": record.ended_by,
            "steps": record.steps,
            "queries": record.queries,
            "reward": record.reward,
            "instruction": self.instruction,
        }

    def moments(self) -> Iterator[Moment]:
        """Play the recorded steps again.

        Raises:
          EpisodeError, StateError: If the simulator is not that of the run, or cannot use its saved states.
        """
        hz = self.records.header.control_hz
        with contextlib.closing(self.planned.make_env()) as env:
            cameras = self._cameras(env)
            for count, (query, step) in enumerate(played_back(self.planned, self.records, env)):
                scenes = env.scenes([env.snapshot()])
                views = {camera: view for camera in cameras if (view := env.view(camera)) is not None}
                yield Moment(
                    steps=count,
                    time_s=count / hz,
                    query=query,
                    step=step,
                    images={camera: env.render(camera) for camera in cameras},
                    views=views,
                    state=env.state(),
                    scene=scenes[0] if scenes else None,
                )

    def _cameras(self, env: Env) -> tuple[str, ...]:
        adapter = self.planned.adapter
        of_policy = tuple(adapter.cameras[camera] for camera in self.records.header.cameras)
        return self._asked or tuple(dict.fromkeys(of_policy)) or env.spec.cameras[:2]


def exported_episodes(
    run: Path, names: tuple[str, ...], cameras: tuple[str, ...]
) -> Iterator[ExportedEpisode]:
    """The named episodes of a run; without names, every finished one.

    Raises:
      EpisodeError: If there is none.
    """
    chosen = names or tuple(finished_episodes(run))
    if not chosen:
        raise EpisodeError(f"No episode of {run} has finished, so there is nothing to export.")
    for name in chosen:
        yield ExportedEpisode(run, name, cameras)
