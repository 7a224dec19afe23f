"""Letters of tables come from the tests of comparisons, computed for all pairs at once."""

from itertools import combinations

import numpy as np
import pytest

from simloop.results.statistics.contrasts import contrast
from simloop.results.statistics.families import findings, standing, standings
from simloop.results.statistics.outcome_matrix import OutcomeMatrix, StoppedRun
from simloop.results.statistics.pairwise import pair_tests


def drawn(rng: np.random.Generator, kind: str) -> OutcomeMatrix:
    """Outcomes of up to five policies on up to four tasks."""
    policies, tasks, episodes = rng.integers(2, 6), rng.integers(1, 5), rng.integers(1, 12)
    task = np.repeat(np.arange(tasks), episodes)
    success = (rng.random((len(task), policies)) < rng.random(policies)).astype(float)
    seed = np.repeat(rng.integers(0, 9, (len(task), 1)), policies, axis=1).astype(float)
    if kind in ("unfinished", "other seeds"):
        absent = rng.random(success.shape) < rng.choice([0.05, 0.3, 0.6])
        success[absent] = seed[absent] = np.nan
    if kind == "errors":
        success[rng.random(success.shape) < 0.2] = np.nan
    if kind == "other seeds":
        seed += rng.integers(0, 2, seed.shape)
    rows = ~np.isnan(seed).all(axis=1)
    stopped = (StoppedRun(frozenset(["p0", "p1"]), np.arange(rows.sum())),) if kind == "stopped" else ()
    names = tuple(f"p{i}" for i in range(policies))
    task_names = tuple(f"t{i}" for i in range(tasks))
    return OutcomeMatrix("s", "p", names, task_names, task[rows], success[rows], seed[rows], stopped=stopped)


@pytest.mark.parametrize("kind", ["plain", "unfinished", "errors", "other seeds", "stopped"])
def test_tests_of_all_pairs_at_once_equal_those_of_each_pair(kind):
    rng = np.random.default_rng(1)
    for _ in range(4):
        whole = drawn(rng, kind)
        every = [whole, *(whole.of_tasks([task]) for task in whole.tasks)]
        for outcomes in every:
            found = pair_tests(outcomes)
            for n, (a, b) in enumerate(combinations(outcomes.policies, 2)):
                one = contrast(outcomes, a, b)
                better = None if one is None else one.better
                np.testing.assert_equal(found.p_values[n], np.nan if one is None else one.decisive_p_value)
                assert found.lead[n] == (better == a) - (better == b)
        assert standings(every) == list(map(standing, every, findings(every)))
