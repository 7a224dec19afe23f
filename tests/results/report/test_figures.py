"""Figures: reproducible bytes, agreement with the tables, and unusual runs."""

import dataclasses

import numpy as np
import pytest

from simloop.results.records.runs import load_runs
from simloop.results.report.figure_style import COLOURS, FORMATS, MARKERS, save
from simloop.results.report.figures import (
    evidence_figure,
    forest_figure,
    latency_figure,
    pareto_figure,
    perturbation_figure,
    success_figure,
    success_over_steps_figure,
)
from simloop.results.statistics.contrasts import contrasts
from simloop.results.statistics.early_stopping import SequentialDecision
from simloop.results.statistics.intervals import Interval
from simloop.results.statistics.outcome_matrix import outcome_matrices
from simloop.results.statistics.scores import score_means, score_tasks
from simloop.results.statistics.sequential import StoppingRule
from simloop.results.tables.perturbation_curves import PerturbationCurves, Point
from tests.helpers.run_folders import broken, episodes, with_queries, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    records = [
        *episodes(8, 2),
        *episodes(3, 7, policy="pi0", weights="trained"),
        *episodes(5, 5, task="push-v3"),
    ]
    made = [with_queries(record, (10 + np.arange(30.0)).tolist()) for record in records]
    made += [(record, []) for record in episodes(0, 0, 4, policy="late", weights="trained")]
    return load_runs(write_run(tmp_path_factory.mktemp("run"), [record for record, _ in made], made))


def all_figures(runs):
    means = score_means(score_tasks(runs.episodes, runs.plans))
    (outcomes,) = outcome_matrices(runs.episodes, runs.policies).values()
    yield success_figure(means, runs.labels)
    yield forest_figure(contrasts(outcomes), runs.labels)
    yield pareto_figure(means, runs.queries, runs.labels)
    yield latency_figure(runs.queries, runs.labels)
    yield success_over_steps_figure(runs.episodes, runs.labels)
    of = {mean.policy: (Point(0.0, mean, None, None), Point(0.1, mean, None, None)) for mean in means}
    yield perturbation_figure(PerturbationCurves("s", "p", "camera-noise", of), runs.labels)
    rule = StoppingRule()
    yield evidence_figure(
        SequentialDecision(
            "a",
            "b",
            "s",
            "p",
            rule,
            "differ",
            2,
            0,
            30.0,
            (),
            1.0,
            0.0,
            (1.0, 30.0),
            Interval(0.1, 1.0),
            10,
            4,
        )
    )


def test_figures_have_reproducible_bytes(runs, tmp_path):
    written = []
    for attempt in ("one", "two"):
        folder = tmp_path / attempt
        folder.mkdir()
        for number, figure in enumerate(all_figures(runs)):
            save(figure, folder, str(number))
        written.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert len(written[0]) == 7 * len(FORMATS)
    assert written[0] == written[1]
    assert all(len(content) > 1000 for content in written[0].values())


def test_success_figure_agrees_with_the_table(runs):
    means = score_means(score_tasks(runs.episodes))
    (axes,) = success_figure(means, runs.labels).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["push-v3", "reach-v3", "mean of 2"]
    drawn = dict(zip(runs.labels.values(), axes.containers, strict=False))
    x = drawn["expert"].lines[0].get_xdata()
    assert list(x) == pytest.approx([50.0, 80.0, 65.0])
    ends = drawn["expert"].lines[2][0].get_segments()[1][:, 0]
    interval = means[0].tasks[1].interval()
    assert list(ends) == pytest.approx([100 * interval.low, 100 * interval.high])


def test_success_curves_end_at_the_success_rate(runs):
    (axes,) = success_over_steps_figure(runs.episodes, runs.labels).axes
    ends = {text.get_label(): text.get_ydata()[-1] for text in axes.get_lines()}
    assert ends == pytest.approx({"expert": 65.0, "pi0": 30.0})


def test_policies_differ_in_marker_and_line():
    assert len(set(COLOURS)) == len(COLOURS)
    assert len(set(MARKERS)) == len(MARKERS)


def test_draws_runs_with_only_errors(tmp_path):
    runs = load_runs(write_run(tmp_path, [broken(record) for record in episodes(3)]))
    means = score_means(score_tasks(runs.episodes))
    for figure in (
        success_figure(means, runs.labels),
        pareto_figure(means, runs.queries, runs.labels),
        latency_figure(runs.queries, runs.labels),
        success_over_steps_figure(runs.episodes, runs.labels),
        forest_figure([], runs.labels),
    ):
        save(figure, tmp_path, "figure")


def test_draws_hostile_names_verbatim(tmp_path):
    record = dataclasses.replace(episodes(1)[0], policy="$\\frac{1}", task="_a$^%")
    runs = load_runs(write_run(tmp_path, [record]))
    means = score_means(score_tasks(runs.episodes))
    save(success_figure(means, runs.labels), tmp_path, "figure")
