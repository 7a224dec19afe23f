"""Success rates: a grid of tasks by policies to read, and a frame with a row per score to compute with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from simloop.results.records.planned import PlannedEpisodes
from simloop.results.records.records import policy_label
from simloop.results.statistics.early_stopping import SequentialDecision
from simloop.results.statistics.families import (
    NO_STANDING,
    Standing,
    comparisons_of,
    standings,
)
from simloop.results.statistics.intervals import clopper_pearson, jeffreys
from simloop.results.statistics.outcome_matrix import OutcomeMatrix
from simloop.results.statistics.scores import MeanScore, Score, score_means
from simloop.results.tables.decisions import decision_sentence
from simloop.results.tables.grid import DEFAULT_STYLE, Cell, Grid, Row, TableStyle, percent_cell
from simloop.results.tables.statements import counted

COLUMNS = (
    "suite", "protocol", "policy", "weights", "level", "task", "episodes", "completed", "successes",
    "failures", "errors", "undecodable", "invalid_actions", "missing", "rate", "low", "high", "interval",
    "rate_if_errors_fail", "rate_if_errors_succeed", "clopper_pearson_low", "clopper_pearson_high", "jeffreys_low",
    "jeffreys_high", "new_tasks_low", "new_tasks_high",
)  # fmt: skip


def success_grids(
    scores: Sequence[Score],
    plans: Sequence[PlannedEpisodes] = (),
    outcomes: Mapping[tuple[str, str], OutcomeMatrix] | None = None,
    decisions: Sequence[SequentialDecision] = (),
    style: TableStyle = DEFAULT_STYLE,
) -> list[Grid]:
    """A grid for each suite and protocol, so that no column mixes protocols: a row per task, then the mean.

    Args:
      outcomes: Outcomes of the same episodes by (suite, protocol). With them, every row with a significant
        difference has a compact letter display, and a policy that is significantly better than all others
        is bold. The means of all grids are one family of comparisons, and the tasks of all grids are another.
      decisions: Decisions of the runs with a stopping rule.
    """
    means = score_means(scores)
    places = _places(list((outcomes or {}).values()))
    return [
        _grid([m for m in means if (m.suite, m.protocol) == key], plans, places, decisions, style)
        for key in dict.fromkeys((mean.suite, mean.protocol) for mean in means)
    ]


@dataclass(frozen=True)
class _Places:
    """Letters and best policies of all rows of all grids."""

    of: Mapping[tuple[str, str, str], Standing]
    """By suite, protocol and task; the mean has the task ``""``."""
    families: str
    """The sizes of the two families of comparisons, as part of a sentence; empty if nothing is compared."""


def _places(together: Sequence[OutcomeMatrix]) -> _Places:
    by_task = [one.of_tasks([task]) for one in together for task in one.tasks]
    keys = [(one.suite, one.protocol, "") for one in together]
    keys += [(one.suite, one.protocol, one.tasks[0]) for one in by_task]
    found = [*standings(together), *standings(by_task)]
    families = (
        f"Holm correction over the {counted(comparisons_of(together), 'comparison')} of means in these tables and, "
        f"with an error rate of its own, over the {comparisons_of(by_task)} of tasks"
    )
    return _Places(
        dict(zip(keys, found, strict=True)),
        families if comparisons_of(together) else "",
    )


def success_frame(scores: Sequence[Score]) -> pd.DataFrame:
    """A row per policy and task and a row per mean; the column `level` is `task` or `mean`. Rates are in [0, 1]."""
    rows = [_row(score, "task", score.task) for score in scores]
    rows += [_row(mean, "mean", "") for mean in score_means(scores)]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"missing": "Int64"})


def counts_text(score: Score | MeanScore) -> str:
    """Successes / completed episodes, and the number of errors if there are any: `27/38 +2 err`."""
    return f"{score.successes}/{score.completed}" + (f" +{score.errors} err" if score.errors else "")


def _row(score: Score | MeanScore, level: str, task: str) -> dict[str, Any]:
    interval, bounds = score.interval(), score.bounds
    counts = (score.successes, score.completed)
    fixed = isinstance(score, Score) and score.completed > 0 and not score.anytime
    other = {
        "clopper_pearson": clopper_pearson(*counts) if fixed else None,
        "jeffreys": jeffreys(*counts) if fixed else None,
        "new_tasks": score.interval_for_new_tasks() if isinstance(score, MeanScore) else None,
    }
    return {
        "suite": score.suite,
        "protocol": score.protocol,
        "policy": policy_label(score.policy, score.weights),
        "weights": score.weights,
        "level": level,
        "task": task,
        "episodes": score.episodes,
        "completed": score.completed,
        "successes": score.successes,
        "failures": score.failures,
        "errors": score.errors,
        "undecodable": score.undecodable,
        "invalid_actions": score.invalid_actions,
        "missing": score.missing,
        "rate": score.rate,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "interval": score.method,
        "rate_if_errors_fail": bounds.low if bounds else None,
        "rate_if_errors_succeed": bounds.high if bounds else None,
        **{f"{name}_low": ends.low if ends else None for name, ends in other.items()},
        **{f"{name}_high": ends.high if ends else None for name, ends in other.items()},
    }


def _grid(
    means: Sequence[MeanScore],
    plans: Sequence[PlannedEpisodes],
    places: _Places,
    decisions: Sequence[SequentialDecision],
    style: TableStyle,
) -> Grid:
    first = means[0]
    tasks = [score.task for score in first.tasks]
    standings = [places.of.get((first.suite, first.protocol, task), NO_STANDING) for task in (*tasks, "")]
    columns: list[tuple[Score | MeanScore, ...]] = [(*mean.tasks, mean) for mean in means]
    names = [*tasks, f"mean of {len(tasks)}"]
    rows: list[Row] = [
        (name, *(_cell(score, row) for score in of_row))
        for name, of_row, row in zip(names, zip(*columns, strict=True), standings, strict=True)
    ]
    here = [p for p in plans if p.suite == first.suite and p.protocol in ("", first.protocol)]
    ruled = [one for one in decisions if (one.suite, one.protocol) == (first.suite, first.protocol)]
    notes = [
        *_reading_notes(means, standings, places.families, style),
        *(note for mean in means for note in _policy_notes(mean)),
        *_run_notes(means, here),
        *(f"Stopping rule: {decision_sentence(one, len(decisions))}" for one in ruled),
        *_undecidable(here, ruled),
    ]
    return Grid(
        title=f"Success in %, protocol {first.protocol}",
        columns=("task", *(policy_label(mean.policy, mean.weights) for mean in means)),
        groups=(tuple(rows[:-1]), (rows[-1],)),
        notes=tuple(notes),
        style=style,
    )


def _cell(score: Score | MeanScore, row: Standing) -> Cell:
    letters = row.letters.get(score.policy, "") if row.differ else ""
    return percent_cell(
        score.rate, score.interval(), counts_text(score), letters=letters, bold=score.policy == row.best
    )


def _reading_notes(
    means: Sequence[MeanScore], standings: Sequence[Standing], families: str, style: TableStyle
) -> Iterator[str]:
    """Explain the intervals, the counts and the letters."""
    methods = " or ".join(sorted({mean.method for mean in means if not mean.lacking}))
    weighing = "The mean weighs all tasks equally"
    if style.interval != "none":
        weighing += f"; its interval ({methods}) holds for these tasks"
    kinds = dict.fromkeys(
        "confidence sequence" if mean.anytime else "Wilson interval"
        for mean in sorted(means, key=lambda mean: mean.anytime)
    )
    legend = style.legend(f"95 % {' or '.join(kinds)}", "successes / completed episodes")
    if note := " ".join(filter(None, (legend, f"{weighing}." if methods else ""))):
        yield note
    if any(mean.anytime for mean in means) and style.interval != "none":
        yield (
            "Where a stopping rule decides the number of episodes, intervals are confidence sequences: they hold at "
            "every look."
        )
    yield from _letter_notes(means, standings, families, style)
    new = {policy_label(mean.policy, mean.weights): mean.interval_for_new_tasks() for mean in means}
    known = [f"{name} [{100 * ends.low:.1f}, {100 * ends.high:.1f}]" for name, ends in new.items() if ends]
    if known and style.interval != "none":
        yield (
            "Mean for new tasks of the same kind (95 % bootstrap interval over tasks; too narrow for fewer than "
            f"about 15 tasks): {', '.join(known)}."
        )


def _letter_notes(
    means: Sequence[MeanScore], standings: Sequence[Standing], families: str, style: TableStyle
) -> Iterator[str]:
    *_, of_means = standings
    if of_means.apart:
        labels = {mean.policy: policy_label(mean.policy, mean.weights) for mean in means}
        yield f"Not compared with every other policy: {_listed([labels[name] for name in of_means.apart])}."
    if not any(row.letters for row in standings):
        return
    level = f"at the 5 % level ({families})"
    if any(mean.errors for mean in means):
        level += ", with errors counted against the better policy"
    if not any(row.differ for row in standings):
        yield f"No two policies of a row differ significantly {level}."
        return
    if style.letters:
        others = "" if all(row.differ for row in standings) else ", nor do those of a row without letters"
        yield f"Policies of a row that share a letter do not differ significantly {level}{others}."
    if any(row.best for row in standings):
        better = "Bold, where typeset: significantly better than every other policy"
        yield f"{better}." if style.letters else f"{better} {level}."


def _policy_notes(mean: MeanScore) -> Iterator[str]:
    """What is missing from the rates of a policy."""
    name = policy_label(mean.policy, mean.weights)
    if mean.lacking:
        yield f"{name} has no mean: no completed episode of {_listed(mean.lacking)}."
    if mean.errors:
        tasks = [f"{score.task}: {score.errors}" for score in mean.tasks if score.errors]
        note = (
            f"Excluded from the rates of {name}: {mean.errors} of {mean.episodes} episodes, which ended in an "
            f"error ({_listed(tasks)})"
        )
        if bounds := mean.bounds:
            note += (
                f"; the mean would be {100 * bounds.low:.1f} if all of them were failures, {100 * bounds.high:.1f} "
                "if all were successes"
            )
        yield f"{note}."
    if mean.missing:
        yield f"Not yet finished: {mean.missing} of {mean.episodes + mean.missing} planned episodes of {name}."
    if mean.invalid_actions:
        tasks = [f"{score.task}: {score.invalid_actions}" for score in mean.tasks if score.invalid_actions]
        yield (
            f"{name}: {mean.invalid_actions} of {mean.completed} completed episodes are failures because an action was "
            f"nan or infinite ({_listed(tasks)})."
        )
    if mean.undecodable:
        yield (
            f"{name}: in {mean.undecodable} of {mean.completed} completed episodes, the tokens of a query could not "
            "be decoded to actions."
        )


def _run_notes(means: Sequence[MeanScore], plans: Sequence[PlannedEpisodes]) -> Iterator[str]:
    """What the plans of the runs left out."""
    if any(plan.stops_early == "limit" for plan in plans):
        yield "The run was limited to the first episodes of its plan."
    played = {mean.policy for mean in means}
    wanted = dict.fromkeys(policy for plan in plans for policy in plan.policies)
    if absent := [policy for policy in wanted if policy not in played]:
        yield f"Policies without a finished episode: {_listed(absent)}."
    if any(mean.weights == "untrained" for mean in means):
        yield "(untrained): random weights, so the rates do not characterise the model."
    if any(mean.weights == "unknown" for mean in means):
        yield (
            "(served): another program answered the queries. Its weights are not known, and its episodes need not "
            "repeat (provenance.json has what it told)."
        )


def _undecidable(plans: Sequence[PlannedEpisodes], ruled: Sequence[SequentialDecision]) -> Iterator[str]:
    if any(plan.stops_early == "rule" for plan in plans) and not ruled:
        yield "The run had a stopping rule without a recorded order of pairs, so its policies are not compared."


def _listed(names: Sequence[str], limit: int = 5) -> str:
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
