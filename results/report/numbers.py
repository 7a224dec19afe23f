"""Numbers of runs by key, as macros for the text of a paper.

A key is `KIND/POLICY/TASKS`, such as `rate/pi0/libero-spatial`, with names in lower case and hyphens in place of other
characters. TASKS is a task, a group of tasks, or a suite for the mean over all of its tasks.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from simloop.results.records.ledger import LedgerError
from simloop.results.records.runs import Runs
from simloop.results.statistics.early_stopping import matrices
from simloop.results.statistics.families import findings
from simloop.results.statistics.intervals import quantile
from simloop.results.statistics.scores import MeanScore, Score, score_means, score_tasks
from simloop.results.tables.choice import groups_of, printed_policies
from simloop.results.tables.grid import number_text
from simloop.results.tables.latency_table import MIN_QUERIES_FOR_P99, QUANTILES
from simloop.results.tables.latex import GREEK, escape_tex
from simloop.results.tables.options import DEFAULT_OPTIONS, TableOptions
from simloop.results.tables.statements import p_text

MACROS: Mapping[str, tuple[str, int]] = {
    "rate": ("rate", 2),
    "rateinterval": ("interval", 2),
    "rateepisodes": ("episodes", 2),
    "ratedifference": ("difference", 3),
    "rateerrors": ("errors", 2),
    "querylatency": ("latency", 2),
}
"""Kind of key and number of arguments of every macro."""


@dataclass(frozen=True)
class Number:
    """A number of runs."""

    text: str
    """As it is printed, plain."""
    exact: float
    """NaN if it is no single number."""
    runs: tuple[int, ...]
    """Indices of the runs that it comes from."""


def numbers(runs: Runs, options: TableOptions = DEFAULT_OPTIONS) -> dict[str, Number]:
    """All numbers by key, in a fixed order.

    Args:
      options: Decimals, unit, names and groups.
    """
    policies = _slugs(printed_policies(runs, options))
    made: dict[str, Number] = {}
    means = score_means(score_tasks(runs.episodes, runs.plans))
    places = _slugs_of_protocols([(mean.suite, mean.protocol) for mean in means])
    of_policy = {
        (str(policy), str(suite), str(protocol)): tuple(sorted({int(run) for run in group["run"]}))
        for (policy, suite, protocol), group in runs.episodes.groupby(["policy", "suite", "protocol"])
    }
    for mean in means:
        suite, at = places[mean.suite, mean.protocol]
        behind = of_policy.get((mean.policy, mean.suite, mean.protocol), ())
        for tasks, score in _scores(mean, runs, options):
            key = f"{policies[mean.policy]}/{slug(tasks) if tasks else suite}{at}"
            made |= {f"{kind}/{key}": one for kind, one in _of_score(score, behind, options)}
    made |= dict(_differences(runs, policies, places, of_policy, options))
    made |= dict(_latencies(runs, policies))
    return made


def slug(text: str) -> str:
    """A name as part of a key: lower case, Greek letters by name, with hyphens in place of other characters."""
    plain = unicodedata.normalize("NFKC", text.lower())
    spelled = "".join(GREEK.get(character, character) for character in plain)
    return re.sub(r"[^a-z0-9.]+", "-", spelled).strip("-") or "-"


def _slugs(names: Mapping[str, str]) -> dict[str, str]:
    """Distinct slugs; a name that would have that of an earlier one ends in a number."""
    made: dict[str, str] = {}
    for key, name in names.items():
        wanted, number = slug(re.sub(r" \((untrained|served)\)$", "", name)), 2
        one = wanted
        while one in made.values():
            one, number = f"{wanted}-{number}", number + 1
        made[key] = one
    return made


def _slugs_of_protocols(keys: list[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str]]:
    """The slug of the suite, and what follows the tasks in a key: nothing for the shortest protocol of a suite."""
    made = {}
    for suite, protocol in dict.fromkeys(keys):
        first = min((p for s, p in keys if s == suite), key=lambda name: (len(name), name))
        other = protocol.removeprefix(first)
        made[suite, protocol] = slug(suite), "" if protocol == first else f"@{slug(other)}"
    return made


def _scores(mean: MeanScore, runs: Runs, options: TableOptions) -> Iterator[tuple[str, Score | MeanScore]]:
    """Scores by name of the tasks; the mean over all of them has no name."""
    tasks = tuple(score.task for score in mean.tasks)
    for score in mean.tasks:
        yield options.names.get(score.task, score.task), score
    for name, here in groups_of(mean.suite, tasks, runs, options).items():
        yield name, MeanScore(
            mean.policy, mean.weights, mean.suite, mean.protocol,
            tuple(score for score in mean.tasks if score.task in here),
        )  # fmt: skip
    yield "", mean


def _of_score(
    score: Score | MeanScore, behind: tuple[int, ...], options: TableOptions
) -> Iterator[tuple[str, Number]]:
    for kind, count in (
        ("episodes", score.completed),
        ("successes", score.successes),
        ("errors", score.errors),
    ):
        yield kind, Number(str(count), float(count), behind)
    interval = score.interval()
    if score.rate is None or interval is None:
        return
    yield "rate", _percent(score.rate, behind, options)
    ends = [_percent(end, behind, options) for end in (interval.low, interval.high)]
    yield "low", ends[0]
    yield "high", ends[1]
    yield "interval", Number(f"[{ends[0].text}, {ends[1].text}]", math.nan, behind)


def _percent(rate: float, behind: tuple[int, ...], options: TableOptions, *, signed: bool = False) -> Number:
    percent = options.unit != "fraction"
    decimals = (1 if percent else 3) if options.decimals is None else options.decimals
    value = 100 * rate if percent else rate
    return Number(number_text(value, decimals, signed=signed), value, behind)


def _differences(
    runs: Runs,
    policies: Mapping[str, str],
    places: Mapping[tuple[str, str], tuple[str, str]],
    of_policy: Mapping[tuple[str, str, str], tuple[int, ...]],
    options: TableOptions,
) -> Iterator[tuple[str, Number]]:
    together = list(matrices(runs, looked_at=options.looked_at).values())
    for here in findings(together):
        for one in here:
            for contrast in (one.contrast, one.contrast.mirrored):
                suite, at = places[contrast.suite, contrast.protocol]
                key = f"{policies[contrast.a]}/{policies[contrast.b]}/{suite}{at}"
                behind = tuple(
                    sorted(
                        {
                            run
                            for policy in (contrast.a, contrast.b)
                            for run in of_policy[policy, contrast.suite, contrast.protocol]
                        }
                    )
                )
                ends = [
                    _percent(end, behind, options, signed=True).text
                    for end in (contrast.interval.low, contrast.interval.high)
                ]
                yield f"difference/{key}", _percent(contrast.difference, behind, options, signed=True)
                yield f"difference-interval/{key}", Number(f"[{', '.join(ends)}]", math.nan, behind)
                yield f"p/{key}", Number(p_text(one.p_adjusted), math.nan, behind)


def _latencies(runs: Runs, policies: Mapping[str, str]) -> Iterator[tuple[str, Number]]:
    """Quantiles of the total in ms, over all queries of a policy."""
    try:
        queries = runs.queries
    except LedgerError:  # Of lost queries, which the tables report.
        return
    for policy, own in queries.groupby("policy"):
        values = (own["total_ms"] - own["retry_ms"]).to_numpy(np.float64)
        behind = tuple(
            sorted({int(run) for run in runs.episodes.loc[runs.episodes["policy"] == policy, "run"]})
        )
        for name, q in QUANTILES.items():
            if name != "p99" or len(values) >= MIN_QUERIES_FOR_P99:
                value = quantile(values, q)
                yield f"latency/{policies[str(policy)]}/{name}", Number(number_text(value), value, behind)


def numbers_tex(found: Mapping[str, Number]) -> str:
    r"""Macros for `\input`: `\simloop{KEY}`, and those of `MACROS` with the parts of a key as arguments."""
    lines = [
        "% Numbers of the runs in MANIFEST.json. \\simloop{KEY} prints one, \\simloop[96.8]{KEY} what is in brackets.",
        "% simloop paper check MAIN.tex finds both and says which no longer agrees with the runs.",
        "\\makeatletter",
        "\\newcommand{\\simloop}[2][]{\\if\\relax\\detokenize{#1}\\relax\\simloop@value{#2}\\else#1\\fi}",
        "\\newcommand{\\simloop@value}[1]{\\ifcsname simloop@#1\\endcsname\\csname simloop@#1\\endcsname\\else"
        "\\@latex@warning{There is no number \\detokenize{#1}}\\textbf{??}\\fi}",
    ]
    for macro, (kind, count) in MACROS.items():
        arguments = "/".join(f"#{i + 1}" for i in range(count))
        lines.append(f"\\newcommand{{\\{macro}}}[{count}]{{\\simloop@value{{{kind}/{arguments}}}}}")
    lines += [f"\\@namedef{{simloop@{key}}}{{{escape_tex(one.text)}}}" for key, one in found.items()]
    return "\n".join([*lines, "\\makeatother"]) + "\n"
