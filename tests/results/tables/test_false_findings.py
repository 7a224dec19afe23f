"""How often the text about equal policies states a difference, in simulated evaluations from records to text.

`scripts/test -m slow tests/results/tables/test_false_findings.py -s` prints the error rates of docs/statistics.md.
"""

import dataclasses
import math
import os
import re

import numpy as np
import pytest

from simloop.results.records.runs import load_runs
from simloop.results.statistics.early_stopping import matrices
from simloop.results.statistics.families import findings
from simloop.results.tables import statements
from simloop.results.tables.run_tables import table
from simloop.results.tables.statements import comparable, comparison, headline, task_grids
from tests.helpers.run_folders import EPISODE, broken, failed, write_run

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(3600)]

ALPHA = 0.05
EVALUATIONS = int(os.environ.get("SIMLOOP_EVALUATIONS", "300"))
SEED = int(os.environ.get("SIMLOOP_SEED", "0"))
"""Another one draws other evaluations, so that they can be split."""
RULE = {"alpha": ALPHA, "margin": 0.02, "max_pairs": 300}


@pytest.fixture(autouse=True)
def _no_ranks(monkeypatch):
    """The bootstrap of ranks takes most of the time and states no difference."""
    monkeypatch.setattr(statements, "rank_intervals", lambda *_: ([], True))


def played(policy, task, episode, won, **fields):
    base = dataclasses.replace(
        EPISODE, policy=policy, weights="trained", task=task, episode=episode, seed=episode
    )
    record = dataclasses.replace(base, **fields)
    return record if won else failed(record)


def with_outcomes(runs, won):
    """The runs with other outcomes, which takes a tenth of the time of writing and reading them."""
    outcomes = {
        "outcome": np.where(won, "success", "failure"),
        "ended_by": np.where(won, "success", "step_limit"),
    }
    return dataclasses.replace(runs, episodes=runs.episodes.assign(**outcomes))


def states_a_difference(runs):
    """Whether any sentence, letter or bold rate about the means says that two policies differ."""
    sentences = [sentence for _, found, _ in comparison(runs) for sentence in found]
    together = list(matrices(runs).values())
    sentences += [headline(*one, runs.labels) for one in zip(together, findings(together), strict=True)]
    said = re.search("succeeds more often|differ on these tasks|has the highest", " ".join(sentences))
    text = table(runs).to_markdown()
    marked = re.search(r"\| (\*\*)?[0-9.]+ [a-z]+ \[", text)
    return said is not None or marked is not None


def report(design, wrong):
    print(f"| {design} | {100 * wrong / EVALUATIONS:.1f} % |")
    slack = 2.5 * math.sqrt(ALPHA * (1 - ALPHA) / EVALUATIONS)
    assert wrong / EVALUATIONS <= ALPHA + slack, f"{design}: {wrong} of {EVALUATIONS}"


def test_twenty_protocols_of_two_equal_policies(tmp_path):
    rng, wrong = np.random.default_rng([1, SEED]), 0
    for _ in range(EVALUATIONS):
        records = [
            played(name, "reach-v3", episode, won, protocol=f"metaworld/p{protocol}")
            for protocol in range(20)
            for name in "ab"
            for episode, won in enumerate(rng.random(20) < 0.7)
        ]
        wrong += states_a_difference(load_runs(write_run(tmp_path, records)))
    report("20 protocols, two equal policies, 20 episodes", wrong)


