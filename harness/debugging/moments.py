"""Moments, queries and images of recorded episodes, from their step records."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from simloop.envs.env_state import EnvState
from simloop.envs.interface import Env
from simloop.envs.rendering import renderer_name
from simloop.harness.adapters.base import Adapter
from simloop.harness.debugging.episodes import EpisodeError, PlannedEpisode
from simloop.harness.rollout.chunking import ScheduledChunk
from simloop.harness.rollout.latency import Reply, query_record
from simloop.harness.rollout.loop import play
from simloop.harness.rollout.loop_state import EpisodeState, LoopState
from simloop.policies.files.video import VideoError, lossless_frames
from simloop.policies.interface import Chunk, Query
from simloop.results.records.paths import images_path
from simloop.results.records.records import QueryRecord
from simloop.results.records.step_records import RecordedQuery, StepRecords, StepRecordsError, load_steps
from simloop.untrusted import inside


def saved_moments(episode: PlannedEpisode, queries: Iterable[int]) -> dict[int, EpisodeState]:
    """Moments of an episode at queries, from its step records.

    Raises:
      EpisodeError: If the episode does not have one of the queries.
      StepRecordsError, StateError: If there are no step records, or this machine cannot use them.
    """
    execution = episode.spec.execution or episode.experiment.protocol.execution
    if not execution.frozen:
        raise EpisodeError(
            f"{episode.name} was played with execution {execution}, whose chunks under way are not recorded, so it "
            "cannot be continued from a query. Play it from its beginning: simloop play."
        )
    records = load_steps(episode.run, episode.spec.id)
    if differing := contradictions(episode, records):
        raise StepRecordsError(
            f"The step records of {episode.name} and the ledger of {episode.run} differ in {', '.join(differing)}, so "
            "they are of two episodes. Restore them from one copy."
        )
    queries = list(queries)
    episode.require_queries(queries, len(records.queries))
    moments = {query: episode_state(records, query) for query in queries}
    for moment in moments.values():
        episode.require_usable(moment.env)
    return moments


def contradictions(episode: PlannedEpisode, records: StepRecords) -> list[str]:
    """Fields in which step records contradict the ledger's row of the episode."""
    record = episode.record
    if record is None or record.outcome == "error" or not records.steps:
        return []
    of_records = {
        "steps": len(records.steps),
        "actions_sha256": records.actions_sha256,
        "final_state_sha256": records.steps[-1].state_sha256,
    }
    return [name for name, value in of_records.items() if value != getattr(record, name)]


def episode_state(records: StepRecords, index: int) -> EpisodeState:
    """The moment of an episode at query `index`, from which `simloop.harness.rollout.loop.play` continues.

    Raises:
      StateError: If the recorded state is damaged.
    """
    query, earlier = records.queries[index], records.queries[:index]
    steps = [step for before in earlier for step in before.steps]
    size = len(records.header.action_names)
    reward = 0.0
    for step in steps:
        reward += step.reward
    loop = LoopState(
        executed=np.array([step.executed for step in steps], np.float32).reshape(-1, size),
        reward=reward,
        undecodable=sum(before.undecodable is not None for before in earlier),
        queries=tuple(before.latency or _unknown_latency(before) for before in earlier),
        chunk=ScheduledChunk(np.zeros((0, size), np.float32), index - 1, query.step, query.step),
        origins=tuple(
            (step.chunk_index, max(step.step - records.queries[step.chunk_index].step, 0)) for step in steps
        ),
        requested=np.array([step.action for step in steps], np.float32).reshape(-1, size),
    )
    return EpisodeState(EnvState.from_bytes(query.env_state), loop)


def recorded_queries(episode: PlannedEpisode, records: StepRecords, env: Env) -> Iterator[Query]:
    """Queries of an episode as the policy received them, to the last bit.

    Images that are not stored are drawn again from the saved states.

    Args:
      env: An environment of the episode's task.

    Raises:
      EpisodeError: If a stored image cannot be read, or one that is drawn again is another.
      StateError: If this machine cannot use the saved states.
    """
    header = records.header
    if header.stores_images or not header.cameras:
        for query, images in zip(records.queries, stored_images(episode.run, records), strict=True):
            yield _as_recorded(records, query, images)
        return
    for query, again in zip(records.queries, queries_again(episode, records, env), strict=True):
        if tuple(map(_sha256, again.images.values())) != query.images_sha256:
            raise EpisodeError(
                f"The images of query {query.query} are not stored, and {renderer_name()} draws others than the run "
                f"saw, which {header.renderer} drew. Use the machine and versions of the run, or record with "
                "--record-images."
            )
        yield _as_recorded(records, query, dict(again.images))


def queries_again(
    episode: PlannedEpisode, records: StepRecords, env: Env, adapter: Adapter | None = None
) -> Iterator[Query]:
    """Queries that the loop makes of the saved states, with the perturbation of the run.

    Args:
      adapter: Makes the queries; by default that of the run.

    Raises:
      StateError: If this machine cannot use the saved states.
    """
    rules, spec = episode.experiment.protocol, episode.spec
    for index in range(len(records.queries)):
        start = episode_state(records, index)
        with contextlib.closing(
            play(env, spec, episode.policy_spec, adapter or episode.adapter, rules, start=start)
        ) as running:
            yield next(running)


def _as_recorded(records: StepRecords, query: RecordedQuery, images: dict[str, np.ndarray]) -> Query:
    header = records.header
    return Query(
        task=header.task,
        instruction=query.instruction,
        key=query.key,
        state=query.state,
        images=images,
        privileged=query.privileged,
        action_low=query.action_low,
        action_high=query.action_high,
        episode="/".join(map(str, header.key)),
        step=query.step,
    )


def stored_images(run: Path, records: StepRecords) -> Iterator[dict[str, np.ndarray]]:
    """Images of every query by camera of the policy, in order, from the videos beside the records.

    Raises:
      EpisodeError: If a video is missing, damaged, of other images, or behind a link that leaves the run folder.
    """
    header = records.header
    videos = [_frames(inside(run, images_path(header.key, c), error=EpisodeError)) for c in header.cameras]
    for query in records.queries:
        images = dict(zip(header.cameras, (next(video, None) for video in videos), strict=True))
        for (camera, image), sha256 in zip(images.items(), query.images_sha256, strict=True):
            if image is None or _sha256(image) != sha256:
                raise EpisodeError(
                    f"The video of {camera} in {run} does not hold the image of query {query.query}. Restore it from a "
                    "copy, or record the episode again with simloop play --record-images."
                )
        yield {camera: image for camera, image in images.items() if image is not None}


def _frames(path: Path) -> Iterator[np.ndarray]:
    if not path.is_file():
        raise EpisodeError(
            f"{path}, the recorded images, is missing. Restore it from a copy, or record the episode again with "
            "simloop play --record-images."
        )
    try:
        yield from lossless_frames(path)
    except VideoError as error:
        raise EpisodeError(str(error)) from error


def _sha256(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def _unknown_latency(query: RecordedQuery) -> QueryRecord:
    """Latency of a query of an episode that ended in an error: zero in every stage."""
    reply = Reply(Chunk(query.chunk, query.undecodable))
    return query_record(query.query, reply, render_s=0.0, adapt_s=0.0, ask_s=0.0, turn_s=0.0)
