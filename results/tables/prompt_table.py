"""Success rates with instructions from several sources, with paired differences to the suite's choice."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from simloop.results.records.prompt_labels import SUITES_CHOICE, split_prompt
from simloop.results.records.runs import Runs
from simloop.results.records.variant_names import UNCHANGED, split_variant
from simloop.results.statistics.contrasts import Contrast
from simloop.results.statistics.early_stopping import sequential_decisions
from simloop.results.statistics.families import adjusted
from simloop.results.statistics.scores import MeanScore, score_means, score_tasks
from simloop.results.tables.grid import NONE, Grid, Row, legend, percent_cell
from simloop.results.tables.options import DEFAULT_OPTIONS, TableOptions
from simloop.results.tables.perturbation_curves import change_between, rate_and_change
from simloop.results.tables.statements import family_of_changes, p_text
from simloop.results.tables.success_frame import counts_text

COLUMNS = (
    "suite", "protocol", "tasks", "policy", "prompt", "completed", "successes", "errors", "rate", "low", "high",
    "change", "change_low", "change_high", "p_value", "p_holm", "paired",
)  # fmt: skip


@dataclass(frozen=True)
class PromptScore:
    """A policy on a group of tasks with the instructions of one source."""

    protocol: str
    """Label of the protocol that leaves the choice to the suite."""
    tasks: str
    """The group, `all` if the names of tasks state none."""
    source: str
    mean: MeanScore
    change: Contrast | None
    """Against the same episodes with the suite's choice; None for these themselves, and without them."""
    p_holm: float | None = None
    """p-value of the change, adjusted by Holm over all changes of the table, with errors counted against it."""


def prompt_scores(runs: Runs) -> list[PromptScore]:
    """Scores by suite, protocol, group, policy and source; none if no protocol names the source of instructions."""
    found = [score for group in _groups(runs) for score in _scores(*group)]
    changes = [score.change for score in found if score.change is not None]
    p_values = iter(adjusted(changes, len(changes)))
    return [
        score if score.change is None else dataclasses.replace(score, p_holm=next(p_values))
        for score in found
    ]


def _groups(runs: Runs) -> list[tuple[str, Runs]]:
    """The runs divided by what the names of tasks state: a group of LIBERO-PRO, or an axis of LIBERO-plus."""
    groups = runs.episodes["task"].map(_group)
    return [
        (str(name), dataclasses.replace(runs, episodes=runs.episodes[groups == name]))
        for name in sorted(set(groups))
    ]


def _group(task: str) -> str:
    axis = split_variant(task)[1]
    if axis != UNCHANGED:
        return axis
    return task.partition("-")[0] if "-" in task else "all"


def _scores(group: str, runs: Runs) -> list[PromptScore]:
    tasks = set(runs.episodes["task"])
    scored = [score for score in score_tasks(runs.episodes, runs.plans) if score.task in tasks]
    means = {(mean.suite, *split_prompt(mean.protocol), mean.policy): mean for mean in score_means(scored)}
    several = {(suite, base, policy) for suite, base, source, policy in means if source != SUITES_CHOICE}
    orders = {(one.suite, one.protocol): one.order for one in sequential_decisions(runs)}
    found = []
    for (suite, base, source, policy), mean in sorted(
        means.items(), key=lambda item: (item[0][0], item[0][1], item[0][3], item[0][2] != SUITES_CHOICE)
    ):
        if (suite, base, policy) in several:
            plain = means.get((suite, base, SUITES_CHOICE, policy))
            compared = plain is not None and source != SUITES_CHOICE
            change = change_between(runs, mean, plain, orders) if plain is not None and compared else None
            found.append(PromptScore(base, group, source, mean, change))
    return found


def prompt_grids(
    scores: Sequence[PromptScore], labels: Mapping[str, str], options: TableOptions = DEFAULT_OPTIONS
) -> list[Grid]:
    """A grid for each protocol: a group of rows per group of tasks and policy, a row per source."""
    changes = [score.change for score in scores if score.change is not None]
    read = legend(options, "95 % interval", "successes / completed episodes")
    grids = []
    for protocol in dict.fromkeys(score.protocol for score in scores):
        rows: dict[tuple[str, str], list[Row]] = {}
        for score in scores:
            if score.protocol == protocol:
                row = _row(labels[score.mean.policy], score)
                rows.setdefault((score.tasks, score.mean.policy), []).append(row)
        grids.append(
            Grid(
                f"Success in % by source of the instruction, protocol {protocol}",
                ("tasks", "policy", "prompt", "success", "change", "p (Holm)"),
                tuple(map(tuple, rows.values())),
                (
                    "prompt: where the instruction is written that the policy received, suite for the choice of the "
                    "suite; success: mean over these tasks; change: in points, against the suite's choice on the same "
                    f"episodes of the same policy. {read}".rstrip(),
                    family_of_changes(len(changes)),
                ),
                options=options,
            )
        )
    return grids


def prompt_frame(scores: Sequence[PromptScore], labels: Mapping[str, str]) -> pd.DataFrame:
    """A row per score. Rates and changes are fractions."""
    rows = [
        {
            "suite": score.mean.suite,
            "protocol": score.protocol,
            "tasks": score.tasks,
            "policy": labels[score.mean.policy],
            "prompt": score.source,
            **rate_and_change(score.mean, score.change, score.p_holm),
        }
        for score in scores
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(label: str, score: PromptScore) -> Row:
    mean, change = score.mean, score.change
    return (
        score.tasks,
        label,
        score.source,
        percent_cell(mean.rate, mean.interval(), counts_text(mean)),
        NONE if change is None else percent_cell(change.difference, change.interval, signed=True),
        NONE if score.p_holm is None else p_text(score.p_holm),
    )
