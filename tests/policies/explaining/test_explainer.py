"""Explanations are about the answer that the policy gives."""

import numpy as np
import pytest

from simloop.policies.explaining.attention import TokenLayout
from simloop.policies.explaining.base import in_spreads
from simloop.policies.explaining.explainer import explainer
from simloop.policies.interface import Query
from tests.policies.inference.test_model_policy import small

DRAWS = 3


def asked(policy, seed=0):
    rng = np.random.default_rng(seed)
    images = {camera: rng.integers(0, 256, (96, 96, 3), dtype=np.uint8) for camera in policy.spec.cameras}
    return Query("reach-v3", "reach the goal", 2**40 + 7, rng.uniform(-1, 1, 4).astype(np.float32), images)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pi0-tiny", "pi05-tiny"])
def test_flow_models_are_explained_along_the_path_that_they_take(name):
    policy = small(name)
    query = asked(policy)
    found = explainer(policy, DRAWS).explain(query, {"other": "open the drawer"})
    chunk = policy.infer([query], 1).chunks[0].actions
    np.testing.assert_allclose(found.chunk, chunk, atol=2e-5)
    np.testing.assert_allclose(found.draws[0], chunk, atol=2e-5)
    assert found.draws.shape == (DRAWS, *chunk.shape)
    assert (found.spread > 0).all()
    assert found.flow.x.shape[0] == len(found.flow.times) == len(found.flow.speeds) + 1
    assert (found.flow.times[0], found.flow.times[-1]) == (1, 0)
    np.testing.assert_allclose(found.attention.weights.sum(axis=-1), 1, atol=1e-5)
    assert sum(found.attention.shares().values()) == pytest.approx(1)
    assert sum(share for _, share in found.attention.word_shares()) == pytest.approx(1)
    names = [one.name for one in found.sensitivities]
    assert {"base_0_rgb dropped", "left_wrist_0_rgb blurred", "no prompt", "other", "state zeroed"} <= {
        *names
    }
    assert all(one.change > 0 for one in found.sensitivities)
    assert explainer(policy, DRAWS).attention(query).rollout == pytest.approx(found.attention.rollout)


@pytest.mark.slow
def test_token_models_are_explained_by_the_answer_that_they_give():
    policy = small("pi0_fast-tiny")
    query = asked(policy)
    explain = explainer(policy, DRAWS)
    found = explain.explain(query)
    np.testing.assert_allclose(found.chunk, policy.infer([query], 1).chunks[0].actions, atol=2e-5)
    answer = found.answer
    assert answer[-1].piece == "<eos>"
    assert all(token.fixed for token in (answer[0], answer[-1]))
    for token in answer:
        assert 0 <= token.probability <= token.allowed <= 1 + 1e-9
        assert len(token.runners_up) == (0 if token.fixed else 2)
        assert all(not token.forced or token.probability < 0.5 for token in answer)
    free = [token for token in answer if not token.fixed]
    whole = [one for token in free for one in token.coefficients]
    assert len(whole) == policy.preset.model.action_horizon * policy.preset.model.action_dim
    changes = [other.change for token in free for other in token.runners_up]
    assert all(change is not None and change >= 0 for change in changes)
    assert max(changes) > 0
    np.testing.assert_allclose(found.attention.weights.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.slow
def test_an_answer_that_continues_from_its_own_tokens_is_the_same():
    policy = small("pi0_fast-tiny")
    explain = explainer(policy, DRAWS)
    from simloop.policies.explaining.inputs import model_inputs

    inputs = model_inputs(policy, asked(policy))
    tokens = np.asarray(explain._greedy(inputs, np.zeros((1, 2), np.uint32)))[0]
    grammar = explain._grammar
    begin, most = len(grammar.begin), grammar.max_tokens
    for given in (begin, begin + 1, begin + 3):
        own = np.full((1, most), -1, np.int32)
        own[0, :given] = tokens[:given]
        left = int(grammar.total) - grammar.coefficients[tokens[begin:given]].sum()
        again = np.asarray(explain._continue(inputs, own, np.array([left], np.int32)))[0]
        np.testing.assert_array_equal(again[: len(tokens)], tokens)


def test_changes_are_in_units_of_the_spread():
    drawn = np.array([[[-1.0]], [[1.0]]])
    assert in_spreads(np.full((1, 1, 1), 3.0), drawn) == 3.0
    assert in_spreads(np.ones((1, 1, 1)), np.zeros((2, 1, 1))) is None
    assert in_spreads(np.ones((1, 1, 1)), drawn[:1]) is None


def test_a_layout_without_cameras_has_the_words_alone():
    layout = TokenLayout((), 6, ("<bos>", "▁go"), state_token=False, actions=2)
    assert layout.part("prompt") == [0, 1]
    assert layout.part("actions") == [2, 3]
