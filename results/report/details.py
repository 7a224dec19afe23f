"""Data below the first screen of a run: verdicts, comparisons, tables, figures, methods and provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from simloop.results.errors import ResultsError
from simloop.results.figures.catalog import Computed, drawings
from simloop.results.figures.style import Drawing
from simloop.results.records.runs import Runs
from simloop.results.report.methods import Methods, methods
from simloop.results.report.page_data import grid_data, text
from simloop.results.statistics.early_stopping import SequentialDecision, matrices, sequential_decisions
from simloop.results.statistics.families import Finding, comparisons_of, findings
from simloop.results.statistics.outcome_matrix import OutcomeMatrix
from simloop.results.statistics.robustness import design_outcomes
from simloop.results.statistics.scores import MeanScore, score_means, score_tasks
from simloop.results.tables.axis_table import axis_scores
from simloop.results.tables.decisions import decision_sentence
from simloop.results.tables.delay_curves import delay_curves
from simloop.results.tables.options import TableName
from simloop.results.tables.perturbation_curves import perturbation_curves
from simloop.results.tables.prompt_table import prompt_scores
from simloop.results.tables.published import PUBLISHED, reproductions
from simloop.results.tables.run_tables import table
from simloop.results.tables.statements import comparison, headline

TABLES: tuple[TableName, ...] = (
    "success",
    "perturbations",
    "delays",
    "prompts",
    "axes",
    "robustness",
    "time",
    "published",
    "latency",
)


@dataclass(frozen=True)
class Details:
    """What is computed about runs; each part on first use, for some take seconds.

    Args:
      margin: Differences of success rates below it are irrelevant.
      alpha: Family-wise significance level.
      looked_at: Number of policies and checkpoints that were evaluated, if more than the runs hold.
      names: Names to print for policies in methods and figures; None for their labels.
    """

    runs: Runs
    margin: float
    alpha: float
    looked_at: int | None
    names: Mapping[str, str] | None = None

    @cached_property
    def _together(self) -> list[OutcomeMatrix]:
        return list(matrices(self.runs, looked_at=self.looked_at).values())

    @cached_property
    def _findings(self) -> list[list[Finding]]:
        return [list(here) for here in findings(self._together, margin=self.margin, alpha=self.alpha)]

    @cached_property
    def _decisions(self) -> Sequence[SequentialDecision]:
        return sequential_decisions(self.runs)

    @cached_property
    def _means(self) -> list[MeanScore]:
        return score_means(score_tasks(self.runs.episodes, self.runs.plans))

    @cached_property
    def methods(self) -> Methods:
        """The methods behind everything that is shown."""
        found = [one.contrast for here in self._findings for one in here]
        family = comparisons_of(self._together)
        return methods(self.runs, self._means, found, self._decisions, family, self.names)

    @cached_property
    def tables(self) -> tuple[TableName, ...]:
        """Tables with content."""
        lacking = {
            "perturbations": not perturbation_curves(self.runs),
            "delays": not delay_curves(self.runs),
            "prompts": not prompt_scores(self.runs),
            "axes": not axis_scores(self.runs),
            "robustness": not design_outcomes(self.runs),
            "published": not reproductions(self.runs, PUBLISHED),
        }
        return tuple(name for name in TABLES if not lacking.get(name))

    @cached_property
    def figures(self) -> dict[str, Drawing]:
        """Figures by name."""
        found = [one.contrast for here in self._findings for one in here]
        computed = Computed(self._means, found, self._decisions, self.margin)
        return drawings(self.runs, computed, self.names)

    def data(self) -> dict[str, Any]:
        """Everything as the page loads it."""
        return {
            "headlines": self._headlines(),
            "decisions": [text(decision_sentence(one, len(self._decisions))) for one in self._decisions],
            "comparisons": self._comparisons(),
            "tables": [
                {
                    "name": name,
                    "grids": [grid_data(grid) for grid in table(self.runs, only=name).grids(short=True)],
                }
                for name in self.tables
            ],
            "figures": [{"name": one.name, "caption": text(one.caption)} for one in self.figures.values()],
            "methods": text(self.methods.text),
            "references": text(self.methods.bibtex),
            "provenance": self._provenance(),
        }

    def _headlines(self) -> list[str]:
        several = len(self._together) > 1
        return [
            text((f"{outcomes.protocol}: " if several else "") + headline(outcomes, here, self.runs.labels))
            for outcomes, here in zip(self._together, self._findings, strict=True)
        ]

    def _comparisons(self) -> list[dict[str, Any]]:
        try:
            compared = comparison(self.runs, margin=self.margin, alpha=self.alpha, looked_at=self.looked_at)
        except ResultsError as error:
            return [{"title": "", "sentences": [text(str(error))], "grid": None}]
        return [
            {"title": text(title), "sentences": list(map(text, sentences)), "grid": grid_data(grid)}
            for title, sentences, grid in compared
        ]

    def _provenance(self) -> list[dict[str, str]]:
        return [
            {
                "name": text(source.folder.resolve().name),
                "text": text(json.dumps(provenance, indent=2, sort_keys=True)),
            }
            for source, provenance in zip(self.runs.sources, self.runs.provenance, strict=True)
        ]
