"""Bisection finds the first checkpoint that lost success, with as few comparisons as it can."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simloop.harness.bisection import Bisection, bisect, bisection_sentence
from simloop.results.statistics.sequential import StoppingRule


def compare(lost_at, undecided=()):
    return lambda place: "undecided" if place in undecided else "lost" if place >= lost_at else "kept"


@given(st.integers(2, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n - 1))))
def test_the_loss_is_found_with_a_logarithm_of_comparisons(checkpoints_and_loss):
    checkpoints, loss = checkpoints_and_loss
    found = bisect(checkpoints, compare(loss))
    assert (found.good, found.bad) == (loss - 1, loss)
    assert len(found.verdicts) <= 1 + checkpoints.bit_length()


def test_without_a_loss_at_the_end_nothing_else_is_played():
    found = bisect(9, compare(lost_at=99))
    assert found.verdicts == {8: "kept"}
    assert found.bad is None


def test_undecided_checkpoints_are_passed_over_and_named():
    found = bisect(8, compare(lost_at=5, undecided=(3, 4)))
    assert (found.good, found.bad, found.undecided) == (2, 5, (3, 4))
    sentence = bisection_sentence(found, "abcdefgh", StoppingRule())
    assert sentence.startswith("Success was lost between c and f")
    assert sentence.endswith("undecided in between: d, e.")


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ("kept", "b has lost nothing against a"),
        ("undecided", "Undecided whether b has lost success against a"),
    ],
)
def test_what_was_not_shown_is_not_said(verdict, expected):
    assert expected in bisection_sentence(Bisection({1: verdict}, good=1), "ab", StoppingRule())
