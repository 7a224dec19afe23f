"""Play the recorded steps of an episode again, from the state saved at every query."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from simloop.envs.env_state import EnvState
from simloop.envs.interface import Env
from simloop.harness.debugging.episodes import EpisodeError, PlannedEpisode
from simloop.results.records.step_records import RecordedQuery, RecordedStep, StepRecords


def restore(episode: PlannedEpisode, query: RecordedQuery, env: Env) -> None:
    """Put an environment of the episode's task at a query.

    Raises:
      StateError: If this machine cannot use the saved state.
    """
    state = EnvState.from_bytes(query.env_state)
    episode.require_usable(state)
    env.restore(state)


def played_back(
    episode: PlannedEpisode, records: StepRecords, env: Env
) -> Iterator[tuple[RecordedQuery, RecordedStep | None]]:
    """Put an environment at every moment of an episode, one after the other.

    Yields the query whose chunk led to the moment, and the step, or None at the beginning of the episode.

    Raises:
      EpisodeError: If a step leads to another state than the recorded one.
      StateError: If this machine cannot use the saved states.
    """
    for query in records.queries:
        restore(episode, query, env)
        if query is records.queries[0]:
            yield query, None
        for step in query.steps:
            env.step(step.executed)
            again = hashlib.sha256(env.snapshot().astype("<f8", copy=False).tobytes()).hexdigest()
            if again != step.state_sha256:
                raise EpisodeError(
                    f"{episode.name}: step {step.step} leads to another state than the recorded one, so the simulator "
                    "is not that of the run. Use the machine and versions of the run; simloop replay shows the rest."
                )
            yield query, step
