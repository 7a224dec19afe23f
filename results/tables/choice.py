"""Choose and name the policies, tasks and groups of a table."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from simloop.results.errors import ResultsError
from simloop.results.records.runs import Runs
from simloop.results.tables.grid import Grid
from simloop.results.tables.options import TableOptions

_WITH_FOLDER = re.compile(r"(?P<policy>[^@]+)@(?P<folder>.*/)(?P<last>[^/]+)/*(?P<remark>( \(\w+\))?)")


def matching(patterns: Sequence[str], names: Iterable[str], kind: str) -> list[str]:
    """The names that match any of the patterns, in the order of the patterns; all names without patterns.

    Args:
      kind: What the names are, for the error.

    Raises:
      ResultsError: If a pattern matches none of the names.
    """
    names = list(names)
    found: dict[str, None] = {} if patterns else dict.fromkeys(names)
    for pattern in patterns:
        here = [name for name in names if name == pattern or fnmatchcase(name, pattern)]
        if not here:
            raise ResultsError(f"No {kind} matches {pattern!r}; there are {', '.join(names)}.")
        found |= dict.fromkeys(here)
    return list(found)


def chosen_policies(runs: Runs, options: TableOptions) -> list[str]:
    """Policies to show: those of the options in their order, else all as planned or by name.

    Raises:
      ResultsError: If the runs have no episodes of one of them.
    """
    if options.policies:
        label_of = runs.labels
        by_label = {label: policy for policy, label in label_of.items()}
        names = list(dict.fromkeys([*runs.policies, *by_label]))
        measured = [one for one in options.policies if not one.endswith("(quoted)")]
        found = matching(measured, names, "policy") if measured else []
        return list(dict.fromkeys(by_label.get(name, name) for name in found))
    return sorted(runs.policies) if options.order == "name" else list(runs.policies)


def chosen_tasks(tasks: Sequence[str], options: TableOptions) -> list[str]:
    """Those of the tasks that are shown; all of them if no pattern of the options matches any."""
    patterns = [one for one in options.tasks if any(name == one or fnmatchcase(name, one) for name in tasks)]
    return matching(patterns, tasks, "task")


def require_tasks(runs: Runs, options: TableOptions) -> None:
    """Check that every task of the options has been played.

    Raises:
      ResultsError: If one has not.
    """
    if options.tasks:
        played = dict.fromkeys(
            [*runs.episodes["task"], *(task for plan in runs.plans for task in plan.tasks)]
        )
        matching(options.tasks, played, "task")


def groups_of(
    suite: str, tasks: Sequence[str], runs: Runs, options: TableOptions
) -> dict[str, tuple[str, ...]]:
    """Tasks of every group: those of the options, else the sets of tasks that runs of this suite played by name.

    Raises:
      ResultsError: If a group of the options has no task in any suite.
    """
    if options.groups:
        every = set(runs.episodes["task"])
        found = {}
        for name, patterns in options.groups.items():
            here = matching([p for p in patterns.split() if matching_any(p, tasks)], tasks, "task")
            if not any(matching_any(pattern, every) for pattern in patterns.split()):
                raise ResultsError(
                    f"The group {name} has no task: none of {', '.join(sorted(every))} is {patterns}."
                )
            if any(matching_any(pattern, tasks) for pattern in patterns.split()):
                found[name] = tuple(here)
        return found
    named: dict[str, list[str]] = {}
    for number, config in enumerate(runs.configs):
        experiment = config.get("experiment", {})
        chosen = experiment.get("tasks", ())
        if experiment.get("suite") == suite and len(chosen) == 1 and chosen[0] not in tasks:
            played = runs.episodes.loc[runs.episodes["run"] == number, "task"]
            here = config.get("tasks") or list(played.unique())
            named.setdefault(chosen[0], []).extend(here)
    return {name: tuple(task for task in tasks if task in set(here)) for name, here in named.items()}


def matching_any(pattern: str, names: Iterable[str]) -> bool:
    """Whether a pattern matches any of the names."""
    return any(name == pattern or fnmatchcase(name, pattern) for name in names)


def printed_names(labels: Iterable[str], options: TableOptions) -> dict[str, str]:
    """The name to print for every label of a policy: that of the options, else without the folder of its checkpoint.

    The last part of the folder stays where several policies would have the same name.
    """
    labels = list(labels)
    parts = {label: _WITH_FOLDER.fullmatch(label) for label in labels}
    short = {label: (m["policy"] + m["remark"]) if (m := parts[label]) else label for label in labels}
    for template in ("{0[policy]}@{0[last]}{0[remark]}", "{0[policy]}@{0[folder]}{0[last]}{0[remark]}"):
        twice = {name for name, count in Counter(short.values()).items() if count > 1}
        short |= {
            label: template.format(m) for label, m in parts.items() if m is not None and short[label] in twice
        }
    return {
        label: options.names.get(label) or options.names.get(_plain(label)) or short[label]
        for label in labels
    }


def printed_policies(runs: Runs, options: TableOptions) -> dict[str, str]:
    """The name to print for every policy of the runs."""
    printed = printed_names(runs.labels.values(), options)
    return {policy: printed[label] for policy, label in runs.labels.items()}


def _plain(label: str) -> str:
    return re.sub(r" \((untrained|served|quoted)\)$", "", label)


def naming_notes(names: Mapping[str, str]) -> Iterator[str]:
    """Say which checkpoint is behind a printed name."""
    renamed = [f"{new} is {old}" for old, new in names.items() if new != old and "@" in old]
    if renamed:
        yield f"{'; '.join(renamed)}."


def selected(grid: Grid, labels: Mapping[str, str], options: TableOptions) -> Grid:
    """A table with the chosen policies and tasks, under their printed names.

    Args:
      labels: Printed name of every chosen policy by its label, in order.
    """
    first = grid.columns[0]
    known = _known_labels(grid)
    groups = [list(group) for group in grid.groups]
    if first == "policy":
        kept = [[row for row in group if row[0] in labels] for group in groups]
        renamed = [[(labels[str(row[0])], *row[1:]) for row in group] for group in kept]
        order = list(labels.values())
        made = [sorted(group, key=lambda row: order.index(str(row[0]))) for group in renamed if group]
        made.sort(key=lambda group: order.index(str(group[0][0])))
        hidden = known - set(labels)
        grid = dataclasses.replace(grid, groups=tuple(map(tuple, made)))
    else:
        fixed = [i for i, name in enumerate(grid.columns) if name in (first, "limit")]
        columns = fixed + [grid.columns.index(label) for label in labels if label in grid.columns]
        hidden = {name for name in grid.columns if name not in labels} - {grid.columns[i] for i in fixed}
        tasks = chosen_tasks([str(row[0]) for row in grid.rows], options)
        rows = {str(row[0]): tuple(row[i] for i in columns) for row in grid.rows}
        grid = dataclasses.replace(
            grid,
            columns=tuple(labels.get(grid.columns[i], grid.columns[i]) for i in columns),
            groups=(tuple((options.names.get(task, task), *rows[task][1:]) for task in tasks),),
        )
    notes = (f"Evaluated and not shown: {', '.join(sorted(hidden))}.",) if hidden else ()
    return dataclasses.replace(grid, notes=(*grid.notes, *notes))


def _known_labels(grid: Grid) -> set[str]:
    return {str(row[0]) for row in grid.rows}
