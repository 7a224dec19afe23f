"""Replay a recorded episode and compare it with its records, step by step.

With step records, the recorded actions are played from the seed, and from every saved state up to the next query. On
the ledger alone, the policy plays the episode again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from simloop.envs.env_state import StateError
from simloop.envs.interface import Env
from simloop.envs.rendering import renderer_name
from simloop.harness.adapters.adapter_file import AdapterFile
from simloop.harness.debugging.adapter_trial import try_adapter
from simloop.harness.debugging.departures import (
    Departure,
    Finding,
    first_departure,
    how_much,
    state_differs,
)
from simloop.harness.debugging.episodes import EpisodeError, PlannedEpisode, find_episode, short_name
from simloop.harness.debugging.moments import (
    contradictions,
    episode_state,
    recorded_queries,
)
from simloop.harness.debugging.play_again import differences, play
from simloop.harness.planning.policy_names import UnknownPolicyError
from simloop.harness.rollout.latency import Reply
from simloop.harness.rollout.loop import ask_here
from simloop.harness.rollout.loop import play as rollout
from simloop.harness.rollout.loop_state import EpisodeState
from simloop.harness.rollout.step_recorder import StepObserver
from simloop.policies.interface import Chunk
from simloop.results.records.paths import step_records_path
from simloop.results.records.records import read_episodes
from simloop.results.records.step_records import RecordedQuery, StepRecords, StepRecordsError, load_steps


def finished_episodes(run: Path) -> list[str]:
    """Names of the episodes of a run that have an outcome, in the order in which they finished."""
    return [short_name(record.key) for record in read_episodes(run) if record.outcome != "error"]


def replay(
    run: Path, name: str, *, policy: bool = False, tried: AdapterFile | None = None
) -> Iterator[Finding]:
    """Replay an episode of a run as far as its records reach; what cannot be compared is said and the rest goes on.

    Args:
      name: As in `find_episode`.
      policy: Whether to ask the policy every recorded query again.
      tried: With `policy`, another adapter, with which the policy is asked as well.

    Raises:
      LedgerError, ExperimentError, EpisodeError: As `find_episode`.
    """
    episode = find_episode(run, name)
    if not (run / step_records_path(episode.spec.id)).is_file():
        yield replay_ledger(episode)
        return
    try:
        records = load_steps(run, episode.spec.id)
    except StepRecordsError as error:
        yield Finding(None, str(error))
        yield replay_ledger(episode)
        return
    with contextlib.closing(episode.make_env()) as env:
        yield from replay_records(episode, records, env)
        if policy:
            try:
                yield from replay_policy(episode, records, env)
                if tried is not None:
                    yield try_adapter(episode, records, env, tried)
            except (EpisodeError, StateError, UnknownPolicyError) as error:
                yield Finding(None, f"the policy: {error}")


def replay_records(episode: PlannedEpisode, records: StepRecords, env: Env) -> Iterator[Finding]:
    """Play the recorded actions from the seed, then from every saved state, and compare.

    Raises:
      UnknownPolicyError: If the policy does not exist on this machine.
    """
    if differing := contradictions(episode, records):
        yield Finding(
            False,
            f"the step records and the ledger tell of two episodes: they differ in {', '.join(differing)}",
        )
    if not records.queries:
        yield Finding(None, "The records hold no query, so there is nothing to replay.")
        return
    replay = _Replay(episode, records, env)
    yield replay.from_seed()
    yield replay.from_states()


def replay_policy(episode: PlannedEpisode, records: StepRecords, env: Env) -> Iterator[Finding]:
    """Ask the policy every recorded query again, and compare its chunks with the recorded ones.

    Raises:
      UnknownPolicyError: If the policy or its checkpoint does not exist on this machine.
      EpisodeError, StateError: If the images cannot be had, as `recorded_queries`.
    """
    policy = episode.load_policy()
    equal = 0
    for query, asked in zip(records.queries, recorded_queries(episode, records, env), strict=True):
        chunk = ask_here(policy, asked, batch_size=episode.rows(query)).chunk
        if (
            chunk.undecodable == query.undecodable
            and chunk.actions.astype("<f4").tobytes() == query.chunk.tobytes()
        ):
            equal += 1
            continue
        by = how_much(query.chunk, chunk.actions)
        differ = "" if chunk.actions.shape != query.chunk.shape else _first_row(query.chunk, chunk.actions)
        yield Finding(False, f"query {query.query} (step {query.step}): the chunk differs {by}{differ}")
    yield Finding(
        equal == len(records.queries),
        f"the policy: {equal} of {len(records.queries)} chunks equal to the last bit",
    )


def replay_ledger(episode: PlannedEpisode) -> Finding:
    """Play the episode again with its policy, and compare the hashes of actions and final state with the ledger.

    Raises:
      EpisodeError: If the episode has no outcome.
      SuiteNotInstalledError, UnknownPolicyError: If the episode cannot be played on this machine.
    """
    recorded = episode.outcome
    env, policy = episode.make_env(), episode.load_policy()
    try:
        played = play(episode, env, policy)
    finally:
        env.close()
    again = played.record(episode.spec, policy.spec, attempts=1, video="")
    differing = differences(recorded, again)
    if differing:
        return Finding(False, f"the policy, from the seed: {'; '.join(differing)}")
    return Finding(
        True,
        f"the policy, from the seed: {again.steps} steps; actions, final state, reward and outcome equal those of the "
        "ledger",
    )


def _first_row(recorded: np.ndarray, again: np.ndarray) -> str:
    rows = np.flatnonzero((recorded != again).any(axis=1))
    return f", first in action {rows[0]}" if len(rows) else ""


class _Replay:
    """Replays of one episode in one environment."""

    def __init__(self, episode: PlannedEpisode, records: StepRecords, env: Env):
        self._episode, self._records, self._env = episode, records, env
        recorded = records.header.renderer
        self._same_renderer = bool(recorded) and recorded == renderer_name()
        self._images = (
            ""
            if not recorded
            else ", images"
            if self._same_renderer
            else f"; images are not compared, for they were rendered by {recorded}"
        )

    def from_seed(self) -> Finding:
        """Play all recorded chunks from the initial state."""
        queries = self._records.queries
        observer = StepObserver(self._episode.spec, self._records.header.level)
        error = self._play(queries, observer, None)
        replayed = observer.records.queries if observer.records else ()
        departure = first_departure(queries, replayed, images=self._same_renderer)
        return self._finding("from the seed", departure, error, len(self._records.steps), "steps")

    def from_states(self) -> Finding:
        """Play every recorded chunk from the state saved at its query, up to the next query."""
        queries = self._records.queries
        error: Exception | None = None
        for index, query in enumerate(queries):
            observer = StepObserver(self._episode.spec, self._records.header.level, index)
            try:
                start = episode_state(self._records, index)
            except StateError as problem:
                return Finding(None, f"from the saved states: {problem}")
            error = self._play([query], observer, start)
            replayed = observer.records.queries if observer.records else ()
            departure = first_departure([query], replayed, images=self._same_renderer)
            if departure is None and error is None and index + 1 < len(queries):
                following = queries[index + 1]
                if differing := state_differs(following.env_state, self._env.save()):
                    departure = Departure(following.step, tuple(differing), at_query=True)
            if departure is not None or (error is not None and index + 1 < len(queries)):
                departure = departure or Departure(query.step, (("the replay", f"raises {error}"),))
                return self._finding(f"from the state of query {index}", departure, error, 0, "")
        return self._finding("from the saved states", None, error, len(queries), "segments")

    def _play(
        self, queries: Sequence[RecordedQuery], observer: StepObserver, start: EpisodeState | None
    ) -> Exception | None:
        """Answer with the recorded chunks as far as they go; returns what the environment raised."""
        episode = self._episode
        running = rollout(
            self._env,
            episode.spec,
            episode.policy_spec,
            episode.adapter,
            episode.experiment.protocol,
            [observer],
            start=start,
        )
        with contextlib.closing(running):
            try:
                next(running)
                for query in queries:
                    running.send(Reply(Chunk(query.chunk, query.undecodable)))
            except StopIteration:
                return None
            except Exception as error:  # A replay of an episode that broke may break in the same way.
                return error
        return None

    def _finding(
        self, part: str, departure: Departure | None, error: Exception | None, count: int, unit: str
    ) -> Finding:
        if isinstance(error, StateError):
            return Finding(None, f"{part}: {error}")
        if departure is not None:
            return Finding(False, f"{part}: departs at {departure}")
        if error is not None and self._records.header.ended_by:
            return Finding(False, f"{part}: raises {type(error).__name__}: {error}")
        also = ", scenes" if self._records.header.level == "steps" else ""
        broken = f"; then it raises {type(error).__name__}: {error}" if error is not None else ""
        return Finding(
            True,
            f"{part}: {count} {unit} equal to the last bit (actions, rewards, states{also}{self._images}){broken}",
        )
