"""Success rates of LIBERO-plus by what was changed, with differences to the unchanged tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from simloop.results.records.runs import Runs
from simloop.results.records.variant_names import UNCHANGED, split_variant
from simloop.results.statistics.clustered import ClusteredMean, clustered_mean
from simloop.results.statistics.intervals import Interval, wilson
from simloop.results.statistics.multiplicity import holm
from simloop.results.tables.grid import NONE, Grid, Row, legend, percent_cell
from simloop.results.tables.options import DEFAULT_OPTIONS, TableOptions
from simloop.results.tables.statements import counted, p_text

AXES = (UNCHANGED, "camera", "robot", "language", "noise")
COLUMNS = (
    "suite", "protocol", "policy", "axis", "variants", "completed", "successes", "errors", "rate", "low", "high",
    "change", "change_low", "change_high", "pairs", "clusters", "p_value", "p_holm",
)  # fmt: skip


@dataclass(frozen=True)
class AxisScore:
    """A policy on all variants of an axis."""

    suite: str
    protocol: str
    policy: str
    axis: str
    variants: int
    """Number of tasks."""
    successes: int
    completed: int
    errors: int
    pairs: int = 0
    """Completed episodes of which the unchanged task was completed from the same initial state."""
    change: ClusteredMean | None = None
    """Against these, with clusters of the unchanged tasks; None for the unchanged tasks and without them."""
    p_holm: float | None = None
    """p-value of the change, adjusted by Holm over all changes of the table."""

    @property
    def rate(self) -> float | None:
        """Successes of completed episodes."""
        return self.successes / self.completed if self.completed else None

    @property
    def interval(self) -> Interval | None:
        """Wilson's interval, for these variants."""
        return wilson(self.successes, self.completed) if self.completed else None


def axis_scores(runs: Runs) -> list[AxisScore]:
    """Scores by suite, protocol, policy and axis; none if no task is a variant."""
    split = pd.DataFrame(
        runs.episodes["task"].map(split_variant).tolist(),
        columns=["origin", "axis"],
        index=runs.episodes.index,
    )
    episodes = runs.episodes.join(split)
    varied = set(episodes.loc[episodes["axis"] != UNCHANGED, "suite"])
    parts = episodes[episodes["suite"].isin(varied)].groupby(["suite", "protocol", "policy"], sort=False)
    scores = [
        score
        for (suite, protocol, policy), part in parts
        for score in _scores(str(suite), str(protocol), str(policy), part)
    ]
    p_values = iter(holm([score.change.p_value for score in scores if score.change is not None]))
    return [
        score if score.change is None else dataclasses.replace(score, p_holm=next(p_values))
        for score in scores
    ]


def _scores(suite: str, protocol: str, policy: str, part: pd.DataFrame) -> Iterator[AxisScore]:
    completed = part[part["outcome"] != "error"]
    completed = completed.assign(solved=completed["outcome"] == "success")
    unchanged = completed[completed["axis"] == UNCHANGED].set_index(["origin", "episode"])["solved"]
    for axis in AXES:
        here, every = completed[completed["axis"] == axis], part[part["axis"] == axis]
        if every.empty:
            continue
        score = AxisScore(
            suite,
            protocol,
            policy,
            axis,
            every["task"].nunique(),
            int(here["solved"].sum()),
            len(here),
            len(every) - len(here),
        )
        pairs = here.join(unchanged.rename("before"), on=["origin", "episode"], how="inner")
        if axis != UNCHANGED and len(pairs):
            differences = pairs["solved"].to_numpy(float) - pairs["before"].to_numpy(float)
            clusters = np.unique(pairs["origin"].to_numpy(str), return_inverse=True)[1]
            change = clustered_mean(differences, clusters)
            score = dataclasses.replace(score, pairs=len(pairs), change=change)
        yield score


def axis_grids(
    scores: Sequence[AxisScore], labels: Mapping[str, str], options: TableOptions = DEFAULT_OPTIONS
) -> list[Grid]:
    """A grid for each protocol: a group of rows per policy, a row per axis."""
    changes = sum(score.change is not None for score in scores)
    read = legend(options, "95 % interval", "successes / completed episodes")
    grids = []
    for suite, protocol in dict.fromkeys((score.suite, score.protocol) for score in scores):
        rows: dict[str, list[Row]] = {}
        for score in scores:
            if (score.suite, score.protocol) == (suite, protocol):
                rows.setdefault(score.policy, []).append(_row(labels[score.policy], score))
        grids.append(
            Grid(
                f"Success in % by what was changed, protocol {protocol}",
                ("policy", "axis", "tasks", "success", "change", "p (Holm)"),
                tuple(map(tuple, rows.values())),
                (
                    "success: of all episodes, so that variants weigh equally; change: in points, against the "
                    "unchanged task from the same initial state, with an interval that counts all variants of a task "
                    f"as one cluster. {read}".rstrip(),
                    f"p (Holm): adjusted for the {counted(changes, 'change')} of all these tables; episodes with "
                    "errors are left out.",
                ),
                labels=2,
                options=options,
            )
        )
    return grids


def axis_frame(scores: Sequence[AxisScore], labels: Mapping[str, str]) -> pd.DataFrame:
    """A row per score. Rates and changes are fractions."""
    rows = [
        {
            **{name: getattr(score, name) for name in COLUMNS if hasattr(score, name)},
            "policy": labels[score.policy],
            "low": score.interval and score.interval.low,
            "high": score.interval and score.interval.high,
            "change": score.change and score.change.difference,
            "change_low": score.change and score.change.interval.low,
            "change_high": score.change and score.change.interval.high,
            "clusters": score.change and score.change.clusters,
            "p_value": score.change and score.change.p_value,
        }
        for score in scores
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(label: str, score: AxisScore) -> Row:
    counts = f"{score.successes}/{score.completed}" + (f" +{score.errors} err" if score.errors else "")
    change = score.change
    return (
        label,
        score.axis,
        str(score.variants),
        percent_cell(score.rate, score.interval, counts),
        NONE if change is None else percent_cell(change.difference, change.interval, signed=True),
        NONE if score.p_holm is None else p_text(score.p_holm),
    )
