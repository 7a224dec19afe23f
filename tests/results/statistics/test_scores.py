"""Scores: every episode counts, and means are over tasks."""

import dataclasses

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simloop.results.records.planned import PlannedEpisodes
from simloop.results.statistics.intervals import Interval, mover_wilson, pooled_wilson, wilson
from simloop.results.statistics.scores import score_means, score_tasks
from simloop.results.tables.success_frame import success_frame
from tests.helpers.run_folders import episodes


def frame(*groups):
    return pd.DataFrame([dataclasses.asdict(record) for group in groups for record in group])


outcomes = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 5)).filter(sum)


@given(st.lists(outcomes, min_size=1, max_size=4))
def test_counts_every_episode_once(tasks):
    table = frame(*(episodes(*counts, task=f"task-{i}") for i, counts in enumerate(tasks)))
    scores = score_tasks(table)
    assert [(s.successes, s.failures, s.errors) for s in scores] == tasks
    assert sum(score.episodes for score in scores) == len(table)
    (mean,) = score_means(scores)
    assert (mean.successes, mean.failures, mean.errors) == tuple(map(sum, zip(*tasks, strict=True)))
    assert mean.episodes == len(table)


def test_rates_are_over_completed_episodes_and_bounds_over_all():
    (score,) = score_tasks(frame(episodes(46, 2, 2)))
    assert score.rate == 46 / 48
    assert score.interval() == wilson(46, 48)
    assert score.interval(confidence=0.8) == wilson(46, 48, confidence=0.8)
    assert score.bounds == Interval(46 / 50, 48 / 50)


def test_a_task_with_only_errors_has_bounds_but_no_rate():
    (score,) = score_tasks(frame(episodes(0, 0, 5)))
    assert (score.rate, score.interval()) == (None, None)
    assert score.bounds == Interval(0.0, 1.0)
    (mean,) = score_means([score])
    assert (mean.rate, mean.interval()) == (None, None)
    assert mean.lacking == ("reach-v3",)


def test_without_errors_the_bounds_are_the_rate():
    (score,) = score_tasks(frame(episodes(3, 1)))
    assert score.bounds == Interval(0.75, 0.75)


def test_mean_weighs_tasks_equally():
    scores = score_tasks(frame(episodes(40, 0, task="easy"), episodes(0, 10, task="hard")))
    (mean,) = score_means(scores)
    assert mean.rate == 0.5
    assert mean.method == "MOVER-Wilson"
    assert mean.interval() == mover_wilson([40, 0], [40, 10])


def test_nearly_equal_tasks_get_the_pooled_interval():
    scores = score_tasks(frame(episodes(40, 10, task="easy"), episodes(8, 37, 5, task="hard")))
    (mean,) = score_means(scores)
    assert mean.method == "pooled Wilson"
    assert mean.interval() == pooled_wilson([40, 8], [50, 45])
    assert mean.bounds == Interval((40 / 50 + 8 / 50) / 2, (40 / 50 + 13 / 50) / 2)


def test_an_unplayed_task_leaves_the_mean_undefined():
    table = frame(
        episodes(9, 1, task="easy"),
        episodes(5, 5, task="hard"),
        episodes(10, 0, task="easy", policy="pi0", weights="trained"),
    )
    scores = score_tasks(table)
    assert [(score.policy, score.task, score.episodes) for score in scores] == [
        ("expert", "easy", 10),
        ("expert", "hard", 10),
        ("pi0", "easy", 10),
        ("pi0", "hard", 0),
    ]
    expert, pi0 = score_means(scores)
    assert expert.rate == pytest.approx(0.7)
    assert pi0.rate is None
    assert pi0.lacking == ("hard",)
    assert scores[-1].bounds is None


def test_counts_missing_episodes():
    plan = PlannedEpisodes("metaworld", ("pi0", "expert"), 12, ("push-v3", "reach-v3"))
    table = frame(episodes(9, 1, 1), episodes(2, policy="pi0", weights="trained"))
    scores = score_tasks(table, [plan])
    assert [(score.policy, score.task, score.missing) for score in scores] == [
        ("pi0", "push-v3", 12),
        ("pi0", "reach-v3", 10),
        ("expert", "push-v3", 12),
        ("expert", "reach-v3", 1),
    ]
    assert [mean.missing for mean in score_means(scores)] == [22, 13]
    assert score_tasks(table)[0].missing is None
    assert score_means(score_tasks(table))[0].missing is None


def test_counts_episodes_with_undecodable_tokens_once():
    records = episodes(1, 3, undecodable=0, policy="pi0_fast", weights="trained")
    records[2] = dataclasses.replace(records[2], undecodable=4)
    records[3] = dataclasses.replace(records[3], undecodable=1, ended_by="undecodable")
    (score,) = score_tasks(frame(records))
    assert (score.failures, score.undecodable) == (3, 2)


def test_separates_protocols():
    table = frame(episodes(5), episodes(0, 5, protocol="metaworld/default-v1+abcd1234"))
    assert [mean.rate for mean in score_means(score_tasks(table))] == [1.0, 0.0]


def test_rejects_a_policy_with_two_kinds_of_weights():
    with pytest.raises(ValueError, match="got scripted and untrained"):
        score_tasks(frame(episodes(5), episodes(5, weights="untrained", task="push-v3")))


def test_no_episodes_give_no_scores():
    assert score_tasks(frame(episodes(1)).head(0)) == []
    assert score_means([]) == []


def test_interval_for_new_tasks_is_wider_if_tasks_differ():
    table = frame(
        *(episodes(successes, 20 - successes, task=f"t{i}") for i, successes in enumerate([0, 20] * 4))
    )
    (mean,) = score_means(score_tasks(table))
    new = mean.interval_for_new_tasks()
    assert new == mean.interval_for_new_tasks(), "the same every time"
    assert new.width > 2 * mean.interval().width
    (few,) = score_means(score_tasks(table[table["task"] < "t4"]))
    assert few.interval_for_new_tasks() is None
    row = success_frame(score_tasks(table)).iloc[-1]
    assert (row["level"], row["new_tasks_low"]) == ("mean", pytest.approx(new.low))
