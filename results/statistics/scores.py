"""How often each policy succeeded: counts, rates and how sure they are, per task and over tasks.

An episode that ended in an error says nothing about the policy, so rates are of completed
episodes; but errors stay in the counts, and `bounds` says what they could have changed at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from simloop.results.records.planned import PlannedEpisodes
from simloop.results.statistics.intervals import Interval, mean_method, suite_mean, task_bootstrap, wilson

MIN_TASKS = 5  # Fewer say next to nothing of how tasks differ.
BOOTSTRAP_SEED = 0  # The same records give the same interval.


@dataclass(frozen=True)
class Score:
    """What the episodes of one policy on one task came to."""

    policy: str
    weights: str
    suite: str
    protocol: str
    task: str
    successes: int
    failures: int
    errors: int
    undecodable: int
    """Completed episodes in which tokens of at least one query spelled no action chunk."""
    missing: int | None = None
    """Planned episodes that have not finished; None where the plan is not known."""

    @property
    def completed(self) -> int:
        """Episodes with an outcome that is the policy's own."""
        return self.successes + self.failures

    @property
    def episodes(self) -> int:
        """Finished episodes, errors included."""
        return self.completed + self.errors

    @property
    def rate(self) -> float | None:
        """Successes among completed episodes; None if there are none."""
        return self.successes / self.completed if self.completed else None

    @property
    def bounds(self) -> Interval | None:
        """The rate if every error were a failure, and if every error were a success."""
        if not self.episodes:
            return None
        return Interval(self.successes / self.episodes, (self.successes + self.errors) / self.episodes)

    @property
    def method(self) -> Literal["Wilson"]:
        """Which interval `interval` is."""
        return "Wilson"

    def interval(self, confidence: float = 0.95) -> Interval | None:
        """Wilson interval of the rate; None if there are no completed episodes."""
        return wilson(self.successes, self.completed, confidence=confidence) if self.completed else None


@dataclass(frozen=True)
class MeanScore:
    """The mean of a policy's rates over the tasks of a suite: for these tasks, not for others."""

    policy: str
    weights: str
    suite: str
    protocol: str
    tasks: tuple[Score, ...]

    @property
    def lacking(self) -> tuple[str, ...]:
        """Tasks without a completed episode. While there are any, there is no mean."""
        return tuple(score.task for score in self.tasks if not score.completed)

    @property
    def successes(self) -> int:
        """Over all tasks."""
        return sum(score.successes for score in self.tasks)

    @property
    def failures(self) -> int:
        """Over all tasks."""
        return sum(score.failures for score in self.tasks)

    @property
    def completed(self) -> int:
        """Over all tasks."""
        return sum(score.completed for score in self.tasks)

    @property
    def errors(self) -> int:
        """Over all tasks."""
        return sum(score.errors for score in self.tasks)

    @property
    def episodes(self) -> int:
        """Over all tasks; errors included."""
        return self.completed + self.errors

    @property
    def undecodable(self) -> int:
        """Over all tasks."""
        return sum(score.undecodable for score in self.tasks)

    @property
    def missing(self) -> int | None:
        """Over all tasks; None where the plan is not known."""
        missing = [score.missing for score in self.tasks if score.missing is not None]
        return sum(missing) if len(missing) == len(self.tasks) else None

    @property
    def rate(self) -> float | None:
        """Every task weighs the same, however many of its episodes were completed."""
        rates = [score.rate for score in self.tasks if score.rate is not None]
        return None if self.lacking else sum(rates) / len(rates)

    @property
    def bounds(self) -> Interval | None:
        """The mean if every error were a failure, and if every error were a success."""
        bounds = [score.bounds for score in self.tasks if score.bounds is not None]
        if len(bounds) < len(self.tasks):
            return None
        return Interval(
            sum(bound.low for bound in bounds) / len(bounds),
            sum(bound.high for bound in bounds) / len(bounds),
        )

    @property
    def method(self) -> Literal["pooled Wilson", "MOVER-Wilson"]:
        """Which interval fits: the pooled one while tasks have nearly equally many episodes."""
        return mean_method([score.completed for score in self.tasks])

    def interval(self, confidence: float = 0.95) -> Interval | None:
        """Interval of the mean by `method`; None while a task lacks completed episodes."""
        if self.lacking:
            return None
        successes = [score.successes for score in self.tasks]
        completed = [score.completed for score in self.tasks]
        return suite_mean(successes, completed, confidence=confidence)[1]

    def interval_for_new_tasks(self, confidence: float = 0.95) -> Interval | None:
        """What to expect of other tasks like these, by bootstrap over tasks; None while there is no mean.

        Another question than that of `interval`; None as well under `MIN_TASKS` tasks, which cannot tell.
        """
        if self.lacking or len(self.tasks) < MIN_TASKS:
            return None
        successes = [score.successes for score in self.tasks]
        completed = [score.completed for score in self.tasks]
        rng = np.random.default_rng(BOOTSTRAP_SEED)
        return task_bootstrap(successes, completed, rng, confidence=confidence)


