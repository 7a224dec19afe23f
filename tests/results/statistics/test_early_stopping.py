"""Decisions of runs with a stopping rule."""

import dataclasses

import pytest

from simloop.results.records.runs import load_runs
from simloop.results.statistics.early_stopping import sequential_decisions
from simloop.results.tables.decisions import decision_sentence
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
    assert "not decided yet, after 2 of at most 60 pairs" in sentence
    tight = RULE | {"margin": 0.01, "max_pairs": 4}
    _, sentence = decide(tmp_path / "end", [(True, False), (False, True)] * 2, rule=tight, pairs=4)
    assert "undecided after 4 of at most 4 pairs; neither a difference nor equivalence" in sentence
    assert "not needed" not in sentence
    _, sentence = decide(tmp_path / "none", [(None, True)])
    assert "no pair of episodes has been completed yet" in sentence


def test_leaves_out_pairs_with_an_error(tmp_path):
    answer, sentence = decide(tmp_path, [(None, True)] * 2 + [(True, False)] * 8)
    assert (answer.pairs, answer.left_out) == (7, 2)
    assert "Left out: 2 pairs with an error." in sentence
    few = RULE | {"max_pairs": 3}
    answer, _ = decide(tmp_path / "few", [(None, True), (True, True), (True, True)], rule=few, pairs=3)
    assert answer.decision == "undecided", "no pair is left to play"


def test_runs_without_a_rule_have_no_decision(tmp_path):
    assert sequential_decisions(load_runs(write_run(tmp_path, [EPISODE]))) == []


@pytest.mark.parametrize("name", ["", "x="])
def test_prefixes_policies_with_the_name_of_the_run(tmp_path, name):
    run(tmp_path, [(True, False)] * 8)
    (answer,) = sequential_decisions(load_runs([f"{name}{tmp_path}"]))
    assert answer.decision == "differ"
    assert answer.a == ("x:a" if name else "a")
