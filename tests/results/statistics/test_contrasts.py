"""Comparison of policies, paired or unpaired as their episodes allow."""

import collections
import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest

from simloop.results.statistics.contrasts import contrast, contrasts
from simloop.results.statistics.families import adjusted, family_size, findings, standing
from simloop.results.statistics.multiplicity import holm
from simloop.results.statistics.outcome_matrix import OutcomeMatrix, outcome_matrices
from simloop.results.statistics.paired import Pairs, mcnemar_mid_p, tango
from simloop.results.statistics.ranks import rank_intervals
from simloop.results.statistics.unpaired import barnard, cochran_mantel_haenszel, miettinen_nurminen
from tests.helpers.run_folders import broken, episodes, failed


def frame(*groups):
    return pd.DataFrame([dataclasses.asdict(record) for group in groups for record in group])


def matrix(*groups):
    (found,) = outcome_matrices(frame(*groups)).values()
    return found


def drawn(rng, rates, tasks=1, n=30):
    """Outcomes of as many policies as there are rates; the same episodes, drawn apart."""
    policies = tuple(f"p{i}" for i in range(len(rates)))
    success = (rng.random((tasks * n, len(rates))) < rates).astype(float)
    task = np.repeat(np.arange(tasks), n)
    seeds = np.broadcast_to(np.arange(tasks * n)[:, None], success.shape).astype(float)
    return OutcomeMatrix("s", "p", policies, tuple(f"t{i}" for i in range(tasks)), task, success, seeds)


def test_pairs_episodes_by_task_and_number_without_errors():
    a = episodes(5, task="push-v3")
    b = [dataclasses.replace(record, policy="pi0", weights="trained") for record in a]
    a = [a[0], a[1], failed(a[2]), failed(a[3]), a[4]]
    b = [b[0], failed(b[1]), b[2], failed(b[3]), broken(b[4])]
    other_task = [*episodes(2), *episodes(1, policy="pi0", weights="trained")]
    outcomes = matrix(a[::-1], b, other_task)
    assert dict(zip(outcomes.tasks, outcomes.pairs("expert", "pi0"), strict=True)) == {
        "push-v3": Pairs(1, 1, 1, 1),
        "reach-v3": Pairs(1, 0, 0, 0),
    }
    found = contrast(outcomes, "expert", "pi0")
    assert found.pairs == Pairs(2, 1, 1, 1)
    assert found.interval == tango(Pairs.task_weighted([Pairs(1, 1, 1, 1), Pairs(1, 0, 0, 0)]))
    assert (found.rate_a, found.rate_b) == (0.75, 0.75), "both tasks have the same weight"
    # The partner of the error, and the episode that the other policy has not played.
    assert found.left_out == 2
    assert found.unpaired_because == ""


def test_compares_other_episodes_unpaired_and_states_why():
    a = episodes(7, 3)
    elsewhere = [dataclasses.replace(r, policy="b", seed=r.seed + 5) for r in episodes(2, 8)]
    found = contrast(matrix(a, elsewhere), "expert", "b")
    assert found.unpaired_because == "episodes with the same number started from different states"
    assert found.p_value == barnard(7, 10, 2, 10)
    assert found.interval == miettinen_nurminen(7, 10, 2, 10)
    assert found.pairs is None

    later = [dataclasses.replace(r, policy="b", episode=r.episode + 8) for r in episodes(2, 8)]
    later = [dataclasses.replace(r, seed=1000 + r.episode) for r in later]
    assert contrast(matrix(a, later), "expert", "b").unpaired_because == "the policies share only 2 episodes"


def test_compares_unpaired_episodes_within_tasks():
    a = [*episodes(9, 1), *episodes(3, 7, task="push-v3")]
    b = [
        dataclasses.replace(r, policy="b", seed=r.seed + 5)
        for r in [*episodes(7, 3), *episodes(1, 9, task="push-v3")]
    ]
    found = contrast(matrix(a, b), "expert", "b")
    assert found.p_value == cochran_mantel_haenszel([3, 9], [10, 10], [1, 7], [10, 10])
    assert found.difference == pytest.approx((0.9 + 0.3) / 2 - (0.7 + 0.1) / 2)
    assert found.interval.low < found.difference < found.interval.high
    margin = found.equivalence
    assert margin.equivalent == (margin.interval.low > -0.02 and margin.interval.high < 0.02)


