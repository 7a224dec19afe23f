"""Success rate against perturbation strength."""

import dataclasses

import pytest

from simloop.results.figures.curves import draw_perturbation
from simloop.results.figures.style import one_panel
from simloop.results.records.runs import load_runs
from simloop.results.statistics.paired import Pairs, mcnemar_mid_p, tango
from simloop.results.tables.perturbation_curves import perturbation_curves
from simloop.results.tables.run_tables import table
from tests.helpers.run_folders import episodes, write_run

BASE = "metaworld/default-v1"


def perturbed(strength):
    return f"{BASE} with camera-noise={strength}"


def run(folder, protocol, counts, **fields):
    """Two policies on two tasks; `counts` are successes and failures of each."""
    records = []
    for policy, own in zip(("pi0", "pi05"), counts, strict=True):
        for task in ("push-v3", "reach-v3"):
            records += episodes(
                *own, policy=policy, weights="trained", task=task, protocol=protocol, **fields
            )
    return write_run(folder, records)


@pytest.fixture
def runs(tmp_path):
    return load_runs(
        [
            run(tmp_path / "strong", perturbed(0.2), [(2, 8), (8, 2)]),
            run(tmp_path / "plain", BASE, [(10, 0), (10, 0)]),
            run(tmp_path / "weak", perturbed(0.05), [(9, 1), (10, 0)]),
        ]
    )


def test_orders_rates_by_strength(runs):
    (curves,) = perturbation_curves(runs)
    assert (curves.suite, curves.protocol, curves.kind) == ("metaworld", BASE, "camera-noise")
    rates = {policy: [(p.strength, p.mean.rate) for p in points] for policy, points in curves.of.items()}
    assert rates == {
        "pi0": [(0.0, 1.0), (0.05, 0.9), (0.2, 0.2)],
        "pi05": [(0.0, 1.0), (0.05, 1.0), (0.2, 0.8)],
    }


def test_pairs_changes_by_episode_and_adjusts_them_together(runs):
    (curves,) = perturbation_curves(runs)
    plain, weak, strong = curves.of["pi0"]
    assert plain.change is None
    lost = Pairs(both=4, only_b=16)
    assert strong.change.pairs == lost
    assert strong.change.difference == pytest.approx(-0.8)
    assert strong.change.interval == tango(lost)
    assert strong.p_holm == pytest.approx(4 * mcnemar_mid_p(lost)), "the smallest of four changes"
    assert weak.p_holm > weak.change.p_value


def test_table_and_figure_agree(runs):
    text = table(runs, only="perturbations").to_text()
    assert "Success in % under camera-noise, protocol metaworld/default-v1" in text
    (row,) = [line for line in text.splitlines() if line.startswith("pi0 ") and " 0.2 " in line]
    assert "4/20" in row
    assert "−80.0" in row
    assert "mid-p McNemar over 2 tasks and Tango's interval" in " ".join(text.split())
    _, axes = one_panel(2.0)
    draw_perturbation(axes, perturbation_curves(runs)[0], runs.labels)
    drawn = {c.get_label(): list(c.lines[0].get_ydata()) for c in axes.containers}
    assert drawn == {"pi0": pytest.approx([100, 90, 20]), "pi05": pytest.approx([100, 100, 80])}
    rows = table(runs, only="perturbations").to_csv().splitlines()
    assert len(rows) == 1 + 6


def test_separates_kinds_and_protocols(tmp_path):
    runs = load_runs(
        [
            run(tmp_path / "a", perturbed(0.2), [(2, 8), (8, 2)]),
            run(tmp_path / "b", f"{BASE} with action-noise=0.2", [(2, 8), (8, 2)]),
            run(tmp_path / "c", f"{BASE}+0123abcd with action-noise=0.2", [(2, 8), (8, 2)]),
        ]
    )
    found = [(curves.protocol, curves.kind) for curves in perturbation_curves(runs)]
    assert found == [(BASE, "action-noise"), (BASE, "camera-noise"), (f"{BASE}+0123abcd", "action-noise")]
    assert all(p.change is None for curves in perturbation_curves(runs) for p in curves.of["pi0"])
    assert "not available without unperturbed episodes" in table(runs, only="perturbations").to_markdown()


def test_pairs_no_episodes_with_other_initial_states(tmp_path):
    plain = run(tmp_path / "plain", BASE, [(10, 0), (10, 0)])
    fields = {"policy": "pi0", "weights": "trained", "protocol": perturbed(0.2)}
    others = [
        dataclasses.replace(record, seed=record.seed + 1)
        for task in ("push-v3", "reach-v3")
        for record in episodes(2, 8, task=task, **fields)
    ]
    (curves,) = perturbation_curves(load_runs([plain, write_run(tmp_path / "others", others)]))
    (_, strong) = curves.of["pi0"]
    assert strong.change.pairs is None
    assert strong.change.unpaired_because == "episodes with the same number started from different states"


def test_runs_without_perturbations_have_no_curves(tmp_path):
    runs = load_runs(run(tmp_path / "plain", BASE, [(10, 0), (10, 0)]))
    assert perturbation_curves(runs) == []
    assert "These runs have no perturbed episodes" in table(runs, only="perturbations").to_markdown()
