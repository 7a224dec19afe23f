"""All figures of runs, by name, with captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from simloop.results.figures.curves import draw_axis, draw_delays, draw_perturbation
from simloop.results.figures.latencies import (
    draw_latencies,
    draw_latency_stages,
    draw_success_against_latency,
)
from simloop.results.figures.rates import (
    draw_differences,
    draw_evidence,
    draw_outcomes,
    draw_success,
    draw_success_over_steps,
    success_height,
)
from simloop.results.figures.style import LEGEND_ROW_IN, Drawing
from simloop.results.records.ledger import LedgerError
from simloop.results.records.runs import Runs
from simloop.results.statistics.contrasts import MARGIN, Contrast, contrasts
from simloop.results.statistics.early_stopping import SequentialDecision, matrices, sequential_decisions
from simloop.results.statistics.robustness import without_points
from simloop.results.statistics.scores import MeanScore, score_means, score_tasks
from simloop.results.tables.delay_curves import by_protocol, delay_curves
from simloop.results.tables.perturbation_curves import perturbation_curves
from simloop.results.tables.robustness_table import robustness


@dataclass(frozen=True)
class Computed:
    """What figures show, where it has been computed already."""

    means: Sequence[MeanScore]
    contrasts: Sequence[Contrast]
    decisions: Sequence[SequentialDecision]
    margin: float = MARGIN

    @classmethod
    def of(cls, runs: Runs, margin: float = MARGIN) -> Computed:
        """Compute it."""
        shown = without_points(runs)
        found = [one for outcomes in matrices(shown).values() for one in contrasts(outcomes, margin=margin)]
        means = score_means(score_tasks(shown.episodes, shown.plans))
        return cls(means, found, sequential_decisions(runs), margin)


def drawings(
    runs: Runs, computed: Computed | None = None, names: Mapping[str, str] | None = None
) -> dict[str, Drawing]:
    """Figures with content, by name; of several suites and protocols the names of later ones end in a number.

    Args:
      names: Names to show by policy; None for their labels.
    """
    computed = computed or Computed.of(runs)
    labels = names or runs.labels
    made: list[Drawing] = []
    protocols = set(without_points(runs).episodes["protocol"])
    shown = [mean for mean in computed.means if mean.protocol in protocols]
    for number, key in enumerate(dict.fromkeys((mean.suite, mean.protocol) for mean in shown)):
        made += _of_protocol(runs, labels, computed, key, f"-{number + 1}" if number else "")
    made += _curves(runs, labels)
    for number, decision in enumerate(computed.decisions):
        a, b = (labels.get(policy, policy) for policy in (decision.a, decision.b))
        caption = f"Evidence that {a} and {b} differ, after every pair."
        end = f"-{number + 1}" if number else ""
        made.append(Drawing(f"evidence{end}", caption, partial(draw_evidence, decision=decision), 2.0))
    return {one.name: one for one in made}


def _curves(runs: Runs, labels: Mapping[str, str]) -> Iterator[Drawing]:
    for number, curves in enumerate(perturbation_curves(runs)):
        caption = f"Success under {curves.kind}, with 95 % intervals, protocol {curves.protocol}."
        draw = partial(draw_perturbation, curves=curves, labels=labels)
        yield Drawing(f"perturbation-{number + 1}", caption, draw, 2.2 + LEGEND_ROW_IN * len(curves.of))
    for number, (protocol, found) in enumerate(by_protocol(delay_curves(runs)).items()):
        caption = f"Success against the delay of answers, with 95 % intervals, protocol {protocol}."
        draw = partial(draw_delays, curves=found, labels=labels)
        yield Drawing(f"delay-{number + 1}", caption, draw, 2.2 + LEGEND_ROW_IN * len(found))
    designed = robustness(runs)
    axes = dict.fromkeys((one.found.protocol, kind) for one in designed for kind in one.curves)
    for number, (protocol, kind) in enumerate(axes):
        here = [one for one in designed if one.found.protocol == protocol and kind in one.curves]
        caption = f"Change of success along {kind}, with 95 % intervals, protocol {protocol}."
        draw = partial(draw_axis, results=here, kind=kind, labels=labels)
        yield Drawing(f"robustness-{number + 1}", caption, draw, 2.2 + LEGEND_ROW_IN * len(here))


def _of_protocol(
    runs: Runs, labels: Mapping[str, str], computed: Computed, key: tuple[str, str], end: str
) -> Iterator[Drawing]:
    """Figures of one suite and protocol; `end` ends their names."""
    of = f", protocol {key[1]}"
    here = [mean for mean in computed.means if (mean.suite, mean.protocol) == key]
    pairs = [one for one in computed.contrasts if (one.suite, one.protocol) == key]
    episodes = runs.episodes[(runs.episodes["suite"] == key[0]) & (runs.episodes["protocol"] == key[1])]
    panel = 2.2 + LEGEND_ROW_IN * len(here)
    draw = partial(draw_success, means=here, labels=labels)
    yield Drawing(f"success{end}", f"Success with 95 % intervals{of}.", draw, success_height(here))
    draw = partial(draw_success_over_steps, episodes=episodes, labels=labels, anytime=runs.stopped_policies)
    caption = f"Share of episodes that have succeeded by a step, tasks pooled{of}."
    yield Drawing(f"success-over-steps{end}", caption, draw, panel)
    if pairs:
        caption = f"Differences of success with 95 % intervals; hollow where episodes are not paired{of}."
        draw = partial(draw_differences, found=pairs, labels=labels, margin=computed.margin)
        yield Drawing(f"differences{end}", caption, draw, 0.7 + 0.32 * len(pairs))
    outcomes = matrices(runs, [mean.policy for mean in here])[key]
    caption = f"Outcome of every episode; a column is an episode from the same initial state{of}."
    draw = partial(draw_outcomes, outcomes=outcomes, labels=labels)
    yield Drawing(f"outcomes{end}", caption, draw, 1.1 + 0.2 * len(here))
    yield from _latencies(runs, labels, here, key, end)


def _latencies(
    runs: Runs, labels: Mapping[str, str], means: Sequence[MeanScore], key: tuple[str, str], end: str
) -> Iterator[Drawing]:
    try:
        every = runs.queries
    except LedgerError:  # Of lost queries, which the tables report.
        return
    queries = every[(every["suite"] == key[0]) & (every["protocol"] == key[1])]
    if not len(queries):
        return
    of = f", protocol {key[1]}"
    panel = 2.2 + LEGEND_ROW_IN * len(labels)
    draw = partial(draw_success_against_latency, means=means, queries=queries, labels=labels)
    yield Drawing(f"pareto{end}", f"Success against the median latency of a query{of}.", draw, panel)
    draw = partial(draw_latencies, queries=queries, labels=labels)
    yield Drawing(f"latency{end}", f"Share of queries answered within a time{of}.", draw, panel)
    draw = partial(draw_latency_stages, queries=queries, labels=labels)
    asked = queries["policy"].nunique()
    caption = f"Medians of the stages of a query, and percentiles of the total{of}."
    yield Drawing(f"latency-stages{end}", caption, draw, 1.3 + 0.3 * asked)
