"""Comparisons in words."""

import dataclasses

import pytest

from simloop.results.errors import ResultsError
from simloop.results.records.runs import load_runs
from simloop.results.statistics.early_stopping import matrices
from simloop.results.statistics.families import findings
from simloop.results.tables.statements import comparison, headline, p_phrase, signed, task_grids
from tests.helpers.run_folders import episodes, failed, write_run


def policy(name, successes, failures, **fields):
    return episodes(successes, failures, policy=name, weights=fields.pop("weights", "trained"), **fields)


def said(tmp_path, *groups, policies=(), **options):
    runs = load_runs(write_run(tmp_path / "run", [record for group in groups for record in group]))
    ((title, sentences, grid),) = comparison(runs, policies, **options)
    return title, sentences, grid


def test_states_a_difference_with_the_better_policy_first(tmp_path):
    title, sentences, grid = said(tmp_path, policy("a", 8, 32), policy("b", 30, 10))
    assert title == "Success on task reach-v3 of metaworld, protocol metaworld/default-v1"
    assert sentences[0].startswith(
        "b succeeds more often than a: 75.0 % against 20.0 % in the same 40 episodes, +55.0 points (95 % "
    )
    assert "p < 0.0001 (mid-p McNemar; exact p < 0.0001)" in sentences[0]
    assert [(row[0], row[5], row[6]) for row in grid.rows] == [("b", "a", "1"), ("a", "b", "2")]


def test_calls_a_missing_difference_inconclusive(tmp_path):
    _, sentences, grid = said(tmp_path, policy("a", 9, 1), policy("b", 8, 2))
    assert sentences[0].startswith(
        "a and b: inconclusive, neither different nor equivalent: 90.0 % against 80.0 %"
    )
    assert "; the 90 % interval " in sentences[0]
    assert [row[5] for row in grid.rows] == ["a", "a"]


def test_headline_names_all_policies_that_may_be_best(tmp_path):
    groups = [policy("a", 9, 1), policy("b", 8, 2), policy("c", 7, 3), policy("d", 0, 10)]
    runs = load_runs(write_run(tmp_path / "run", [record for group in groups for record in group]))
    (outcomes,) = matrices(runs).values()
    sentence = headline(outcomes, findings([outcomes])[0], runs.labels)
    assert sentence.endswith(": a, b and c do not differ significantly.")


def test_headline_compares_no_policies_without_a_common_task(tmp_path):
    runs = load_runs(write_run(tmp_path, [*policy("a", 9, 1), *policy("b", 0, 9, task="push-v3")]))
    (outcomes,) = matrices(runs).values()
    assert headline(outcomes, findings([outcomes])[0], runs.labels).endswith(
        "have no task in common, so nothing to compare."
    )
    ((_, sentences, grid),) = comparison(runs)
    assert (
        sentences[1] == "Not compared with every other policy, for lack of episodes of a common task: a, b."
    )
    assert [row[5] for row in grid.rows] == ["–", "–"]


def test_states_equivalence_with_its_margin(tmp_path):
    _, sentences, _ = said(tmp_path, policy("a", 380, 20), policy("b", 380, 20))
    assert sentences[0].startswith("a and b are equivalent within ± 2 points (90 % interval ")
    assert "TOST p = " in sentences[0]


def test_a_larger_family_makes_an_equivalence_inconclusive(tmp_path):
    groups = [policy("a", 380, 20), policy("b", 380, 20)]
    _, (sentence, *_), _ = said(tmp_path, *groups, looked_at=20)
    assert sentence.startswith("a and b: inconclusive, neither different nor equivalent")
    assert ", TOST p = " in sentence
    assert ", after Holm p = " in sentence


def test_states_why_episodes_are_not_paired(tmp_path):
    elsewhere = [dataclasses.replace(record, seed=1) for record in policy("b", 2, 8)]
    runs = load_runs([write_run(tmp_path / "a", policy("a", 9, 1)), write_run(tmp_path / "b", elsewhere)])
    ((_, sentences, _),) = comparison(runs)
    assert (
        "in 10 and 10 episodes, unpaired because episodes with the same number started from different"
        in sentences[0]
    )
    assert "(Barnard's exact test)" in sentences[0]


def test_states_the_size_of_the_family(tmp_path):
    groups = [policy("a", 9, 1), policy("b", 2, 8), policy("c", 2, 8)]
    _, sentences, _ = said(tmp_path, *groups, policies=("a", "b"))
    assert "; after Holm p = " in sentences[0]
    assert sentences[1] == (
        "3 policies were evaluated, which makes 3 pairs; p-values after Holm, of differences and separately of "
        "equivalence, hold for all of them together."
    )
    assert "2 of the 3 are compared here." in sentences[2]


