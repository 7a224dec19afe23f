"""Published success rates, each with where it comes from, and how ours compare with them.

A published number is one run's, with an error of its own. So it is compared like a second policy
that met other episodes: what counts is whether the two are equivalent within a margin, not whether
ours reaches the number.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Literal

import pandas as pd

from simloop.results.errors import ResultsError
from simloop.results.records.runs import Runs
from simloop.results.statistics.contrasts import MARGIN
from simloop.results.statistics.intervals import Interval
from simloop.results.statistics.scores import MeanScore, score_means, score_tasks
from simloop.results.statistics.unpaired import margin_p_value, miettinen_nurminen, unpaired_p_value
from simloop.results.tables.statements import p_text, signed
from simloop.results.tables.typesetting import Grid

Verdict = Literal["equivalent", "lower", "higher", "open", "other rules"]


@dataclass(frozen=True)
class Published:
    """One published success rate.

    Raises:
      ResultsError: If the rate or the number of episodes cannot be.
    """

    policy: str
    """The preset, without the folder of a checkpoint."""
    tasks: str
    """A suite, or a group of its tasks, as in the `tasks` of an experiment."""
    rate: float
    """Mean over the tasks, in [0, 1]."""
    episodes: int
    """Over all tasks."""
    protocol: str
    source: str
    rules: str = ""
    """Label of the protocol of ours that follows these rules, such as `libero/openpi-v1`; empty where none is
    known to. Rates by other rules get no verdict."""

    def __post_init__(self) -> None:
        """Refuse rates that are none."""
        if not 0 <= self.rate <= 1 or self.episodes < 1:
            raise ResultsError(
                f"A published rate lies in [0, 1], of at least 1 episode; got {self.rate} of {self.episodes} for "
                f"{self.policy} on {self.tasks} ({self.source})."
            )

    @property
    def successes(self) -> int:
        """The nearest whole number of successes."""
        return round(self.rate * self.episodes)


_OPENPI = "openpi examples/libero: init states 0-49, replan 5, 256 px rotated, 10 waiting steps"
OPENPI_RULES = "libero/openpi-v1"
_OPENPI_README = "openpi, examples/libero/README.md"
_OPENPI_BEFORE = f"{_OPENPI_README} before commit 35106c9"


def _libero(
    policy: str, source: str, spatial: float, object_: float, goal: float, ten: float
) -> tuple[Published, ...]:
    rates = {"libero_spatial": spatial, "libero_object": object_, "libero_goal": goal, "libero_10": ten}
    return tuple(
        Published(policy, tasks, percent / 100, 500, _OPENPI, source, OPENPI_RULES)
        for tasks, percent in rates.items()
    )


PUBLISHED: tuple[Published, ...] = (
    *_libero("pi0_libero", _OPENPI_BEFORE, 96.8, 98.8, 95.8, 85.2),
    *_libero("pi0_fast_libero", _OPENPI_BEFORE, 96.4, 96.8, 88.6, 60.2),
    *_libero("pi05_libero", _OPENPI_README, 98.8, 98.2, 98.0, 92.4),
)
"""Ten tasks with 50 initial states each per row."""


@dataclass(frozen=True)
class Reproduction:
    """Our rate beside a published one."""

    published: Published
    policy: str
    protocol: str
    successes: int
    episodes: int
    errors: int
    interval: Interval
    """95 % interval of the difference, ours less published."""
    p_value: float
    """Two-sided, of equal rates."""
    equivalence_p_value: float
    verdict: Verdict

    @property
    def difference(self) -> float:
        """Ours less published."""
        return self.successes / self.episodes - self.published.successes / self.published.episodes


def read_published(path: str | Path) -> tuple[Published, ...]:
    """Published rates from a CSV file with the columns policy, tasks, rate, episodes, protocol, source.

    Raises:
      ResultsError: If the file is not there, or a row is not of that kind, naming the line.
    """
    wanted = [field.name for field in fields(Published) if field.default is MISSING]
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ResultsError(
            f"Cannot read the published rates in {path}: {error.strerror or error}."
        ) from error
    reader = csv.DictReader(text.splitlines())
    if sorted(reader.fieldnames or ()) != sorted(wanted):
        raise ResultsError(
            f"{path}: wanted the columns {', '.join(wanted)}; got {', '.join(reader.fieldnames or ())}."
        )
    rows = []
    for row in reader:
        try:
            rate, episodes = float(row["rate"]), int(row["episodes"])
            rows.append(
                Published(row["policy"], row["tasks"], rate, episodes, row["protocol"], row["source"])
            )
        except (TypeError, ValueError) as error:
            raise ResultsError(f"{path}, line {reader.line_num}: {error}") from error
    return tuple(rows)


def reproductions(
    runs: Runs, published: Iterable[Published] = PUBLISHED, *, margin: float = MARGIN, alpha: float = 0.05
) -> list[Reproduction]:
    """Our rates beside the published ones of the same presets on the same tasks, as far as there are any.

    A run is of the same tasks if its suite or its experiment's only task or group has the published name.
    Policies with a task of which no episode was completed are left out: they have no mean.
    """
    found = []
    groups = _groups(runs)
    for mean in score_means(score_tasks(runs.episodes, runs.plans)):
        if mean.lacking:
            continue
        preset = mean.policy.partition("@")[0].rpartition(":")[2]
        for one in published:
            if one.policy == preset and one.tasks in groups.get((mean.policy, mean.suite), ()):
                found.append(_reproduction(one, mean, margin, alpha))
    return found


def reproduction_grid(
    found: Sequence[Reproduction], labels: Mapping[str, str], margin: float = MARGIN
) -> Grid:
    """Measured beside published rates, with what may be said of the two."""
    rows = tuple(
        (
            labels[one.policy],
            one.published.tasks,
            f"{100 * one.successes / one.episodes:.1f} ({one.successes}/{one.episodes})",
            f"{100 * one.published.rate:.1f} ({one.published.successes}/{one.published.episodes})",
            signed(one.difference),
            f"[{signed(one.interval.low)}, {signed(one.interval.high)}]",
            p_text(one.p_value),
            one.verdict,
        )
        for one in found
    )
    notes = [
        f"Difference: measured less published, in points, with its 95 % interval (Miettinen-Nurminen, unpaired); p "
        f"of equal rates. Equivalent: within ± {100 * margin:g} points by two one-sided tests at the 5 % level; "
        "open: neither equivalent nor found to differ; other rules: by another protocol, so not to be compared."
    ]
    for protocol, source in dict.fromkeys((one.published.protocol, one.published.source) for one in found):
        notes.append(f"Published: {source}; protocol: {protocol}.")
    for protocol in dict.fromkeys(one.protocol for one in found):
        notes.append(f"Measured: protocol {protocol}.")
    errors = sum(one.errors for one in found)
    if errors:
        notes.append(f"{errors} measured episodes ended in an error and are in no rate.")
    columns = ("policy", "tasks", "measured %", "published %", "difference", "95 % interval", "p", "verdict")
    return Grid("Measured and published success", columns, (rows,), tuple(notes), labels=2)


def reproduction_frame(found: Sequence[Reproduction], labels: Mapping[str, str]) -> pd.DataFrame:
    """A row per pair of a measured and a published rate, to compute with; rates are fractions."""
    columns = (
        "policy", "tasks", "protocol", "successes", "episodes", "errors", "published_rate", "published_episodes",
        "difference", "low", "high", "p", "equivalence_p", "verdict", "published_protocol", "source",
    )  # fmt: skip
    rows = [
        (
            labels[one.policy],
            one.published.tasks,
            one.protocol,
            one.successes,
            one.episodes,
            one.errors,
            one.published.rate,
            one.published.episodes,
            one.difference,
            one.interval.low,
            one.interval.high,
            one.p_value,
            one.equivalence_p_value,
            one.verdict,
            one.published.protocol,
            one.published.source,
        )
        for one in found
    ]
    return pd.DataFrame(rows, columns=columns)


def _groups(runs: Runs) -> dict[tuple[str, str], set[str]]:
    """For every (policy, suite) the names by which the tasks it played are known."""
    names: dict[tuple[str, str], set[str]] = {}
    configs = [config.get("experiment", {}) for config in runs.configs]
    for policy, suite, run in (
        runs.episodes[["policy", "suite", "run"]].drop_duplicates().itertuples(index=False)
    ):
        found = names.setdefault((policy, suite), {suite})
        tasks = configs[run].get("tasks", ())
        if len(tasks) == 1:
            found.add(tasks[0])
    return names


def _reproduction(published: Published, mean: MeanScore, margin: float, alpha: float) -> Reproduction:
    table = (mean.successes, mean.completed, published.successes, published.episodes)
    p_value, same = unpaired_p_value(*table), margin_p_value(*table, margin)
    difference = mean.successes / mean.completed - published.successes / published.episodes
    verdict: Verdict = "open"
    if published.rules not in ("", mean.protocol):
        verdict = "other rules"
    elif same < alpha:
        verdict = "equivalent"
    elif p_value < alpha:
        verdict = "lower" if difference < 0 else "higher"
    return Reproduction(
        published,
        mean.policy,
        mean.protocol,
        mean.successes,
        mean.completed,
        mean.errors,
        miettinen_nurminen(*table),
        p_value,
        same,
        verdict,
    )
