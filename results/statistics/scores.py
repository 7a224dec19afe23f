"""Success counts, rates and intervals of each policy, per task and over tasks.

Rates are over completed episodes. Errors stay in the counts, and `bounds` limits their influence.
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
from simloop.results.statistics.sequential import rate_sequence

MIN_TASKS = 5  # Fewer tasks do not show how much tasks differ.
BOOTSTRAP_SEED = 0  # The same records give the same interval.


@dataclass(frozen=True)
class Score:
    """Outcome counts of one policy on one task."""

    policy: str
    weights: str
    suite: str
    protocol: str
    task: str
    successes: int
    failures: int
    errors: int
    undecodable: int
    """Completed episodes with at least one query whose tokens could not be decoded to actions."""
    missing: int | None = None
    """Planned episodes that have not finished; None if the plan is unknown."""
    invalid_actions: int = 0
    """Failures that ended with an action that was nan or infinite."""
    anytime: bool = False
    """Whether a stopping rule decides the number of episodes, so that intervals must hold at every number."""

    @property
    def completed(self) -> int:
        """Episodes that ended in success or failure."""
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
        """The rate if all errors were failures, and if all were successes; None without episodes."""
        if not self.episodes:
            return None
        return Interval(self.successes / self.episodes, (self.successes + self.errors) / self.episodes)

    @property
    def method(self) -> Literal["Wilson", "confidence sequence"]:
        """Name of the method of `interval`."""
        return "confidence sequence" if self.anytime else "Wilson"

    def interval(self, confidence: float = 0.95) -> Interval | None:
        """Interval of the rate, by `method`; None without completed episodes."""
        if not self.completed:
            return None
        method = rate_sequence if self.anytime else wilson
        return method(self.successes, self.completed, confidence=confidence)


@dataclass(frozen=True)
class MeanScore:
    """Mean success rate of a policy over the tasks of a suite."""

    policy: str
    weights: str
    suite: str
    protocol: str
    tasks: tuple[Score, ...]

    @property
    def lacking(self) -> tuple[str, ...]:
        """Tasks without a completed episode. If there are any, the mean is undefined."""
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
    def invalid_actions(self) -> int:
        """Over all tasks."""
        return sum(score.invalid_actions for score in self.tasks)

    @property
    def anytime(self) -> bool:
        """Whether a stopping rule decides the numbers of episodes."""
        return any(score.anytime for score in self.tasks)

    @property
    def missing(self) -> int | None:
        """Over all tasks; None if the plan is unknown."""
        missing = [score.missing for score in self.tasks if score.missing is not None]
        return sum(missing) if len(missing) == len(self.tasks) else None

    @property
    def rate(self) -> float | None:
        """Mean of the rates of the tasks with equal weights; None if a task lacks completed episodes."""
        rates = [score.rate for score in self.tasks if score.rate is not None]
        return None if self.lacking else sum(rates) / len(rates)

    @property
    def bounds(self) -> Interval | None:
        """The mean if all errors were failures, and if all were successes; None if a task has no episodes."""
        bounds = [score.bounds for score in self.tasks if score.bounds is not None]
        if len(bounds) < len(self.tasks):
            return None
        return Interval(
            sum(bound.low for bound in bounds) / len(bounds),
            sum(bound.high for bound in bounds) / len(bounds),
        )

    @property
    def method(self) -> Literal["pooled Wilson", "MOVER-Wilson", "confidence sequence"]:
        """Name of the method of `interval`."""
        if self.anytime:
            return "confidence sequence"
        return mean_method([score.completed for score in self.tasks])

    def interval(self, confidence: float = 0.95) -> Interval | None:
        """Interval of the mean for these tasks, by `method`; None if a task lacks completed episodes."""
        if self.lacking:
            return None
        successes = [score.successes for score in self.tasks]
        completed = [score.completed for score in self.tasks]
        if self.anytime:
            episodes = len(completed) ** 2 / sum(1 / n for n in completed)  # As in `pooled_wilson`.
            return rate_sequence((self.rate or 0.0) * episodes, episodes, confidence=confidence)
        return suite_mean(successes, completed, confidence=confidence)[1]

    def interval_for_new_tasks(self, confidence: float = 0.95) -> Interval | None:
        """Interval of the mean for new tasks of the same kind, by bootstrap over tasks.

        None if a task lacks completed episodes, there are fewer than `MIN_TASKS` tasks, or a stopping rule decides the
        number of episodes.
        """
        if self.anytime or self.lacking or len(self.tasks) < MIN_TASKS:
            return None
        successes = [score.successes for score in self.tasks]
        completed = [score.completed for score in self.tasks]
        rng = np.random.default_rng(BOOTSTRAP_SEED)
        return task_bootstrap(successes, completed, rng, confidence=confidence)


def score_tasks(episodes: pd.DataFrame, plans: Sequence[PlannedEpisodes] = ()) -> list[Score]:
    """The score of every policy on every task of its suite and protocol.

    Policies without episodes of a task that others have played get a score without episodes, so that all means are
    over the same tasks. Sorted by suite and protocol, then in the order of the plans, then by name.

    Args:
      episodes: As from `simloop.results.records.frames.load`, of one run or several.
      plans: Plans of these runs, as far as they are known.

    Raises:
      ValueError: If the weights of a policy have several labels, such as `trained` and `untrained`.
    """
    scores = []
    for (suite, protocol), group in episodes.groupby(["suite", "protocol"], sort=True):
        here = [plan for plan in plans if plan.suite == suite and plan.protocol in ("", protocol)]
        planned_tasks = list(dict.fromkeys(task for plan in here for task in plan.tasks))
        planned_policies = list(dict.fromkeys(policy for plan in here for policy in plan.policies))
        outcomes = Counter(group.groupby(["policy", "task", "outcome"]).size().to_dict())
        partial = group[(group["outcome"] != "error") & (group["undecodable"] > 0)]
        undecodable = Counter(partial.groupby(["policy", "task"]).size().to_dict())
        invalid = group[group["ended_by"] == "invalid_action"]
        invalid_actions = Counter(invalid.groupby(["policy", "task"]).size().to_dict())
        tasks = _ordered([*group["task"].unique(), *planned_tasks], planned_tasks)
        weights_of = group.groupby("policy")["weights"].unique()
        for policy in _ordered(weights_of.index, planned_policies):
            weights = _only(weights_of[policy], policy)
            for task in tasks:
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
                        invalid_actions=invalid_actions[policy, task],
                        anytime=any(plan.stops_early == "rule" for plan in covering),
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
    """The distinct names: members of `first` in that order, then the others by name."""
    found = set(names)
    return [name for name in first if name in found] + sorted(found - set(first))


def _only(weights: Iterable[str], policy: str) -> str:
    found = sorted(map(str, weights))
    if len(found) > 1:
        raise ValueError(
            f"Wanted one kind of weights of policy {policy!r}; got {' and '.join(found)}. Score their runs separately."
        )
    return found[0]
