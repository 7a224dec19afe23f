"""Holm's adjustment and the compact letter display."""

import doctest
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import simloop.results.statistics.multiplicity
from simloop.results.statistics.multiplicity import compact_letters, holm

p_values = st.lists(st.floats(0, 1), max_size=8)


def test_holm_equals_its_textbook_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(p_values, st.floats(0.001, 0.5))
def test_holm_rejects_as_the_step_down_procedure(values, alpha):
    rejected = set()
    for rank, i in enumerate(np.argsort(values, kind="stable")):
        if values[i] * (len(values) - rank) > alpha:
            break
        rejected.add(int(i))
    assert {i for i, p in enumerate(holm(values)) if p <= alpha} == rejected


@given(p_values)
def test_holm_keeps_the_order_and_never_lowers_p_values(values):
    adjusted = holm(values)
    assert all(a >= p for a, p in zip(adjusted, values, strict=True))
    assert all(a <= 1 for a in adjusted)
    for i, j in itertools.permutations(range(len(values)), 2):
        assert values[i] >= values[j] or adjusted[i] <= adjusted[j]


def test_rejects_values_that_are_no_p_values():
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        holm([0.2, 1.2])


@given(st.integers(0, 7), st.sets(st.sampled_from(list(itertools.combinations("ABCDEFG", 2)))))
def test_two_policies_share_a_letter_exactly_if_they_do_not_differ(count, pairs):
    names = list("ABCDEFG"[:count])
    different = {pair for pair in pairs if set(pair) <= set(names)}
    letters = compact_letters(names, different)
    for a, b in itertools.combinations(names, 2):
        assert bool(set(letters[a]) & set(letters[b])) == ((a, b) not in different)


def test_no_letter_is_superfluous():
    # Without absorbing, splitting the same group twice leaves parts of others behind.
    names = ["A", "B", "C", "D"]
    assert compact_letters(names, [("A", "C"), ("A", "D"), ("B", "D")]) == {
        "A": "a",
        "B": "ab",
        "C": "bc",
        "D": "c",
    }


def test_letters_start_with_the_first_name():
    assert compact_letters(["best", "good", "bad"], [("bad", "best"), ("bad", "good")]) == {
        "best": "a",
        "good": "a",
        "bad": "b",
    }
    assert compact_letters([], []) == {}


def test_rejects_unknown_names():
    with pytest.raises(ValueError, match=r"got \('A', 'C'\)"):
        compact_letters(["A", "B"], [("A", "C")])


def test_examples_in_docstrings_hold():
    assert doctest.testmod(simloop.results.statistics.multiplicity).failed == 0
