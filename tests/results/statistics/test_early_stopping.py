"""Decisions of runs with a stopping rule."""

import dataclasses

import pytest

from simloop.results.records.runs import load_runs
from simloop.results.statistics.contrasts import contrast
from simloop.results.statistics.early_stopping import matrices, sequential_decisions
from simloop.results.statistics.families import findings
from simloop.results.statistics.intervals import wilson
from simloop.results.statistics.sequential import rate_sequence
from simloop.results.tables.decisions import decision_sentence
from simloop.results.tables.grid import NONE
from simloop.results.tables.run_tables import table
from simloop.results.tables.statements import comparison, headline
from tests.helpers.run_folders import EPISODE, broken, failed, write_run

RULE = {"alpha": 0.05, "margin": 0.3, "max_pairs": 60}


def run(folder, outcomes, rule=RULE, pairs=60):
    """`outcomes`: for each pair whether a, and b, succeeded; None for an error."""
    config = {
        "experiment": {
            "suite": "metaworld", "policies": ["a", "b"], "episodes": pairs, "tasks": ["reach"], "stopping": rule,
        },
        "tasks": ["reach-v3"],
        "pairs": [["reach-v3", i] for i in range(pairs)],
    }  # fmt: skip
    records = []
    for i, pair in enumerate(outcomes):
        for policy, outcome in zip("ab", pair, strict=True):
            record = dataclasses.replace(EPISODE, policy=policy, weights="trained", episode=i, seed=i)
            records.append(broken(record) if outcome is None else record if outcome else failed(record))
    return load_runs(write_run(folder, records, config=config))


def decide(tmp_path, outcomes, **fields):
    (answer,) = sequential_decisions(run(tmp_path, outcomes, **fields))
    return answer, decision_sentence(answer)


def test_states_a_difference_and_the_episodes_it_saved(tmp_path):
    answer, sentence = decide(tmp_path, [(False, True)] * 9)
    assert (answer.decision, answer.pairs, answer.saved) == ("differ", 7, 120 - 18)
    assert sentence.startswith(
        "b and a differ on these tasks, b succeeding more often: decided after 7 of at most 60 pairs, at level 0.05"
    )
    assert sentence.endswith("102 of 120 planned episodes were not needed.")
    assert answer.e_values[-1] >= 20 > answer.e_values[-2]


def test_stops_at_equivalence(tmp_path):
    answer, sentence = decide(tmp_path, [(True, True)] * 60)
    assert answer.decision == "equivalent"
    assert answer.pairs < 60
    assert "equivalent within ± 30 points" in sentence


def test_states_that_nothing_is_decided(tmp_path):
    _, sentence = decide(tmp_path / "open", [(True, False), (False, True)])
    assert "undecided so far, after 2 of at most 60 pairs" in sentence
    tight = RULE | {"margin": 0.01, "max_pairs": 4}
    _, sentence = decide(tmp_path / "end", [(True, False), (False, True)] * 2, rule=tight, pairs=4)
    assert "undecided after 4 of at most 4 pairs; neither a difference nor equivalence" in sentence
    assert "not needed" not in sentence
    _, sentence = decide(tmp_path / "none", [(None, True)])
    assert "no pair of episodes has been completed yet" in sentence


def test_leaves_out_pairs_with_an_error(tmp_path):
    answer, sentence = decide(tmp_path, [(None, True)] * 2 + [(True, False)] * 8)
    assert (answer.pairs, answer.left_out) == (7, 2)
    assert "Left out: 2 pairs with an error, which may decide: with errors of a as failures" in sentence
    _, sentence = decide(tmp_path / "one", [(True, None)] + [(True, False)] * 8)
    assert "Left out: 1 pair with an error. " in sentence
    few = RULE | {"max_pairs": 3}
    answer, _ = decide(tmp_path / "few", [(None, True), (True, True), (True, True)], rule=few, pairs=3)
    assert answer.decision == "undecided", "no pair is left to play"


def test_everything_printed_of_an_undecided_run_is_undecided(tmp_path):
    # Six to none: mid-p McNemar would call this a difference at 0.016.
    runs = run(tmp_path, [(True, False)] * 6 + [(True, True)] * 4)
    assert sequential_decisions(runs)[0].decision == "continue"
    ((_, (sentence, *_), grid),) = comparison(runs)
    assert sentence.startswith("a and b: undecided, neither different nor equivalent: 100.0 % against 40.0 %")
    assert "confidence sequence), p = 0.069 (e-process, valid at every look)" in sentence
    assert [row[5:] for row in grid.rows] == [("a", NONE, NONE)] * 2
    text = table(runs).to_markdown()
    assert "**100.0" not in text
    assert "undecided so far, after 10 of at most 60 pairs" in text
    wide = rate_sequence(10, 10)
    assert f"100.0 [{100 * wide.low:.1f}, 100.0] 10/10" in text
    assert wide.low < wilson(10, 10).low
    (outcomes,) = matrices(runs).values()
    sentence = headline(outcomes, findings([outcomes])[0], runs.labels)
    assert sentence.endswith("a and b do not differ significantly; undecided by the stopping rule.")


def test_the_comparison_of_a_decided_run_agrees_with_its_decision(tmp_path):
    runs = run(tmp_path, [(False, True)] * 7 + [(True, False)] * 2)
    (answer,) = sequential_decisions(runs)
    ((_, (sentence, *_), grid),) = comparison(runs)
    assert sentence.startswith(
        "b and a differ on these tasks, b succeeding more often: 100.0 % against 0.0 %"
    )
    assert [row[5] for row in grid.rows] == ["a", "b"]
    (outcomes,) = matrices(runs).values()
    found = contrast(outcomes, "a", "b")
    assert found.p_value == pytest.approx(1 / max(answer.e_values))
    assert (found.interval, found.pairs.episodes) == (answer.interval, answer.pairs)


def test_a_policy_of_another_run_is_compared_in_the_order_of_the_rule(tmp_path):
    run(tmp_path / "ruled", [(True, False)] * 6)
    third = [
        dataclasses.replace(failed(EPISODE), policy="c", weights="trained", episode=i, seed=i)
        for i in range(8)
    ]
    write_run(tmp_path / "fixed", third)
    (outcomes,) = matrices(load_runs([tmp_path / "ruled", tmp_path / "fixed"])).values()
    found = contrast(outcomes, "a", "c")
    assert (found.anytime, found.pairs.episodes) == (True, 6)
    other_states = [dataclasses.replace(record, seed=record.seed + 50) for record in third]
    write_run(tmp_path / "apart", other_states)
    (outcomes,) = matrices(load_runs([tmp_path / "ruled", tmp_path / "apart"])).values()
    assert contrast(outcomes, "a", "c") is None


def test_runs_without_a_rule_have_no_decision(tmp_path):
    assert sequential_decisions(load_runs(write_run(tmp_path, [EPISODE]))) == []


@pytest.mark.parametrize("name", ["", "x="])
def test_prefixes_policies_with_the_name_of_the_run(tmp_path, name):
    run(tmp_path, [(True, False)] * 8)
    (answer,) = sequential_decisions(load_runs([f"{name}{tmp_path}"]))
    assert answer.decision == "differ"
    assert answer.a == ("x:a" if name else "a")