def test_compares_no_policies_without_a_common_task():
    outcomes = matrix(episodes(3), episodes(3, task="push-v3", policy="b"))
    assert contrast(outcomes, "expert", "b") is None
    assert contrasts(outcomes) == []
    place = standing(outcomes, findings([outcomes])[0])
    assert (place.letters, place.best, place.apart) == ({}, None, ("b", "expert"))
    with pytest.raises(ValueError, match=r"No episodes of policy 'c'.*episodes of b, expert"):
        contrast(outcomes, "expert", "c")


def test_separates_protocols():
    found = outcome_matrices(frame(episodes(3), episodes(0, 3, protocol="metaworld/other")))
    assert [key[1] for key in found] == ["metaworld/default-v1", "metaworld/other"]


def test_rejects_duplicate_episodes():
    with pytest.raises(
        ValueError, match=r"Episode 0 of task 'reach-v3' by policy 'expert' is in the frame twice"
    ):
        outcome_matrices(frame(episodes(2), episodes(2)))


def test_adjustment_grows_with_the_number_of_evaluated_policies():
    (found,) = contrasts(matrix(episodes(9, 1), episodes(2, 8, policy="b", weights="trained")))
    p_values = [adjusted([found], family_size(looked_at))[0] for looked_at in (2, 3, 10)]
    assert p_values == pytest.approx([found.p_value * family_size(n) for n in (2, 3, 10)])


def placed(outcomes):
    return standing(outcomes, findings([outcomes])[0])


def test_standing_of_clearly_ordered_policies():
    rng = np.random.default_rng(0)
    clear = drawn(rng, [0.1, 0.9, 0.5], n=200)
    assert placed(clear).letters == {"p1": "a", "p2": "b", "p0": "c"}
    assert placed(clear).best == "p1"
    assert placed(drawn(rng, [0.5, 0.5], n=20)).best is None
    assert placed(drawn(rng, [0.5])).letters == {}


def test_a_policy_that_was_compared_with_no_other_has_no_letter_and_nobody_is_best():
    apart = episodes(3, task="push-v3", policy="c", weights="trained")
    place = placed(matrix(episodes(19, 1), episodes(1, 19, policy="b", weights="trained"), apart))
    assert place.letters == {"expert": "a", "b": "b"}
    assert (place.best, place.apart) == (None, ("b", "c", "expert"))


def test_matrices_of_a_family_are_adjusted_together():
    one = matrix(episodes(10), episodes(4, 6, policy="b", weights="trained"))
    ((alone,),), ((twice,), _) = findings([one]), findings([one, one])
    assert alone.p_adjusted == alone.contrast.p_value
    assert twice.p_adjusted == pytest.approx(2 * alone.contrast.p_value)
    assert (alone.differ, twice.differ) == (True, alone.contrast.p_value < 0.025)


def test_policies_differ_only_if_they_would_whatever_the_errors_were():
    hard = [*episodes(12, 0, 8), *episodes(2, 18, policy="b", weights="trained")]
    found = contrast(matrix(hard), "expert", "b")
    assert found.p_value == mcnemar_mid_p(Pairs(2, 10, 0, 0))
    assert found.p_value_with_errors == mcnemar_mid_p(Pairs(2, 10, 0, 8))
    many = contrast(
        matrix([*episodes(6, 0, 14), *episodes(8, 12, policy="b", weights="trained")]), "expert", "b"
    )
    assert (many.better, many.p_value_with_errors, many.decisive_p_value) == (None, 1.0, 1.0)
    equal = contrast(
        matrix([*episodes(400, 0, 40), *episodes(440, policy="b", weights="trained")]), "expert", "b"
    )
    assert not equal.equivalence.equivalent
    assert equal.equivalence.interval.high < 0.02, "equivalent among the completed episodes"


