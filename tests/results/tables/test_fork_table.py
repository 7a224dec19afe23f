import dataclasses

import pandas as pd
import pytest

from simloop.results.errors import ResultsError
from simloop.results.records.fork_labels import ForkLabel, fork_label, parse_fork_label
from simloop.results.tables.fork_table import fork_grids, fork_points, largest_loss
from simloop.results.tables.typesetting import to_text
from tests.helpers.run_folders import EPISODE, broken, failed

SOURCE = "expert/reach-v3/2"


def forks(query: int, successes: int, episodes: int, changes: str = "", policy: str = "expert"):
    label = fork_label("metaworld/default-v1", SOURCE, query, changes)
    return [
        dataclasses.replace(
            EPISODE if sample < successes else failed(EPISODE), protocol=label, episode=sample, policy=policy
        )
        for sample in range(episodes)
    ]


def points(*episodes):
    return fork_points(pd.DataFrame([dataclasses.asdict(episode) for episode in episodes]))


@pytest.mark.parametrize("changes", ["", "noise-seed=3", "prompt='go to 3 at query 7, now'"])
def test_reads_the_label_that_it_wrote(changes):
    label = fork_label("metaworld/default-v1", SOURCE, 12, changes)
    assert parse_fork_label(label) == ForkLabel("metaworld/default-v1", SOURCE, 12, changes)


def test_labels_of_other_episodes_are_no_forks():
    assert parse_fork_label("metaworld/default-v1 with camera-noise=0.1") is None
    with pytest.raises(ResultsError, match="simloop fork"):
        points(EPISODE)


def test_states_between_which_queries_most_of_the_success_is_lost():
    found = points(*forks(7, 7, 8), *forks(9, 1, 8), *forks(11, 0, 8))
    assert "between queries 7 and 9" in largest_loss(found)
    assert "87.5 %" in largest_loss(found)
    assert "12.5 %" in largest_loss(found)


def test_says_that_the_place_of_the_loss_is_uncertain_where_intervals_overlap():
    assert "overlap" in largest_loss(points(*forks(1, 2, 2), *forks(2, 1, 2)))


def test_variants_are_paired_with_the_unchanged_continuation_of_equal_noise():
    found = points(*forks(3, 4, 8), *forks(3, 8, 8, "replan-steps=1"), *forks(3, 8, 8, policy="other"))
    assert [point.variant for point in found] == ["original", "other", "replan-steps=1"]
    text = to_text(fork_grids(found)[0])
    assert text.count("+50.0") == 2
    assert "4/8" in text


def test_errors_are_left_out_of_pairs():
    original = forks(3, 4, 4)
    original[0] = broken(original[0])
    found = points(*original, *forks(3, 2, 4, "noise-seed=1"))
    assert [len(point.outcomes) for point in found] == [3, 4]
