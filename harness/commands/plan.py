"""`simloop plan`."""

from __future__ import annotations

from typing import Annotated

from simloop.harness.commands.options import arg, say


def command(
    *,
    difference: Annotated[float | None, arg("D", "a table of detectable differences")] = None,
    episodes: Annotated[tuple[int, ...] | None, arg("N [N ...]", "10 to 2000")] = None,
    base: Annotated[float, arg("P")] = 0.9,
    tasks: Annotated[int, arg("N")] = 1,
    policies: Annotated[int, arg("N")] = 2,
    correlation: Annotated[float, arg("R")] = 0.15,
    power: Annotated[float, arg("P")] = 0.8,
    alpha: Annotated[float, arg("A")] = 0.05,
    margin: Annotated[float, arg("D")] = 0.02,
) -> int:
    """Compute how many episodes a comparison needs, or which differences a number of episodes can detect.

    Examples:

      simloop plan --base 0.9 --difference 0.05 --tasks 10

      simloop plan --base 0.9 --episodes 500

    Args:
      difference: Difference of success rates to detect, such as 0.05.
      episodes: Episodes per policy, over all tasks, for which to compute the detectable difference.
      base: Success rate of the better policy.
      tasks: Number of tasks that share the episodes.
      policies: Number of policies to compare; all pairs share alpha.
      correlation: Correlation of the outcomes of two policies in the same episode; 0.15 is usual.
      power: Probability of detecting a difference that exists.
      alpha: Probability, at most, that any comparison reports a difference that does not exist.
      margin: Policies whose success rates differ by less than this are equivalent.
    """
    from simloop.results.errors import ResultsError
    from simloop.results.statistics.families import family_size
    from simloop.results.statistics.sample_size import Design
    from simloop.results.tables.sample_size_table import (
        EPISODES,
        detectable_grid,
        difference_grid,
        equivalence_grid,
    )
    from simloop.results.tables.typesetting import to_text

    if tasks < 1 or policies < 2 or min(episodes or (1,)) < 1 or not 0 < margin < 1:
        raise ResultsError(
            "Wanted at least 1 task, 2 policies, 1 episode and a margin in (0, 1); got "
            f"--tasks {tasks} --policies {policies} --episodes {episodes} --margin {margin}."
        )
    design = Design(base, correlation, alpha, power, family_size(policies))
    grids = []
    if difference is not None:
        grids.append(difference_grid(design, difference, tasks))
    if difference is None or episodes:
        grids.append(detectable_grid(design, episodes or EPISODES))
    grids.append(equivalence_grid(design, margin, tasks))
    for grid in grids:
        say(to_text(grid))
    return 0
