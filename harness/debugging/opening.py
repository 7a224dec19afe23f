"""Open episodes of runs at their queries: from step records or, without them, by playing the episode again."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

from simloop.envs.env_state import StateError
from simloop.harness.adapters.adapter_file import AdapterFile, adapter_file_in_use, set_adapter_file
from simloop.harness.debugging.episodes import EpisodeError, PlannedEpisode
from simloop.harness.debugging.lazy_policy import LazyPolicy
from simloop.harness.debugging.moments import saved_moments
from simloop.harness.debugging.session import Session
from simloop.harness.planning.code_of_runs import vouch_for, vouched
from simloop.harness.rollout.loop_state import EpisodeState
from simloop.results.records.step_records import StepRecordsError

Say = Callable[[str], None]
"""Prints a sentence."""


def open_episode(
    episode: PlannedEpisode,
    query: int = 0,
    policy: str | None = None,
    adapter: AdapterFile | None = None,
    say: Say = print,
) -> Session:
    """Open an episode before one of its queries, with the noise and batch size of the run.

    Args:
      policy: Another policy, which continues from there.
      adapter: Another adapter, with which it continues.

    Raises:
      EpisodeError, SessionError: If the episode does not have the query.
      UnknownPolicyError, SuiteNotInstalledError: If it cannot be played on this machine.
    """
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(_at_beginning(episode))
        if query and (saved := _saved(episode, [query], say)):
            session.restore(saved[query])
        else:
            session.run_until_query(query)
        if policy is not None or adapter is not None:
            return session.fork(policy=policy, adapter=adapter)
        stack.pop_all()
        return session


def moments(episode: PlannedEpisode, queries: Sequence[int], say: Say = print) -> dict[int, EpisodeState]:
    """Moments of a finished episode before the given queries.

    Raises:
      EpisodeError: If the episode does not have one of the queries, or has no step records and differs from the
        ledger when it is played again.
      UnknownPolicyError, SuiteNotInstalledError: If it cannot be played on this machine.
    """
    episode.require_queries(queries, episode.outcome.queries)
    if saved := _saved(episode, queries, say):
        return saved
    # In a process of its own, because Ray forks this one, which JAX does not allow once it runs.
    spawn, in_use = multiprocessing.get_context("spawn"), (adapter_file_in_use(), vouched())
    with ProcessPoolExecutor(1, spawn, initializer=_use, initargs=in_use) as pool:
        return pool.submit(played_moments, episode, queries).result()


def _use(adapter: AdapterFile | None, code: tuple[str, ...]) -> None:
    set_adapter_file(adapter)
    vouch_for(code)


def played_moments(episode: PlannedEpisode, queries: Sequence[int]) -> dict[int, EpisodeState]:
    """Play a finished episode again in this process, and save it before the queries.

    Raises:
      EpisodeError: If its actions or its final state differ from those of the ledger.
    """
    found: dict[int, EpisodeState] = {}
    with _at_beginning(episode) as session:
        for query in sorted(set(queries)):
            found[query] = session.run_until_query(query).snapshot()
        played = session.run_until("end").result
    assert played is not None
    record = episode.outcome
    if (played.actions_sha256, played.final_state_sha256) != (
        record.actions_sha256,
        record.final_state_sha256,
    ):
        raise EpisodeError(
            f"{episode.name} of {episode.run} took {record.steps} steps (ended by {record.ended_by}); played again "
            f"it takes {played.steps} (ended by {played.ended_by}) with other actions or states, so its moments are "
            "not known. simloop replay shows where they part; use the machine and versions of the run."
        )
    return found


def _at_beginning(episode: PlannedEpisode) -> Session:
    policy = LazyPolicy(episode.written_policy, episode.batch_size, episode.policy_spec)
    return Session.of(episode.spec, episode.experiment.protocol, policy, episode.adapter)


def _saved(episode: PlannedEpisode, queries: Sequence[int], say: Say) -> dict[int, EpisodeState]:
    """Moments from step records; nothing, with a sentence, if they cannot be used."""
    try:
        return saved_moments(episode, queries)
    except (StepRecordsError, StateError) as problem:
        say(f"{problem} The episode is played again to reach query {max(queries)}.")
        return {}
