"""Outcomes of several policies by episode, the input of all comparisons.

Axis letters: k episodes (task and number), p policies.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from simloop.results.statistics.paired import Pairs

Pair = tuple[str, int]
"""(task, episode): one episode of either policy."""


@dataclass(frozen=True)
class StoppedRun:
    """A run whose stopping rule decides how many episodes its policies play."""

    policies: frozenset[str]
    rows: Int[np.ndarray, "r"]
    """Rows of the matrix in the order of the plan: up to the decision, or up to the first unfinished pair."""


@dataclass(frozen=True)
class OutcomeMatrix:
    """Outcomes of several policies under one suite and protocol.

    A row is an episode (task, number), sorted; a column is a policy. An entry is nan if the policy did not complete
    the episode.
    """

    suite: str
    protocol: str
    policies: tuple[str, ...]
    tasks: tuple[str, ...]
    task: Int[np.ndarray, "k"]
    """Index into `tasks` of each row."""
    success: Float[np.ndarray, "k p"]
    """1 or 0."""
    seed: Float[np.ndarray, "k p"]
    """Seed of the initial state; nan where the policy has not played the episode."""
    evaluated: int = 0
    """Number of policies that were evaluated here, if more than the matrix holds."""
    stopped: tuple[StoppedRun, ...] = ()

    @property
    def tried(self) -> int:
        """Number of policies that were evaluated here, in the matrix or not."""
        return max(self.evaluated, len(self.policies))

    def column(self, policy: str) -> int:
        """Index of a policy's column.

        Raises:
          ValueError: If the matrix does not hold the policy.
        """
        if policy not in self.policies:
            raise ValueError(
                f"No episodes of policy {policy!r} on {self.suite} under protocol {self.protocol!r}; there are "
                f"episodes of {', '.join(self.policies)}."
            )
        return self.policies.index(policy)

    def counts(self, policy: str) -> tuple[list[int], list[int]]:
        """Numbers of successes and of completed episodes of a policy, by task."""
        success = self.success[:, self.column(policy)]
        done = ~np.isnan(success)
        bins = len(self.tasks)
        successes = np.bincount(self.task[done], success[done], minlength=bins)
        return successes.astype(int).tolist(), np.bincount(self.task[done], minlength=bins).tolist()

    def errors(self, policy: str) -> int:
        """Number of episodes of a policy that ended in an error."""
        column = self.column(policy)
        return int((np.isnan(self.success[:, column]) & ~np.isnan(self.seed[:, column])).sum())

    def with_errors_as(self, outcomes: Mapping[str, float]) -> OutcomeMatrix:
        """The matrix in which the errors of these policies count as an outcome, 1 or 0."""
        success = self.success.copy()
        for policy, outcome in outcomes.items():
            column = self.column(policy)
            success[np.isnan(success[:, column]) & ~np.isnan(self.seed[:, column]), column] = outcome
        return replace(self, success=success)

    def in_order(self, a: str, b: str) -> Int[np.ndarray, "r"] | None:
        """Rows of the pairs of two policies in the order that was fixed in advance; None without a stopping rule.

        A rule of either policy counts, since it decides how many episodes there are to compare. The rows end before
        the first pair that one of the policies has not played.
        """
        run = next((run for run in self.stopped if run.policies & {a, b}), None)
        if run is None:
            return None
        played = ~np.isnan(self.seed[run.rows][:, [self.column(a), self.column(b)]]).any(axis=1)
        rows: Int[np.ndarray, "r"] = run.rows[np.logical_and.accumulate(played)]
        return rows

    def same_seeds(self, a: str, b: str) -> bool:
        """Whether all episodes that both policies played have the same seed of the initial state."""
        both = self.seed[:, [self.column(a), self.column(b)]]
        both = both[~np.isnan(both).any(axis=1)]
        return bool((both[:, 0] == both[:, 1]).all())

    def shared(self, policies: Sequence[str]) -> Bool[np.ndarray, "k"]:
        """Which episodes all these policies completed."""
        columns = [self.column(policy) for policy in policies]
        completed: Bool[np.ndarray, "k"] = ~np.isnan(self.success[:, columns]).any(axis=1)
        return completed

    def pairs(self, a: str, b: str) -> list[Pairs]:
        """Paired outcomes of the episodes that both policies completed, by task."""
        rows = self.shared([a, b])
        code = 2 * self.success[rows, self.column(a)] + self.success[rows, self.column(b)]
        table = np.bincount(
            4 * self.task[rows] + code.astype(np.int64), minlength=4 * len(self.tasks)
        ).reshape(-1, 4)
        return [Pairs(int(both), int(a_), int(b_), int(none)) for none, b_, a_, both in table]

    def of_tasks(self, tasks: Sequence[str]) -> OutcomeMatrix:
        """The matrix restricted to some tasks."""
        kept = [task for task in self.tasks if task in tasks]
        new_index = np.array([kept.index(task) if task in kept else -1 for task in self.tasks], np.int64)
        task = new_index[self.task]
        rows = task >= 0
        new_row = np.cumsum(rows) - 1
        return replace(
            self,
            tasks=tuple(kept),
            task=task[rows],
            success=self.success[rows],
            seed=self.seed[rows],
            stopped=tuple(replace(run, rows=new_row[run.rows[rows[run.rows]]]) for run in self.stopped),
        )


Orders = Mapping[tuple[str, str], Sequence[tuple[frozenset[str], Sequence[Pair]]]]
"""By (suite, protocol): the policies of each run with a stopping rule, and its pairs in order up to its decision."""


def outcome_matrices(
    episodes: pd.DataFrame, policies: Sequence[str] | None = None, orders: Orders | None = None
) -> dict[tuple[str, str], OutcomeMatrix]:
    """Outcome matrices by (suite, protocol), columns in the order of `policies` or by name.

    Of the records of runs, take `simloop.results.statistics.early_stopping.matrices`, which knows their stopping rules.

    Raises:
      ValueError: If an episode is in the frame twice.
    """
    return {
        (str(suite), str(protocol)): _matrix(
            str(suite), str(protocol), group, policies, (orders or {}).get((str(suite), str(protocol)), ())
        )
        for (suite, protocol), group in episodes.groupby(["suite", "protocol"], sort=True)
    }


def _matrix(
    suite: str,
    protocol: str,
    episodes: pd.DataFrame,
    policies: Sequence[str] | None,
    orders: Sequence[tuple[frozenset[str], Sequence[Pair]]],
) -> OutcomeMatrix:
    twice = episodes[episodes.duplicated(["policy", "task", "episode"])]
    if len(twice):
        row = twice.iloc[0]
        raise ValueError(
            f"Episode {row['episode']} of task {row['task']!r} by policy {row['policy']!r} is in the frame "
            "twice. Load the runs with simloop.results.records.runs.load_runs, which refuses duplicates."
        )
    found = set(episodes["policy"].unique())
    order = [policy for policy in policies or sorted(found) if policy in found]
    tasks = sorted(episodes["task"].unique())
    task_codes = pd.Categorical(episodes["task"], categories=tasks).codes.astype(np.int64)
    policy_codes = pd.Categorical(episodes["policy"], categories=order).codes.astype(np.int64)
    chosen = policy_codes >= 0
    number = episodes["episode"].to_numpy(np.int64)
    keys, row_of = np.unique(np.stack([task_codes, number], axis=1)[chosen], axis=0, return_inverse=True)
    success = np.full((len(keys), len(order)), np.nan)
    seed = np.full((len(keys), len(order)), np.nan)
    outcome = episodes["outcome"].map({"success": 1.0, "failure": 0.0}).to_numpy(np.float64)
    success[row_of.ravel(), policy_codes[chosen]] = outcome[chosen]
    seed[row_of.ravel(), policy_codes[chosen]] = episodes["seed"].to_numpy(np.float64)[chosen]
    row_number = {(tasks[task], int(episode)): i for i, (task, episode) in enumerate(keys)} if orders else {}
    stopped = []
    for names, pairs in orders:
        known = itertools.takewhile(row_number.__contains__, pairs)
        stopped.append(StoppedRun(names, np.array([row_number[pair] for pair in known], np.int64)))
    return OutcomeMatrix(
        suite, protocol, tuple(order), tuple(tasks), keys[:, 0], success, seed, stopped=tuple(stopped)
    )
