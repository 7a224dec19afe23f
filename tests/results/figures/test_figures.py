"""Figures: reproducible bytes, agreement with the tables, and unusual runs."""

import dataclasses
import itertools
from functools import partial

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from simloop.results import figures
from simloop.results.errors import ResultsError
from simloop.results.figures import style
from simloop.results.figures.catalog import drawings
from simloop.results.figures.curves import draw_perturbation
from simloop.results.figures.rates import SHADES, draw_evidence
from simloop.results.figures.style import COLOURS, MARKERS, Drawing, figure_bytes, one_panel, save
from simloop.results.records.runs import load_runs
from simloop.results.statistics.early_stopping import SequentialDecision
from simloop.results.statistics.intervals import Interval, wilson
from simloop.results.statistics.scores import score_means, score_tasks
from simloop.results.statistics.sequential import StoppingRule
from simloop.results.tables.document_class import DOCUMENT_CLASSES
from simloop.results.tables.perturbation_curves import PerturbationCurves, Point
from tests.helpers.run_folders import broken, episodes, with_queries, write_run

DECISION = SequentialDecision(
    "a", "b", "s", "p", StoppingRule(), "differ", 2, 0, 30.0, (), 1.0, 0.0, (1.0, 30.0), Interval(0.1, 1.0), 10, 4
)  # fmt: skip


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


def test_figures_have_reproducible_bytes(runs, tmp_path, svg_only):
    means = score_means(score_tasks(runs.episodes, runs.plans))
    of = {mean.policy: (Point(0.0, mean, None, None), Point(0.1, mean, None, None)) for mean in means}
    curves = PerturbationCurves("s", "p", "camera-noise", of)
    every = [
        *drawings(runs).values(),
        Drawing("perturbation", "", partial(draw_perturbation, curves=curves, labels=runs.labels), 2.2),
        Drawing("evidence", "", partial(draw_evidence, decision=DECISION), 2.0),
    ]
    written = []
    for attempt in ("one", "two"):
        folder = tmp_path / attempt
        folder.mkdir()
        for one in every:
            save(one.figure()[0], folder, one.name)
        written.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert len(written[0]) == 9 * len(style.FORMATS)
    assert written[0] == written[1]
    assert all(len(content) > 1000 for content in written[0].values())


def test_success_figure_agrees_with_the_table(runs):
    _, axes = one_panel(3.0)
    data = figures.success(axes, runs)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["push-v3", "reach-v3", "mean of 2"]
    drawn = {container.get_label(): container for container in axes.containers}
    x = drawn["expert"].lines[0].get_xdata()
    assert list(x) == pytest.approx([50.0, 80.0, 65.0])
    row = data[(data["policy"] == "expert") & (data["task"] == "reach-v3")].iloc[0]
    interval = wilson(8, 10)
    assert (row["percent"], row["low"], row["high"]) == pytest.approx(
        (80, 100 * interval.low, 100 * interval.high)
    )
    assert row["episodes"] == 10


def test_success_curves_end_at_the_success_rate(runs):
    _, axes = one_panel(3.0)
    figures.time_to_success(axes, runs)
    ends = {text.get_label(): text.get_ydata()[-1] for text in axes.get_lines()}
    assert ends == pytest.approx({"expert": 65.0, "pi0": 30.0})


def test_outcomes_hold_every_completed_episode(runs):
    _, axes = one_panel(3.0)
    data = figures.outcomes(axes, runs)
    assert data.groupby("policy")["success"].agg(["sum", "size"]).loc["expert"].tolist() == [13, 20]


def test_a_figure_without_data_is_refused_by_name(runs):
    _, axes = one_panel(3.0)
    with pytest.raises(ResultsError, match="nothing to draw for the figure delay"):
        figures.delays(axes, runs)
    with pytest.raises(ResultsError, match="under protocol other; there are metaworld/default-v1"):
        figures.success(axes, runs, protocol="other")


def test_text_in_figures_for_papers_stays_text_in_the_font_of_the_class(runs):
    figure, _ = drawings(runs)["success"].figure(document=DOCUMENT_CLASSES["neurips"])
    svg = figure_bytes(figure, "svg", DOCUMENT_CLASSES["neurips"]).decode()
    assert "push-v3</text>" in svg
    assert "STIXGeneral" in svg


def test_policies_differ_in_marker_and_line():
    assert len(set(COLOURS)) == len(COLOURS)
    assert len(set(MARKERS)) == len(MARKERS)


def test_a_pdf_has_reproducible_bytes(runs):
    one = drawings(runs)["differences"]
    assert figure_bytes(one.figure()[0], "pdf") == figure_bytes(one.figure()[0], "pdf")


def test_outcomes_differ_in_grey():
    luminance = [np.dot(to_rgb(shade), (0.2126, 0.7152, 0.0722)) for shade in SHADES.values()]
    assert min(abs(a - b) for a, b in itertools.combinations(luminance, 2)) > 0.25


def test_draws_runs_with_only_errors(tmp_path, svg_only):
    runs = load_runs(write_run(tmp_path, [broken(record) for record in episodes(3)]))
    for one in drawings(runs).values():
        save(one.figure()[0], tmp_path, one.name)


def test_draws_hostile_names_verbatim(tmp_path, svg_only):
    record = dataclasses.replace(episodes(1)[0], policy="$\\frac{1}", task="_a$^%")
    runs = load_runs(write_run(tmp_path, [record]))
    save(drawings(runs)["success"].figure()[0], tmp_path, "figure")
