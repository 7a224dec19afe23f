"""Tables to plan with: episodes for a difference, and differences for so many episodes."""

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
from simloop.results.tables.typesetting import NONE, Grid

EPISODES = (10, 20, 50, 100, 200, 500, 1000, 2000)  # What tables of benchmarks have, per task or over all.


def difference_grid(design: Design, difference: float, tasks: int) -> Grid:
    """What finding a difference takes: a row per design of the comparison.

    Raises:
      ResultsError: If the difference is not between 0 and the base rate.
    """
    if not 0 < difference <= design.base:
        raise ResultsError(
            f"A difference from the base rate {design.base:g} lies above 0 and not above that; got {difference:g}."
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
        f"Episodes per policy to find {100 * design.base:g} % against "
        f"{100 * (design.base - difference):g} % with power {design.power:g}",
        ("design", "episodes", "per task", "on average"),
        (tuple(rows),),
        _notes(design),
    )


def detectable_grid(design: Design, episodes: Sequence[int] = EPISODES) -> Grid:
    """What so many episodes can find: a row per number of episodes, differences in points."""
    rows = []
    for count in episodes:
        fixed = [detectable_difference(design, count, paired=paired) for paired in (False, True)]
        rows.append(
            (str(count), *map(_points, fixed), _points(sequential_detectable_difference(design, count)))
        )
    return Grid(
        f"Smallest difference from {100 * design.base:g} % that is found with power {design.power:g}, in points",
        ("episodes per policy", "unpaired, fixed", "paired, fixed", "paired, until decided"),
        (tuple(rows),),
        (*_notes(design), f"{NONE}: no difference is large enough."),
    )


def equivalence_grid(design: Design, margin: float, tasks: int) -> Grid:
    """What showing that two equal policies differ by less than a margin takes."""
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
    return NONE if difference is None else f"{100 * difference:.1f}"


def _notes(design: Design) -> tuple[str, ...]:
    several = f", divided among {design.comparisons} comparisons" if design.comparisons > 1 else ""
    return (
        f"Two-sided level {design.alpha:g}{several}; paired outcomes correlate by {design.correlation:g}. Over all "
        "tasks together; fixed designs by normal approximations, which fit from about 50 episodes on. Until decided: "
        "looking after every pair and stopping when the e-value suffices, by simulation.",
    )
