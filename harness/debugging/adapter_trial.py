"""What another adapter would change in a recorded episode: inputs and answers of the policy, and executed actions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from simloop.envs.interface import Env
from simloop.harness.adapters.adapter_file import AdapterFile
from simloop.harness.adapters.registry import checked_adapter
from simloop.harness.debugging.departures import Finding
from simloop.harness.debugging.episodes import PlannedEpisode
from simloop.harness.debugging.moments import queries_again, recorded_queries
from simloop.harness.rollout.loop import ask_here
from simloop.policies.interface import Query
from simloop.results.records.step_records import StepRecords


def try_adapter(episode: PlannedEpisode, records: StepRecords, env: Env, tried: AdapterFile) -> Finding:
    """Ask the policy at every saved state with another adapter, and compare with the record.

    Inputs and answers are compared at the recorded states, and executed actions for the recorded answers, so that each
    difference comes from the adapter.

    Raises:
      AdapterError: If the adapter does not fit the policy.
      UnknownPolicyError, EpisodeError, StateError: As `simloop.harness.debugging.replay.replay_policy`.
    """
    adapter = checked_adapter(episode.policy_spec, [env.spec], tried)
    policy, own = episode.load_policy(), episode.adapter
    before = list(recorded_queries(episode, records, env))
    found: defaultdict[str, list[float]] = defaultdict(list)
    for recorded, shown, asked in zip(
        records.queries, before, queries_again(episode, records, env, adapter), strict=True
    ):
        chunk = ask_here(policy, asked, batch_size=episode.rows(recorded)).chunk
        pairs = dict(_inputs(shown, asked))
        if chunk.undecodable is None and recorded.undecodable is None:
            pairs["the answer of the policy"] = recorded.chunk, chunk.actions
            actions = zip(
                own.actions(env.spec, recorded.chunk).T,
                adapter.actions(env.spec, recorded.chunk).T,
                strict=True,
            )
            pairs |= {
                f"the executed {name}": pair
                for name, pair in zip(env.spec.action_names, actions, strict=True)
            }
        for name, (mine, other) in pairs.items():
            if not np.array_equal(mine, other):
                found[name].append(_distance(mine, other))
    title = f"the policy, with {tried.name}:"
    if not found:
        return Finding(True, f"{title} the same inputs, answers and actions at all {len(before)} queries")
    listed = [f"{name} at {len(by)}{_by(max(by))}" for name, by in found.items()]
    return Finding(False, f"{title} of {len(before)} queries differ {'; '.join(listed)}")


def _distance(mine: np.ndarray, other: np.ndarray) -> float:
    """Largest difference of two arrays; 0 for texts and for arrays of unequal shapes."""
    if mine.shape != other.shape or mine.dtype.kind == "U":
        return 0.0
    return float(np.abs(mine.astype(np.float64) - other).max())


def _by(much: float) -> str:
    return f", by up to {much:.3g}" if much else ""


def _inputs(shown: Query, asked: Query) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    yield (
        f"the instruction ({asked.instruction!r})",
        (np.array(shown.instruction), np.array(asked.instruction)),
    )
    for camera, image in shown.images.items():
        yield f"the image {camera}", (image, asked.images[camera])
    if shown.state.shape != asked.state.shape:
        yield "the state", (shown.state, asked.state)
        return
    for entry, pair in enumerate(zip(shown.state, asked.state, strict=True)):
        yield f"entry {entry} of the state", (np.array(pair[0]), np.array(pair[1]))
