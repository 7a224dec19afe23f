"""Success rates: tables of tasks, groups of tasks or suites by policies."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simloop.results.errors import ResultsError
from simloop.results.records.runs import Runs
from simloop.results.statistics.contrasts import contrast
from simloop.results.statistics.early_stopping import matrices
from simloop.results.statistics.families import NO_STANDING, Standing, comparisons_of, standings
from simloop.results.statistics.outcome_matrix import OutcomeMatrix
from simloop.results.statistics.ranks import rank_intervals
from simloop.results.statistics.scores import MeanScore, Score, score_means, score_tasks
from simloop.results.tables.choice import (
    chosen_policies,
    chosen_tasks,
    groups_of,
    printed_names,
    require_tasks,
)
from simloop.results.tables.grid import NONE, Cell, Grid, Row, percent_cell
from simloop.results.tables.options import DEFAULT_OPTIONS, TableOptions
from simloop.results.tables.published import Published
from simloop.results.tables.statements import counted
from simloop.results.tables.success_frame import counts_text
from simloop.results.tables.success_notes import Shown, notes_of

RANK_SEED = 0  # The same records give the same ranks.


@dataclass(frozen=True)
class Line:
    """One line of a table: a task, or the mean of several."""

    name: str
    tasks: tuple[str, ...]
    quoted: frozenset[str]
    """Names under which rates of these tasks are published."""
    overall: bool = False
    """Whether it is the mean over all tasks of the suite."""


@dataclass(frozen=True)
class _Section:
    """What one suite and protocol contribute to a table."""

    suite: str
    protocol: str
    means: Mapping[str, MeanScore]
    """By policy; of the policies that are shown."""
    outcomes: OutcomeMatrix
    blocks: tuple[tuple[Line, ...], ...]
    tasks: tuple[str, ...]

    @property
    def lines(self) -> list[Line]:
        return [line for block in self.blocks for line in block]

    def score(self, policy: str, line: Line) -> Score | MeanScore:
        mean = self.means[policy]
        if line.overall:
            return mean
        here = tuple(score for score in mean.tasks if score.task in line.tasks)
        if len(here) == 1 and line.tasks == (line.name,):
            return here[0]
        return dataclasses.replace(mean, tasks=here)

    def matrix(self, line: Line) -> OutcomeMatrix:
        return self.outcomes if line.overall else self.outcomes.of_tasks(line.tasks)


def success_grids(
    runs: Runs, options: TableOptions = DEFAULT_OPTIONS, published: Sequence[Published] = ()
) -> list[Grid]:
    """A grid for each suite and protocol, so that no column mixes protocols, or one grid of all their means.

    Every line with a significant difference has a compact letter display, and a policy that is significantly better
    than all others is bold. The means of all grids are one family of comparisons, and the tasks and groups of all
    grids are another.

    Args:
      published: Rates to set beside the measured ones, marked as quoted.

    Raises:
      ResultsError: If the options name a policy, a task or a baseline that the runs do not have.
    """
    require_tasks(runs, options)
    sections = _sections(runs, options)
    if not sections:
        return []
    places, families = _places(sections)
    together = [sections] if options.per == "suite" else [[section] for section in sections]
    return [_grid(here, runs, places, families, options, published) for here in together]


def _sections(runs: Runs, options: TableOptions) -> list[_Section]:
    chosen = chosen_policies(runs, options)
    means: dict[tuple[str, str], dict[str, MeanScore]] = {}
    for mean in score_means(score_tasks(runs.episodes, runs.plans)):
        if mean.policy in chosen:
            means.setdefault((mean.suite, mean.protocol), {})[mean.policy] = mean
    outcomes = matrices(runs, chosen, looked_at=options.looked_at)
    made = []
    for (suite, protocol), here in means.items():
        order = [policy for policy in chosen if policy in here]
        if options.order == "rate" and not options.policies:
            order.sort(key=lambda policy: -(-1.0 if (rate := here[policy].rate) is None else rate))
        elif not options.policies and options.order is None:
            order = list(here)
        tasks = tuple(score.task for score in here[order[0]].tasks)
        blocks = _blocks(suite, protocol, tasks, runs, options)
        ordered = {policy: here[policy] for policy in order}
        made.append(_Section(suite, protocol, ordered, outcomes[suite, protocol], blocks, tasks))
    if options.per == "suite":
        names = [section.suite for section in made]
        made = [
            dataclasses.replace(
                section,
                blocks=((_named_suite(section, names.count(section.suite) == 1),),),
            )
            for section in made
        ]
    return made


def _named_suite(section: _Section, alone: bool) -> Line:
    ((line,),) = section.blocks
    return dataclasses.replace(line, name=section.suite if alone else section.protocol)


def _blocks(
    suite: str, protocol: str, tasks: tuple[str, ...], runs: Runs, options: TableOptions
) -> tuple[tuple[Line, ...], ...]:
    groups = groups_of(suite, tasks, runs, options)
    whole = frozenset({suite, *(name for name, here in groups.items() if set(here) == set(tasks))})
    overall = Line(f"mean of {len(tasks)}", tasks, whole, overall=True)
    if options.per == "suite":
        return ((overall,),)
    if options.per == "group":
        if not groups:
            raise ResultsError(
                f"The runs of {suite} have no groups of tasks. Name some, such as --groups easy 'reach* push*'."
            )
        lines = tuple(Line(name, here, frozenset({name})) for name, here in groups.items() if here)
        return (lines, (overall,))
    shown = chosen_tasks(tasks, options)
    if not options.groups:
        return (tuple(Line(task, (task,), frozenset({task})) for task in shown), (overall,))
    blocks = []
    for name, here in groups.items():
        members = [Line(task, (task,), frozenset({task})) for task in shown if task in here]
        if members:
            blocks.append((*members, Line(f"mean of {name}", here, frozenset({name}))))
    rest = [task for task in shown if not any(task in here for here in groups.values())]
    if rest:
        blocks.append(tuple(Line(task, (task,), frozenset({task})) for task in rest))
    return (*blocks, (overall,))


def _places(sections: Sequence[_Section]) -> tuple[dict[tuple[str, str, str], Standing], str]:
    """Letters and best policies by suite, protocol and name of a line, and the sizes of the two families in words."""
    overall = [(one, line) for one in sections for line in one.lines if line.overall]
    others = [(one, line) for one in sections for line in one.lines if not line.overall]
    made: dict[tuple[str, str, str], Standing] = {}
    sizes = []
    for family in (overall, others):
        together = [section.matrix(line) for section, line in family]
        sizes.append(comparisons_of(together))
        for (section, line), place in zip(family, standings(together), strict=True):
            made[section.suite, section.protocol, line.name] = place
    if not sizes[0]:
        return made, ""
    families = f"Holm correction over the {counted(sizes[0], 'comparison')} of means in these tables"
    if sizes[1]:
        grouped = any(len(line.tasks) > 1 for _, line in others)
        families += f" and, with an error rate of its own, over the {sizes[1]} of tasks"
        families += " and groups" if grouped else ""
    return made, families


def _grid(
    sections: Sequence[_Section],
    runs: Runs,
    places: Mapping[tuple[str, str, str], Standing],
    families: str,
    options: TableOptions,
    published: Sequence[Published],
) -> Grid:
    policies = list(dict.fromkeys(policy for section in sections for policy in section.means))
    labels = {policy: runs.labels[policy] for policy in policies}
    names = printed_names(labels.values(), options)
    quoted = _quoted(sections, published, options)
    blocks: list[tuple[Row, ...]] = []
    shown_places = []
    for section in sections:
        for block in section.blocks:
            rows: list[Row] = []
            for line in block:
                place = places.get((section.suite, section.protocol, line.name), NO_STANDING)
                shown_places.append(place)
                cells = _line_cells(section, line, policies, place, options)
                rows.append((options.names.get(line.name, line.name), *cells, *_quoted_cells(line, quoted)))
            blocks.append(tuple(rows))
    if options.per == "suite":
        blocks = [tuple(row for block in blocks for row in block)]
    shown = Shown(
        tuple((section.suite, section.protocol) for section in sections),
        [mean for section in sections for mean in section.means.values()],
        names,
        shown_places,
        families,
        {task for section in sections for line in section.lines for task in line.tasks if not line.overall},
        () if options.per == "suite" else sections[0].tasks,
        [one for rates in quoted.values() for one in rates],
    )
    first = {"suite": "suite", "group": "tasks"}.get(options.per or "", "task")
    grid = Grid(
        title=_title(sections, options),
        columns=(first, *(names[labels[policy]] for policy in policies), *quoted),
        groups=tuple(blocks),
        notes=tuple(notes_of(shown, runs, options)),
        options=options,
        caption=_caption(sections, options),
    )
    return grid.transposed("policy") if options.rows == "policies" else grid


def _line_cells(
    section: _Section, line: Line, policies: Sequence[str], place: Standing, options: TableOptions
) -> Iterator[Cell | str]:
    matrix = section.matrix(line) if {"rank", "difference"} & set(options.parts) else None
    ranks = _ranks(matrix) if matrix is not None and "rank" in options.parts else {}
    for policy in policies:
        if policy not in section.means:
            yield NONE
            continue
        score = section.score(policy, line)
        cell = _cell(score, place, options)
        if matrix is not None and "difference" in options.parts:
            cell = dataclasses.replace(cell, difference=_difference(matrix, policy, options))
        yield dataclasses.replace(cell, rank=ranks.get(policy, ""))


def _cell(score: Score | MeanScore, place: Standing, options: TableOptions) -> Cell:
    letters = place.letters.get(score.policy, "") if place.differ else ""
    stressed = score.policy == place.best and "bold" in options.stresses
    cell = percent_cell(score.rate, score.interval(), counts_text(score), letters=letters, bold=stressed)
    underlined = "underline" in options.stresses and score.policy in _not_below_the_top(place)
    return dataclasses.replace(cell, underlined=underlined and not stressed)


def _not_below_the_top(place: Standing) -> set[str]:
    """Policies that were not found to differ from the one with the highest rate; none if no two policies differ."""
    if not place.differ:
        return set()
    top = set(next(iter(place.letters.values())))
    return {policy for policy, letters in place.letters.items() if top & set(letters)}


def _ranks(matrix: OutcomeMatrix) -> dict[str, str]:
    if matrix.stopped:
        return {}
    found, _ = rank_intervals(matrix, np.random.default_rng(RANK_SEED))
    return {one.policy: f"{one.low}" if one.low == one.high else f"{one.low}–{one.high}" for one in found}


def _difference(matrix: OutcomeMatrix, policy: str, options: TableOptions) -> Cell | None:
    baselines = [one for one in matrix.policies if one == options.baseline]
    if not baselines:
        wanted = f"{options.baseline!r}" if options.baseline else "none"
        raise ResultsError(
            f"Differences are counted from a baseline: wanted one of {', '.join(matrix.policies)}; got {wanted}."
        )
    if policy == options.baseline:
        return None
    found = contrast(matrix, policy, options.baseline)
    return None if found is None else percent_cell(found.difference, found.interval, signed=True)


def _quoted(
    sections: Sequence[_Section], published: Sequence[Published], options: TableOptions
) -> dict[str, list[Published]]:
    """Published rates that have a line in the table, by heading: one for each policy, source and protocol."""
    known = {name for section in sections for line in section.lines for name in line.quoted}
    found: dict[tuple[str, str, str], list[Published]] = {}
    for one in published if options.quote else ():
        if one.tasks in known:
            found.setdefault((one.policy, one.source, one.protocol), []).append(one)
    wanted = [name for name in options.policies if name.endswith("(quoted)")]
    headed: dict[str, list[Published]] = {}
    for (policy, _, _), rates in found.items():
        name = f"{options.names.get(policy, policy)} (quoted)"
        while name in headed:
            name = name.replace(" (quoted)", "' (quoted)")
        if not wanted or f"{policy} (quoted)" in wanted:
            headed[name] = rates
    return headed


def _quoted_cells(line: Line, quoted: Mapping[str, Sequence[Published]]) -> Iterator[Cell | str]:
    for rates in quoted.values():
        here = [one for one in rates if one.tasks in line.quoted]
        yield percent_cell(here[0].rate, counts=f"{here[0].successes}/{here[0].episodes}") if here else NONE


def _title(sections: Sequence[_Section], options: TableOptions) -> str:
    what = "Success rate" if options.unit == "fraction" else "Success in %"
    if set(options.parts) <= {"difference", "interval", "letters"}:
        what = (
            "Difference of success rates" if options.unit == "fraction" else "Difference of success in points"
        )
    if len(sections) > 1:
        return f"{what}, means over the tasks of a suite"
    return f"{what}, protocol {sections[0].protocol}"


def _caption(sections: Sequence[_Section], options: TableOptions) -> str:
    title, _, _ = _title(sections, options).partition(",")
    what = title.replace("Success in %", "Success rate in %")
    if len(sections) > 1:
        return f"{what}, mean over the tasks of each suite."
    section = sections[0]
    suite = options.names.get(section.suite, section.suite)
    protocol = options.names.get(section.protocol, section.protocol)
    return f"{what} on {counted(len(section.tasks), 'task')} of {suite} (protocol {protocol})."
