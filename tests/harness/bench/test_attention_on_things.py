"""Attention to a thing is told from attention that prefers a place of the image."""

import numpy as np
import pytest

from simloop.harness.bench.attention_on_things import Look, grid, looking
from simloop.results.tables.typesetting import to_text

PATCHES = [(0, 0), (1, 1), (0, 1), (1, 0)]


def looks(share_at_thing: float, favourite: tuple[int, int] | None = None) -> list[Look]:
    """Four episodes; the thing, or a favourite patch, gets the share; the others divide the rest equally."""
    found = []
    for patch in PATCHES:
        weights = np.full((2, 2), (1 - share_at_thing) / 3)
        weights[favourite or patch] = share_at_thing
        found.append(Look("pick-place-v3", "top", {"rollout": weights, "mean": weights}, patch))
    return found


def test_attention_that_follows_the_thing_is_above_chance_and_above_elsewhere():
    found = looking(looks(0.7), "rollout")
    assert found.share == pytest.approx(0.7)
    assert found.times_chance == pytest.approx(2.8)
    assert found.times_elsewhere == pytest.approx(7.0)
    assert (found.above, found.count) == (4, 4)


def test_attention_that_prefers_a_place_is_not_taken_for_attention_to_the_thing():
    found = looking(looks(0.7, favourite=(0, 0)), "rollout")
    assert found.times_elsewhere == pytest.approx(1.0)
    assert found.above == 0


def test_the_table_has_both_kinds_of_attention():
    text = to_text(grid("pi0-tiny", looks(0.7)))
    assert "rollout" in text
    assert "2.80 [2.80, 2.80]" in text
