"""Published success rates with their sources, and comparisons of measured rates with them.

A published rate comes from one run and has a sampling error of its own. It is therefore compared like a second
policy on other episodes, and the verdict says whether the two are equivalent within a margin, not whether the
measured rate reaches the published one.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Literal

import pandas as pd

from simloop.results.errors import ResultsError
from simloop.results.records.runs import Runs
from simloop.results.records.written_policies import split_name
from simloop.results.statistics.contrasts import MARGIN
from simloop.results.statistics.intervals import Interval
from simloop.results.statistics.multiplicity import holm
from simloop.results.statistics.scores import MeanScore, score_means, score_tasks
from simloop.results.statistics.unpaired import margin_p_value, miettinen_nurminen, unpaired_p_value
from simloop.results.tables.grid import NONE, Cell, Grid, percent_cell
from simloop.results.tables.imported import read_counts, rows_to_csv
from simloop.results.tables.options import DEFAULT_OPTIONS, TableOptions
from simloop.results.tables.statements import counted, p_text, signed, signed_interval
from simloop.untrusted import MAX_JSON_BYTES, read_bytes

Verdict = Literal["equivalent", "lower", "higher", "inconclusive", "other protocol", "stopping rule"]
NO_VERDICT: tuple[Verdict, ...] = ("other protocol", "stopping rule")


@dataclass(frozen=True)
class Published:
    """One published success rate.

    Raises:
      ResultsError: If the rate is not in [0, 1], or there are no episodes.
    """

    policy: str
    """Name of the preset, without the folder of a checkpoint."""
    tasks: str
    """Name of a suite, or of a group of its tasks as in the `tasks` of an experiment."""
    rate: float
    """Mean over the tasks, in [0, 1]."""
    episodes: int
    """Over all tasks."""
    protocol: str
    """The protocol in the words of the source."""
    source: str
    rules: str = ""
    """Label of the simloop protocol that reproduces it, such as `libero/openpi-v1`; empty if unknown. Rates
    measured under another protocol get no verdict."""

    def __post_init__(self) -> None:
        """Check the rate and the number of episodes."""
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
    Published(
        "alam_pi0",
        "MT50",
        434 / 500,
        500,
        "10 episodes a task, action horizon 6, 5 actions per query, camera at (0.70, 0.075, 0.70)",
        "model card Mark-ZJTang/alam_plus_pi_metaworld_mt50",
        "metaworld/alam-v1",
    ),
)
"""Rates on LIBERO are over ten tasks with 50 initial states each."""


@dataclass(frozen=True)
class Reproduction:
    """A measured rate and a published one."""

    published: Published
    policy: str
    protocol: str
    rate: float
    """Mean of the measured rates over tasks."""
    successes: int
    episodes: int
    errors: int
    interval: Interval
    """95 % interval of the difference, measured less published."""
    p_value: float
    """Two-sided p-value of equal rates, the largest for any outcome of the errors."""
    equivalence_p_value: float
    """Of two one-sided tests, the largest for any outcome of the errors."""
    verdict: Verdict
    p_holm: float | None = None
    """`p_value` adjusted for all rows with a verdict; None without one."""

    @property
    def difference(self) -> float:
        """Measured less published rate."""
        return self.rate - self.published.rate


def read_published(path: str | Path) -> tuple[Published, ...]:
    """Read published rates from a CSV file with the columns policy, tasks, rate, episodes, protocol, source.

    Result files of other programs are read as well, without the name of a policy (`import_published`).

    Raises:
      ResultsError: If the file cannot be read, or a row is invalid; names the line.
    """
    text = read_bytes(Path(path), MAX_JSON_BYTES, error=ResultsError).decode(errors="replace")
    wanted = [field.name for field in fields(Published) if field.default is MISSING]
    reader = csv.DictReader(text.splitlines())
    try:
        names = reader.fieldnames or ()
    except csv.Error:
        names = ()
    if sorted(names) != sorted(wanted):
        return _of_other_program(path, wanted, names)
    rows = []
    try:
        for row in reader:
            rate, episodes = float(row["rate"]), int(row["episodes"])
            rows.append(
                Published(row["policy"], row["tasks"], rate, episodes, row["protocol"], row["source"])
            )
    except (TypeError, ValueError, csv.Error) as error:
        raise ResultsError(f"{path}, line {reader.line_num}: {error}") from error
    return tuple(rows)


def _of_other_program(path: str | Path, wanted: Sequence[str], got: Sequence[str]) -> tuple[Published, ...]:
    try:
        return import_published(path, "")
    except ResultsError as error:
        raise ResultsError(
            f"{path}: wanted the columns {', '.join(wanted)}; got {', '.join(got)[:200]}. It is no result file of "
            f"another program either: {error}"
        ) from error


def import_published(
    path: str | Path, policy: str, *, tasks: str = "", protocol: str = "", source: str = ""
) -> tuple[Published, ...]:
    """Read the result file of another program as published rates.

    Args:
      path: A file that `imported.read_counts` reads.
      policy: Policy that was evaluated.
      tasks: Set of tasks where the file names none.
      protocol: Rules in words; by default, the program that wrote the file.
      source: By default, the name of the file.

    Raises:
      ResultsError: If the file cannot be read, or neither it nor `tasks` names the tasks.
    """
    rows = []
    for counts in read_counts(Path(path)):
        if not (named := counts.tasks or tasks):
            raise ResultsError(
                f"{path} does not name its tasks; wanted a suite or group. Give it with --tasks."
            )
        rate = counts.successes / counts.episodes
        words, where = protocol or f"as run by {counts.program}", source or Path(path).name
        rows.append(Published(policy, named, rate, counts.episodes, words, where))
    return tuple(rows)


def published_to_csv(rows: Iterable[Published]) -> str:
    """Text of a CSV file that `read_published` reads."""
    names = [field.name for field in fields(Published) if field.default is MISSING]
    return rows_to_csv({name: getattr(row, name) for name in names} for row in rows)


def reproductions(
    runs: Runs, published: Iterable[Published] = PUBLISHED, *, margin: float = MARGIN, alpha: float = 0.05
) -> list[Reproduction]:
    """Compare measured rates with the published ones of the same presets on the same tasks.

    The probability that any of the verdicts `lower` and `higher` is wrong is at most alpha, and so is that of any
    `equivalent`. A rate gets no verdict under another protocol, or if a stopping rule decided the number of episodes.

    The tasks of a run are the published ones if its suite, or the only task or group of its experiment, has the
    published name. Policies without a completed episode of some task are skipped, since they have no mean.
    """
    found = []
    groups, presets = _groups(runs), _presets(runs)
    for mean in score_means(score_tasks(runs.episodes, runs.plans)):
        if mean.lacking:
            continue
        preset = presets.get(mean.policy, mean.policy.partition("@")[0].rpartition(":")[2])
        for one in published:
            if one.policy == preset and one.tasks in groups.get((mean.policy, mean.suite), ()):
                found.append(_reproduction(one, mean, margin))
    judged = [one for one in found if one.verdict not in NO_VERDICT]
    p_values = iter(holm([one.p_value for one in judged]))
    same = iter(holm([one.equivalence_p_value for one in judged]))
    return [
        one if one.verdict in NO_VERDICT else _judged(one, next(p_values), next(same), alpha) for one in found
    ]


def reproduction_grid(
    found: Sequence[Reproduction],
    labels: Mapping[str, str],
    margin: float = MARGIN,
    options: TableOptions = DEFAULT_OPTIONS,
) -> Grid:
    """A row per pair of a measured and a published rate, with the verdict on the two."""
    rows = tuple(
        (
            labels[one.policy],
            one.published.tasks,
            _rate(one.rate, one.successes, one.episodes),
            _rate(one.published.rate, one.published.successes, one.published.episodes),
            signed(one.difference),
            NONE if one.verdict == "stopping rule" else signed_interval(one.interval),
            NONE if one.p_holm is None else p_text(one.p_holm),
            one.verdict,
        )
        for one in found
    )
    notes = [
        "difference: measured less published, in points, with its 95 % interval (Miettinen-Nurminen, unpaired); p: of "
        "equal rates, adjusted by Holm for all rows with a verdict; equivalent: within "
        f"± {100 * margin:g} points by two one-sided tests at the 5 % level, adjusted by Holm likewise; inconclusive: "
        "neither equivalent nor significantly different; other protocol: not comparable; stopping rule: it decided the "
        "number of episodes, so these tests do not hold."
    ]
    for protocol, source in dict.fromkeys((one.published.protocol, one.published.source) for one in found):
        notes.append(f"Published: {source}; protocol: {protocol}.")
    for protocol in dict.fromkeys(one.protocol for one in found):
        notes.append(f"Measured: protocol {protocol}.")
    errors = sum(one.errors for one in found)
    if errors:
        notes.append(
            f"Excluded from the measured rates: {counted(errors, 'episode')} with an error; p-values and verdicts hold "
            "whatever their outcomes would have been."
        )
    columns = (
        "policy",
        "tasks",
        "measured %",
        "published %",
        "difference",
        "95 % interval",
        "p (Holm)",
        "verdict",
    )
    return Grid("Measured and published success", columns, (rows,), tuple(notes), labels=2, options=options)


def reproduction_frame(found: Sequence[Reproduction], labels: Mapping[str, str]) -> pd.DataFrame:
    """A row per pair of a measured and a published rate. Rates and differences are fractions."""
    columns = (
        "policy", "tasks", "protocol", "successes", "episodes", "errors", "published_rate", "published_episodes",
        "difference", "low", "high", "p", "p_holm", "equivalence_p", "verdict", "published_protocol", "source",
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
            one.p_holm,
            one.equivalence_p_value,
            one.verdict,
            one.published.protocol,
            one.published.source,
        )
        for one in found
    ]
    return pd.DataFrame(rows, columns=columns)


def _rate(rate: float, successes: int, episodes: int) -> Cell:
    return percent_cell(rate, counts=f"{successes}/{episodes}")


def _presets(runs: Runs) -> dict[str, str]:
    """The preset of every policy, whatever the name that it was given: of `mine=pi05_libero@FOLDER`, `pi05_libero`.

    A server has no preset; its policy is taken to be what it was called.
    """
    return {
        source.policy(name): name if "://" in policy else policy.partition("@")[0]
        for source, config in zip(runs.sources, runs.configs, strict=True)
        for name, policy in map(split_name, config.get("experiment", {}).get("policies", ()))
    }


def _groups(runs: Runs) -> dict[tuple[str, str], set[str]]:
    """For every (policy, suite), the names of the sets of tasks that it was evaluated on."""
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


def _reproduction(published: Published, mean: MeanScore, margin: float) -> Reproduction:
    """Compare the rates. The verdict is still open unless there is none."""
    rate, bounds = mean.rate, mean.bounds
    if rate is None or bounds is None:
        raise ValueError(f"Wanted a policy with a mean; got {mean.policy}.")
    other = (published.successes, published.episodes)
    # Whole numbers of successes, as tests take them, with equal weights of tasks.
    table = (round(rate * mean.completed), mean.completed, *other)
    tables = [table]
    if mean.errors:
        tables += [(round(end * mean.episodes), mean.episodes, *other) for end in (bounds.low, bounds.high)]
    signs = {math.copysign(1, x / n - y / m) if x * m != y * n else 0 for x, n, y, m in tables}
    verdict: Verdict = "inconclusive"
    if published.rules not in ("", mean.protocol):
        verdict = "other protocol"
    elif mean.anytime:
        verdict = "stopping rule"
    return Reproduction(
        published,
        mean.policy,
        mean.protocol,
        rate,
        mean.successes,
        mean.completed,
        mean.errors,
        miettinen_nurminen(*table),
        max(unpaired_p_value(*one) for one in tables) if len(signs) == 1 else 1.0,
        max(margin_p_value(*one, margin) for one in tables),
        verdict,
    )


def _judged(one: Reproduction, p_holm: float, equivalence_p_holm: float, alpha: float) -> Reproduction:
    """The comparison with its verdict."""
    verdict: Verdict = "inconclusive"
    if equivalence_p_holm < alpha:
        verdict = "equivalent"
    elif p_holm < alpha:
        verdict = "lower" if one.difference < 0 else "higher"
    return dataclasses.replace(one, verdict=verdict, p_holm=p_holm)
