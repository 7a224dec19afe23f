"""Runs of a benchmark's size are read and summed up while one waits."""

import dataclasses

import numpy as np
import pytest

from tests.helpers.fresh_python import run_python
from tests.helpers.run_folders import EPISODE, failed, write_run

# Without the checks of shapes and types that tests run under, which would be most of the time.
PROGRAM = """
import sys, time
start = time.process_time()
from simloop.results.records.runs import load_runs
from simloop.results.tables.statements import comparison
from simloop.results.tables.run_tables import table
runs = load_runs(sys.argv[1])
table(runs).to_text()
comparison(runs)
print(len(runs.episodes), time.process_time() - start)
"""


@pytest.mark.slow
def test_a_hundred_thousand_episodes_are_summed_up_in_ten_seconds(tmp_path):
    rng = np.random.default_rng(0)
    records = []
    for policy in "abcd":
        for task in range(50):
            for episode, succeeded in enumerate(rng.random(500) < 0.8):
                fields = {"policy": policy, "weights": "trained", "task": f"t{task:02d}", "episode": episode}
                record = dataclasses.replace(EPISODE, seed=episode, **fields)
                records.append(record if succeeded else failed(record))
    count, seconds = run_python(PROGRAM, write_run(tmp_path, records)).split()
    assert int(count) == 100_000
    assert float(seconds) < 10
