"""Interfaces of policies."""

import numpy as np
import pytest

from simloop.policies.interface import Query, batched
from simloop.policies.scripted import scripted_policy

QUERY = Query("t", "i", 1, np.zeros(1, np.float32), action_low=-np.ones(2), action_high=np.ones(2))


def test_batches_a_simple_policy():
    policy = batched(scripted_policy("hold"))
    assert policy.spec.name == "hold"
    assert policy.prepare(4) == 0
    result = policy.run(policy.assemble([policy.encode(QUERY)] * 3, 4))
    assert [chunk.actions.shape for chunk in result.chunks] == [(1, 2)] * 3
    assert result.host_s > 0


def test_returns_a_batched_policy_unchanged():
    policy = batched(scripted_policy("hold"))
    assert batched(policy) is policy


@pytest.mark.parametrize("n", [0, 2])
def test_rejects_batches_that_do_not_fit(n):
    with pytest.raises(ValueError, match=f"1 to 1 queries; got {n}"):
        batched(scripted_policy("hold")).infer([QUERY] * n, 1)