def test_looks_at_a_run_with_a_stopping_rule(tmp_path):
    rng, wrong, tasks = np.random.default_rng([2, SEED]), 0, ["pick", "push", "reach"]
    order = [(task, episode) for episode in range(100) for task in tasks]
    config = {
        "experiment": {"suite": "metaworld", "policies": ["a", "b"], "episodes": 100, "stopping": RULE},
        "pairs": [list(pair) for pair in order],
    }
    records = [played(name, task, episode, True) for task, episode in order for name in "ab"]
    runs = load_runs(write_run(tmp_path, records, config=config))
    rate = runs.episodes["task"].map({"pick": 0.3, "push": 0.7, "reach": 0.9}).to_numpy()
    pair = 3 * runs.episodes["episode"].to_numpy() + runs.episodes["task"].map(tasks.index).to_numpy()
    for _ in range(EVALUATIONS):
        drawn = with_outcomes(runs, rng.random(len(rate)) < rate)
        looks = (
            dataclasses.replace(drawn, episodes=drawn.episodes[pair < n].reset_index(drop=True))
            for n in range(15, 301, 15)
        )
        wrong += any(map(states_a_difference, looks))
    report("20 looks at a run with a stopping rule, two equal policies, three tasks", wrong)


def test_ten_equal_policies_by_task(tmp_path):
    rng, wrong = np.random.default_rng([3, SEED]), 0
    records = [
        played(f"p{policy}", f"task-{task}", episode, True)
        for policy in range(10)
        for task in range(5)
        for episode in range(50)
    ]
    runs = load_runs(write_run(tmp_path, records))
    for _ in range(EVALUATIONS):
        grids = task_grids(comparable(with_outcomes(runs, rng.random(len(records)) < 0.5)))
        texts = [row[-1] for grid in grids for row in grid.rows]
        wrong += min(float(text.removeprefix("< ")) for text in texts) < ALPHA
    report("tables by task, ten equal policies, five tasks of 50 episodes", wrong)


@pytest.mark.parametrize("episodes", [1, 2, 5])
def test_few_unpaired_episodes_of_four_tasks(tmp_path, episodes):
    rng, wrong = np.random.default_rng([4, SEED]), 0
    for _ in range(EVALUATIONS):
        folders = [
            write_run(
                tmp_path / name,
                [
                    played(name, f"task-{task}", episode, rng.random() < 0.5, seed=1000 * first + episode)
                    for task in range(4)
                    for episode in range(episodes)
                ],
            )
            for first, name in enumerate("ab")
        ]
        wrong += states_a_difference(load_runs(folders))
    report(f"four tasks with {episodes} unpaired episodes, two equal policies", wrong)


def test_errors_in_the_episodes_that_one_policy_would_fail(tmp_path):
    rng, wrong = np.random.default_rng([5, SEED]), 0
    for _ in range(EVALUATIONS):
        records = [
            played(name, f"task-{task}", episode, rng.random() < 0.6)
            for name in "ab"
            for task in range(5)
            for episode in range(20)
        ]
        records = [
            broken(record)
            if record.policy == "a" and record.outcome == "failure" and rng.random() < 0.6
            else record
            for record in records
        ]
        wrong += states_a_difference(load_runs(write_run(tmp_path, records)))
    report("errors in place of 60 % of the failures of one of two equal policies", wrong)


def test_unpaired_tasks_keep_their_level_in_all_designs_up_to_200_episodes():
    """The exact Cochran-Mantel-Haenszel test, at rates drawn anew for each of many designs."""
    from simloop.results.statistics.unpaired import cochran_mantel_haenszel

    rng = np.random.default_rng([6, SEED])
    for tasks, a, b in ((2, 1, 1), (4, 1, 1), (4, 5, 5), (10, 1, 3), (10, 5, 5), (2, 50, 50), (20, 5, 5)):
        rates = rng.random(tasks)
        p_values = np.array(
            [
                cochran_mantel_haenszel(
                    rng.binomial(a, rates).tolist(), [a] * tasks, rng.binomial(b, rates).tolist(), [b] * tasks
                )
                for _ in range(1000)
            ]
        )
        size = float((p_values <= ALPHA).mean())
        print(f"| {tasks} tasks, {a} and {b} episodes each | {100 * size:.1f} % |")
        assert size <= ALPHA + 2.5 * math.sqrt(ALPHA * (1 - ALPHA) / 1000)
