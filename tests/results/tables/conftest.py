"""A run with two policies, errors and queries, for the tests of its tables."""

import numpy as np
import pytest

from tests.helpers.run_folders import episodes, with_queries, write_run

CONFIG = {"experiment": {"suite": "metaworld", "policies": ["expert", "pi0-tiny", "late"], "episodes": 10}}


def latencies(record):
    """An episode with 120 queries of at least 25 ms, drawn from its seed."""
    totals = 25 + np.random.default_rng(record.seed).exponential(5, size=120).round(3)
    return with_queries(record, totals.tolist())


@pytest.fixture
def run(tmp_path):
    """Two policies on two tasks: one is untrained and has errors, and one episode has not finished."""
    pi0 = {"policy": "pi0-tiny", "weights": "untrained"}
    records = [
        *episodes(10, 0),
        *episodes(8, 1, task="push-v3"),
        *episodes(1, 9, **pi0),
        *episodes(0, 7, 3, task="push-v3", **pi0),
    ]
    made = [(record, []) if record.outcome == "error" else latencies(record) for record in records[:-10]]
    made += [(record, []) for record in records[-10:]]
    return write_run(
        tmp_path / "run",
        [record for record, _ in made],
        made,
        CONFIG,
        {"compile_s": {"expert": 0.0, "pi0-tiny": 12.34}},
    )