def score_tasks(episodes: pd.DataFrame, plans: Sequence[PlannedEpisodes] = ()) -> list[Score]:
    """The score of every policy on every task of its suite and protocol.

    A task that only some policies have played so far gives the others a score of no episodes, so
    that nobody's mean is over fewer tasks. Ordered by suite and protocol, then as planned, else by name.

    Args:
      episodes: As from `simloop.results.records.records.load`, perhaps of several runs.
      plans: Of these runs, as far as they are known.

    Raises:
      ValueError: If a policy's weights are called both trained and untrained.
    """
    scores = []
    for (suite, protocol), group in episodes.groupby(["suite", "protocol"], sort=True):
        here = [plan for plan in plans if plan.suite == suite and plan.protocol in ("", protocol)]
        planned_tasks = list(dict.fromkeys(task for plan in here for task in plan.tasks))
        planned_policies = list(dict.fromkeys(policy for plan in here for policy in plan.policies))
        outcomes = Counter(zip(group["policy"], group["task"], group["outcome"], strict=True))
        garbled = group[(group["outcome"] != "error") & (group["undecodable"] > 0)]
        undecodable = Counter(zip(garbled["policy"], garbled["task"], strict=True))
        for policy in _ordered(group["policy"], planned_policies):
            weights = _weights(group, policy)
            for task in _ordered([*group["task"], *planned_tasks], planned_tasks):
                success, failure, error = (
                    outcomes[policy, task, outcome] for outcome in ("success", "failure", "error")
                )
                covering = [plan for plan in here if plan.covers(policy, str(suite), str(protocol), task)]
                known = bool(covering) and not any(plan.stops_early for plan in covering)
                wanted = sum(plan.episodes for plan in covering)
                scores.append(
                    Score(
                        policy=policy,
                        weights=weights,
                        suite=str(suite),
                        protocol=str(protocol),
                        task=task,
                        successes=success,
                        failures=failure,
                        errors=error,
                        undecodable=undecodable[policy, task],
                        missing=max(0, wanted - success - failure - error) if known else None,
                    )
                )
    return scores


def score_means(scores: Sequence[Score]) -> list[MeanScore]:
    """The mean of every policy over the tasks of each suite and protocol, in the order of the scores."""
    groups: dict[tuple[str, str, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.suite, score.protocol, score.policy), []).append(score)
    return [
        MeanScore(policy, group[0].weights, suite, protocol, tuple(group))
        for (suite, protocol, policy), group in groups.items()
    ]


def _ordered(names: Iterable[str], first: Sequence[str]) -> list[str]:
    """The distinct names: those of `first` in that order, then the others by name."""
    found = set(names)
    return [name for name in first if name in found] + sorted(found - set(first))


def _weights(group: pd.DataFrame, policy: str) -> str:
    found = sorted(set(group.loc[group["policy"] == policy, "weights"]))
    if len(found) > 1:
        raise ValueError(
            f"Policy {policy!r} has weights that are called {' and '.join(found)}: these episodes are of "
            "several policies. Score their runs apart."
        )
    return found[0]
