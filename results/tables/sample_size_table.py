"""Tables for planning an evaluation: episodes for a difference, and differences for a number of episodes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from simloop.results.errors import ResultsError
from simloop.results.statistics.sample_size import (
    LONGEST,
    Design,
    detectable_difference,
    equivalence_episodes,
    paired_episodes,
    sequential_detectable_difference,
    sequential_outlook,
    unpaired_episodes,
)
from simloop.results.tables.grid import NONE, Grid, number_text

EPISODES = (10, 20, 50, 100, 200, 500, 1000, 2000)  # As benchmarks report, per task or over all tasks.


def difference_grid(design: Design, difference: float, tasks: int) -> Grid:
    """Number of episodes needed to detect a difference: a row per design of the comparison.

    Raises:
      ResultsError: If the difference is not between 0 and the base rate.
    """
    if not 0 < difference <= design.base:
        raise ResultsError(
            f"Wanted a difference above 0 and not above the base rate {design.base:g}; got {difference:g}."
        )
    unpaired, paired = unpaired_episodes(design, difference), paired_episodes(design, difference)
    outlook = sequential_outlook(design, difference)
    rows = [
        (*_needed("unpaired, fixed", unpaired, tasks), NONE),
        (*_needed("paired, fixed", paired, tasks), NONE),
        (
            "paired, until decided",
            *(
                (_many(outlook.max_pairs), _many(outlook.max_pairs / tasks), _many(outlook.mean_pairs))
                if outlook is not None
                else (f"> {LONGEST}", NONE, NONE)
            ),
        ),
    ]
    return Grid(
        f"Episodes per policy to detect {100 * design.base:g} % against "
        f"{100 * (design.base - difference):g} % with power {design.power:g}",
        ("design", "episodes", "per task", "on average"),
        (tuple(rows),),
        _notes(design),
    )


def detectable_grid(design: Design, episodes: Sequence[int] = EPISODES) -> Grid:
    """Smallest detectable difference in points: a row per number of episodes."""
    rows = []
    for count in episodes:
        fixed = [detectable_difference(design, count, paired=paired) for paired in (False, True)]
        rows.append(
            (str(count), *map(_points, fixed), _points(sequential_detectable_difference(design, count)))
        )
    return Grid(
        f"Smallest difference from {100 * design.base:g} % that is detected with power {design.power:g}, in points",
        ("episodes per policy", "unpaired, fixed", "paired, fixed", "paired, until decided"),
        (tuple(rows),),
        (*_notes(design), f"{NONE}: no difference is large enough."),
    )


def equivalence_grid(design: Design, margin: float, tasks: int) -> Grid:
    """Number of episodes needed to show that two equal policies differ by less than a margin."""
    return Grid(
        f"Episodes per policy to show that two policies at {100 * design.base:g} % are equivalent within "
        f"± {100 * margin:g} points with power {design.power:g}",
        ("design", "episodes", "per task"),
        ((_needed("paired, fixed", equivalence_episodes(design, margin), tasks),),),
    )


def _needed(name: str, episodes: float, tasks: int) -> tuple[str, str, str]:
    return (name, _many(episodes), _many(episodes / tasks))


def _many(episodes: float | int) -> str:
    return str(math.ceil(episodes)) if math.isfinite(episodes) else NONE


def _points(difference: float | None) -> str:
    return NONE if difference is None else number_text(100 * difference)


def _notes(design: Design) -> tuple[str, ...]:
    several = f", divided among {design.comparisons} comparisons" if design.comparisons > 1 else ""
    return (
        f"Two-sided level {design.alpha:g}{several}; correlation of paired outcomes {design.correlation:g}; episodes "
        "over all tasks together. Fixed designs by normal approximations, which hold from about 50 episodes on. Until "
        "decided: a sequential test after every pair, simulated.",
    )
