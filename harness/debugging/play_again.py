"""Play one episode of a run again, in this process and without Ray."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simloop.envs.interface import Env, TaskSpec
from simloop.envs.rendering import renderer_name
from simloop.harness.adapters.registry import filmed_cameras
from simloop.harness.debugging.episodes import EpisodeError, PlannedEpisode
from simloop.harness.recording.provenance import Provenance
from simloop.harness.recording.run_folder import RunFolder
from simloop.harness.rollout.loop import run_episode
from simloop.harness.rollout.observers import Observer, Recorder
from simloop.harness.rollout.result import RolloutResult
from simloop.harness.rollout.step_recorder import StepRecorder
from simloop.harness.rollout.video import VideoRecorder, size_problem
from simloop.policies.interface import BatchedPolicy
from simloop.results.records.paths import attached_files, file_name, video_path
from simloop.results.records.records import EpisodeRecord
from simloop.results.records.step_records import Level

COMPARED = ("ended_by", "steps", "queries", "undecodable", "reward", "actions_sha256", "final_state_sha256")
"""Fields of the ledger in which two plays of an episode agree."""


@dataclass(frozen=True)
class PlayedAgain:
    """An episode that was played again."""

    folder: Path
    """Run folder that holds it."""
    record: EpisodeRecord
    differing: tuple[str, ...] | None
    """Fields in which it differs from the original, in words; None if the original has no outcome."""


def play_again(
    episode: PlannedEpisode,
    out: Path | None = None,
    *,
    video_every: int | None = 1,
    video_size: int | None = None,
    record: Level | None = "steps",
    record_images: bool = False,
) -> PlayedAgain:
    """Play an episode of a run into a run folder of its own, which all commands read.

    Args:
      out: New run folder; by default one beside the run that does not exist yet.
      video_every: Control steps between two frames of the video; None for no video.
      video_size: Pixels to which its images are scaled; None to leave them as they are rendered.
      record: Step records to write; None for none.
      record_images: Whether they store the images of the queries.

    Raises:
      EpisodeError: If `out` exists, or `video_every` is no number of steps.
      UnknownPolicyError, SuiteNotInstalledError: If the episode cannot be played on this machine.
    """
    if video_every is not None and video_every < 1:
        raise EpisodeError(f"--video-every must be at least 1; got {video_every}.")
    if problem := size_problem(video_size):
        raise EpisodeError(problem)
    folder = out or _new_folder(episode)
    if folder.exists():
        raise EpisodeError(f"{folder} exists already. Choose another --out folder.")
    env, policy = episode.make_env(), episode.load_policy()
    recorders = _recorders(episode, env.spec, video_every, video_size)
    if record is not None:
        recorders.append(StepRecorder(episode.spec, record, images=record_images))
    try:
        played = play(episode, env, policy, recorders)
    finally:
        env.close()
    video = video_path(episode.spec.policy, episode.spec.task, episode.spec.episode, played.ended_by)
    row = played.record(episode.spec, policy.spec, attempts=1, video=video if video_every else "")
    attachments = {name: file for recorder in recorders for name, file in recorder.attachments.items()}
    experiment, plan = episode.experiment, episode.plan
    with RunFolder(folder, experiment, plan) as run:
        drawn = renderer_name() if played.renders else "none"
        sizes = (episode.batch_size,)
        provenance = Provenance(
            folder, experiment.suite, plan.sha256, experiment.protocol.sha256, drawn, sizes
        )
        provenance.add_policy(
            policy.spec.name, device=policy.device(), fingerprint=policy.identity(), batch_sizes=sizes
        )
        run.append(row, played.queries, attached_files(row, attachments))
        provenance.finish("complete")
    return PlayedAgain(folder, row, differences(episode.record, row))


def play(
    episode: PlannedEpisode, env: Env, policy: BatchedPolicy, observers: Sequence[Observer] = ()
) -> RolloutResult:
    """Play an episode of a run with its policy, answered in batches of the run's size."""
    return run_episode(
        env,
        episode.spec,
        policy,
        episode.adapter,
        episode.experiment.protocol,
        observers,
        batch_size=episode.batch_size,
    )


def differences(recorded: EpisodeRecord | None, again: EpisodeRecord) -> tuple[str, ...] | None:
    """Fields in which a second play of an episode differs from its record; None if there is nothing to compare."""
    if recorded is None or recorded.outcome == "error":
        return None
    return tuple(
        f"{name.replace('_', ' ')} {getattr(recorded, name)} -> {getattr(again, name)}"
        for name in COMPARED
        if getattr(recorded, name) != getattr(again, name)
    )


def _recorders(
    episode: PlannedEpisode, task: TaskSpec, video_every: int | None, video_size: int | None
) -> list[Recorder]:
    if video_every is None:
        return []
    cameras = filmed_cameras([episode.policy_spec], [task])
    limit = episode.experiment.protocol.max_steps or task.max_steps
    return [VideoRecorder(episode.spec, cameras, video_every, task.control_hz, limit, video_size)]


def _new_folder(episode: PlannedEpisode) -> Path:
    """Name of a folder beside the run that does not exist."""
    run = episode.run.resolve()
    name = f"{run.name}-{file_name(episode.name.replace('/', '-'))}"
    numbered = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(folder for folder in map(run.with_name, numbered) if not folder.exists())