def test_a_larger_family_makes_a_difference_inconclusive(tmp_path):
    groups = [policy("a", 9, 1), policy("b", 2, 8)]
    _, few, _ = said(tmp_path / "few", *groups)
    _, many, _ = said(tmp_path / "many", *groups, looked_at=20)
    assert few[0].startswith("a succeeds more often than b")
    assert many[0].startswith("a and b: inconclusive")


def test_marks_untrained_policies_in_every_sentence(tmp_path):
    _, sentences, grid = said(tmp_path, policy("a", 9, 1), policy("b", 0, 10, weights="untrained"))
    assert "than b (untrained):" in sentences[0]
    assert grid.rows[1][0] == "b (untrained)"


def test_separates_protocols(tmp_path):
    records = [
        *(
            r
            for protocol in ("metaworld/x", "metaworld/y")
            for name in "ab"
            for r in policy(name, 5, 5, protocol=protocol)
        )
    ]
    runs = load_runs(write_run(tmp_path, records))
    assert [title.split()[-1] for title, _, _ in comparison(runs)] == ["metaworld/x", "metaworld/y"]


def test_all_protocols_are_one_family(tmp_path):
    protocols = [f"metaworld/p{i}" for i in range(3)]
    records = [
        r
        for protocol in protocols
        for name, counts in (("a", (9, 1)), ("b", (2, 8)))
        for r in policy(name, *counts, protocol=protocol)
    ]
    found = comparison(load_runs(write_run(tmp_path, records)))
    for _, sentences, _ in found:
        assert "p = 0.0078 (mid-p McNemar; exact p = 0.016); after Holm p = 0.023" in sentences[0]
        assert sentences[1] == (
            "2 policies were evaluated, which makes 1 pair here and 3 comparisons in all 3 suites and protocols; "
            "p-values after Holm, of differences and separately of equivalence, hold for all of them together."
        )


def test_errors_that_may_decide_are_said(tmp_path):
    a = episodes(12, 0, 8, policy="a", weights="trained")
    b = [failed(r) if r.episode < 12 else r for r in policy("b", 20, 0)]
    _, sentences, grid = said(tmp_path, a, b)
    assert sentences[0].startswith("a and b: inconclusive")
    assert "100.0 % against 0.0 % in the same 12 episodes" in sentences[0]
    assert "Errors may decide (8 of a and 0 of b): with those of a as failures and those of b" in sentences[0]
    assert [row[5] for row in grid.rows] == ["a", "a"]


def test_tables_by_task_are_one_family_over_pairs_and_tasks(tmp_path):
    records = [
        r
        for name, counts in (("a", (9, 1)), ("b", (2, 8)), ("c", (2, 8)))
        for task in ("reach-v3", "push-v3")
        for r in policy(name, *counts, task=task)
    ]
    grids = task_grids(list(matrices(load_runs(write_run(tmp_path, records))).values()))
    assert [grid.title for grid in grids] == [f"{a} less {b}, in points" for a, b in ("ab", "ac", "bc")]
    assert "the 6 comparisons of all tables by task" in grids[0].notes[1]
    p, adjusted = (float(text) for text in grids[0].rows[0][-2:])
    assert adjusted == pytest.approx(6 * p, rel=0.05)


def test_task_grid_has_a_row_per_shared_task(tmp_path):
    records = [*policy("a", 9, 1), *policy("b", 2, 8), *policy("a", 5, 5, task="push-v3")]
    together = list(matrices(load_runs(write_run(tmp_path, records))).values())
    (grid,) = task_grids(together)
    assert [row[:6] for row in grid.rows] == [("reach-v3", "2", "7", "0", "1", "+70.0")]
    assert grid.notes[-1] == "Tasks that not both policies completed: push-v3."


@pytest.mark.parametrize(
    ("policies", "options", "message"),
    [
        (("a", "c"), {}, "No episodes of 'c' in these runs; there are a, b"),
        (("a", "a"), {}, "takes two policies"),
        ((), {"margin": 0.0}, r"lie in \(0, 1\)"),
    ],
)
def test_rejects_policies_and_levels_that_cannot_be_compared(tmp_path, policies, options, message):
    with pytest.raises(ResultsError, match=message):
        said(tmp_path, policy("a", 9, 1), policy("b", 2, 8), policies=policies, **options)


def test_rejects_policies_without_a_common_protocol(tmp_path):
    runs = load_runs(
        write_run(tmp_path, [*policy("a", 3, 0), *policy("b", 3, 0, protocol="metaworld/other")])
    )
    with pytest.raises(ResultsError, match="No two of these policies"):
        comparison(runs)


def test_formats_signs_and_digits():
    assert [signed(d) for d in (0.0312, -0.0312, 0.0, -0.0001)] == ["+3.1", "−3.1", "0.0", "0.0"]
    assert [p_phrase(p) for p in (0.5, 0.0312, 0.00012, 1e-9)] == [
        "p = 0.50",
        "p = 0.031",
        "p = 0.00012",
        "p < 0.0001",
    ]