def test_pairs_of_unequal_numbers_weigh_tasks_alike():
    few, many = episodes(2, task="push-v3"), episodes(0, 8)
    b = [dataclasses.replace(r, policy="b", weights="trained") for r in [*map(failed, few), *many]]
    found = contrast(matrix(few, many, b), "expert", "b")
    assert (found.rate_a, found.rate_b, found.difference) == (0.5, 0.0, 0.5)
    assert Pairs.task_weighted([Pairs(only_a=2), Pairs(neither=8)]).episodes == pytest.approx(
        2**2 / (1 / 2 + 1 / 8)
    )


def test_standing_keeps_the_family_wise_error_rate():
    rng = np.random.default_rng(1)
    runs, wrong = 500, 0
    for _ in range(runs):
        outcomes = drawn(rng, [0.8] * 4, tasks=3, n=20)
        pairs = itertools.combinations(outcomes.policies, 2)
        wrong += min(holm([mcnemar_mid_p(sum(outcomes.pairs(*pair), Pairs())) for pair in pairs])) < 0.05
    assert wrong / runs <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize("tables", [[(9, 10, 7, 12), (3, 20, 1, 10)], [(1, 1, 0, 1)] * 4, [(5, 5, 5, 5)]])
def test_cochran_mantel_haenszel_agrees_with_an_enumeration_of_all_tables(tables):
    distribution = {0: 1.0}
    for x_a, n_a, x_b, n_b in tables:
        added = collections.Counter()
        for before, k in itertools.product(distribution, range(x_a + x_b + 1)):
            ways = math.comb(n_a, k) * math.comb(n_b, x_a + x_b - k)
            added[before + k] += distribution[before] * ways / math.comb(n_a + n_b, x_a + x_b)
        distribution = added
    seen = distribution[sum(x_a for x_a, *_ in tables)]
    wanted = sum(p for p in distribution.values() if p <= seen * (1 + 1e-9))
    assert cochran_mantel_haenszel(*map(list, zip(*tables, strict=True))) == pytest.approx(wanted)


def test_four_of_four_against_none_over_four_tasks_is_no_finding():
    assert cochran_mantel_haenszel([1] * 4, [1] * 4, [0] * 4, [1] * 4) == pytest.approx(0.125)


def test_rank_intervals_are_narrow_for_different_and_wide_for_equal_policies():
    rng = np.random.default_rng(3)
    ranks, paired = rank_intervals(drawn(rng, [0.95, 0.5, 0.05], tasks=2, n=100), rng)
    assert paired
    assert [(rank.low, rank.high) for rank in ranks] == [(1, 1), (2, 2), (3, 3)]
    assert ranks[0].best == 1.0
    ranks, _ = rank_intervals(matrix(episodes(6, 4), episodes(5, 5, policy="b")[::-1]), rng)
    assert [(rank.low, rank.high) for rank in ranks] == [(1, 2), (1, 1)]


def test_ranks_hold_whatever_the_errors_were():
    outcomes = matrix(episodes(90, 0, 10), episodes(95, 5, policy="b", weights="trained"))
    ranks, _ = rank_intervals(outcomes, np.random.default_rng(6))
    assert [(rank.policy, rank.low, rank.high) for rank in ranks] == [("b", 1, 2), ("expert", 1, 2)]
    no_errors = matrix(episodes(90), episodes(75, 15, policy="b", weights="trained"))
    ranks, _ = rank_intervals(no_errors, np.random.default_rng(6))
    assert [(rank.policy, rank.low, rank.high) for rank in ranks] == [("b", 2, 2), ("expert", 1, 1)]


def test_equal_outcomes_share_the_first_rank():
    ranks, _ = rank_intervals(matrix(episodes(6, 4), episodes(6, 4, policy="b")), np.random.default_rng(4))
    assert [(rank.low, rank.high, rank.best) for rank in ranks] == [(1, 1, 1.0)] * 2


def test_ranks_resample_different_episodes_separately():
    b = [dataclasses.replace(record, policy="b", seed=5) for record in episodes(6, 4)]
    ranks, paired = rank_intervals(matrix(episodes(6, 4), b), np.random.default_rng(5))
    assert not paired
    assert [(rank.low, rank.high) for rank in ranks] == [(1, 2)] * 2
