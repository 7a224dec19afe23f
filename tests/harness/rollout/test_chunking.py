import numpy as np
import pytest

from simloop.harness.rollout.chunking import RecedingHorizon


def chunk(first: float, steps: int) -> np.ndarray:
    return np.arange(first, first + steps, dtype=np.float32)[:, None]


@pytest.mark.parametrize(("replan_steps", "horizon"), [(1, 1), (3, 3), (5, 5), (100, 5)])
def test_queries_again_after_the_replan_interval_or_the_whole_chunk(replan_steps, horizon):
    executor = RecedingHorizon(replan_steps)
    queries = []
    for step in range(20):
        if executor.wants_query(step):
            queries.append(step)
            executor.accept(chunk(100 * len(queries), 5), step)
        action, chunk_index, index = executor.action(step)
        assert (chunk_index, index) == (len(queries) - 1, step - queries[-1])
        assert action.item() == 100 * len(queries) + index
    assert queries == list(range(0, 20, horizon))
