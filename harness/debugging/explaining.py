"""Explain the answers of a policy of the pi0 family, from recorded queries or at the present moment of a session."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simloop.envs import registry
from simloop.harness.debugging.episodes import PlannedEpisode
from simloop.harness.debugging.moments import recorded_queries
from simloop.harness.errors import SimloopError
from simloop.harness.planning.policy_names import NamedPolicy, parse
from simloop.policies.interface import BatchedPolicy, Policy, PolicySpec
from simloop.results.records.step_records import RecordedQuery, load_steps

if TYPE_CHECKING:
    from simloop.policies.explaining.base import Explainer
    from simloop.policies.explaining.explanation import Explanation

DRAWS = 16


class ExplanationError(SimloopError):
    """Raised for a policy or a query that cannot be explained."""


@dataclass(frozen=True, eq=False)
class ExplainedQuery:
    """A recorded query with its explanation."""

    recorded: RecordedQuery
    explanation: Explanation


def explained_queries(
    episode: PlannedEpisode, queries: Sequence[int], draws: int = DRAWS, prompt: str | None = None
) -> Iterator[ExplainedQuery]:
    """Explain recorded queries of an episode, in their order.

    Args:
      queries: Numbers of queries.
      draws: Chunks from which the spread is computed.
      prompt: Another instruction to try; by default that of another task.

    Raises:
      ExplanationError: If the policy is none of the pi0 family, or its weights are missing.
      StepRecordsError, EpisodeError, StateError: If there are no step records, or no such query, or its images cannot
        be had on this machine.
    """
    records = load_steps(episode.run, episode.spec.id)
    episode.require_queries(queries, len(records.queries))
    explainer = explainer_of(parse(episode.written_policy), draws)
    prompts = other_prompts(episode.spec.suite, episode.spec.task, prompt)
    with contextlib.closing(episode.make_env()) as env:
        asked = recorded_queries(episode, records, env)
        for recorded, query in zip(records.queries[: max(queries) + 1], asked, strict=False):
            if recorded.query in queries:
                yield ExplainedQuery(recorded, explainer.explain(query, prompts))


def explainer_of(policy: NamedPolicy | Policy | BatchedPolicy, draws: int) -> Explainer:
    """Return the explainer of a policy; a named one is loaded.

    Raises:
      ExplanationError: If it is none of the pi0 family, or keeps no weights.
    """
    if draws < 2:
        raise ExplanationError(f"A spread needs 2 draws at least; got {draws}.")
    if isinstance(policy, NamedPolicy):
        if policy.source is not None or not policy.is_preset:
            raise _unexplainable(policy.spec())
        policy.require_weights()
        policy = policy.load(keep_model=True)
    if policy.spec.runs_in == "actor":
        raise _unexplainable(policy.spec)
    from simloop.policies.explaining.explainer import explainer  # Imports JAX.
    from simloop.policies.inference.model_policy import ModelPolicy

    if not isinstance(policy, ModelPolicy):
        raise _unexplainable(policy.spec)
    return explainer(policy, draws)


def other_prompts(suite: str, task: str, prompt: str | None = None) -> Mapping[str, str]:
    """The instruction to try in place of a task's: the given one, or that of the next task of the suite."""
    if prompt is not None:
        return {f"prompt {prompt!r}": prompt}
    tasks = registry.suite(suite).tasks()
    own = next((i for i, spec in enumerate(tasks) if spec.name == task), 0)
    others = [
        spec for spec in (*tasks[own + 1 :], *tasks[:own]) if spec.instruction != tasks[own].instruction
    ]
    return {f"prompt of {others[0].name}": others[0].instruction} if others else {}


def _unexplainable(spec: PolicySpec) -> ExplanationError:
    return ExplanationError(
        f"{spec.name} cannot be explained: attention, noise and token probabilities are read from the models of pi0, "
        f"pi0.5 and pi0-FAST that simloop itself loads, and {spec.name} answers by other code. What its chunks do to "
        "the episode shows in simloop view, and what other inputs would change in simloop fork --prompt, --perturb, "
        "--move."
    )
