"""Early stopping of a run that compares two policies."""

from __future__ import annotations

from collections.abc import Mapping

from simloop.harness.planning.plan import Plan
from simloop.results.records.records import EpisodeKey, EpisodeRecord, Outcome
from simloop.results.statistics.early_stopping import outcomes_in_order
from simloop.results.statistics.sequential import StoppingRule


class EarlyStop:
    """Decide after each episode whether a run may stop, from the ledger alone and in the order of the plan."""

    def __init__(self, rule: StoppingRule, plan: Plan, policies: tuple[str, str]):
        self._rule = rule
        self._pairs = plan.pairs
        self._policies = policies
        self._suite = plan.protocol.suite
        self._protocol = plan.protocol.label

    def answered(self, done: Mapping[EpisodeKey, EpisodeRecord]) -> bool:
        """Whether the rule has decided, so that further episodes would change nothing."""

        def outcome(policy: str, task: str, episode: int) -> Outcome | None:
            record = done.get((policy, self._suite, self._protocol, task, episode))
            return None if record is None else record.outcome

        pairs = outcomes_in_order(self._pairs, *self._policies, outcome)
        return self._rule.decide(pairs.a, pairs.b)[0] in ("differ", "equivalent", "undecided")
