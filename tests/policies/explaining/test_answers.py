"""Probabilities, entropy and the grammar of answers in tokens."""

import numpy as np

from simloop.policies.explaining.answers import allowed_tokens, entropy_bits, probabilities, without_end
from simloop.policies.models.constrained_decoding import ActionGrammar

GRAMMAR = ActionGrammar(
    coefficients=np.array([0, 0, 1, 2, 3, 0], np.int32),
    total=np.array(3, np.int32),
    begin=np.array([5], np.int32),
    end=np.array([5, 1], np.int32),
)


def test_probabilities_sum_to_one_and_entropy_counts_bits():
    p = probabilities(np.array([[0.0, 0, 0, 0], [1000.0, 0, 0, 0]], np.float32))
    np.testing.assert_allclose(p, [[0.25] * 4, [1, 0, 0, 0]])
    np.testing.assert_allclose(entropy_bits(p), [2, 0], atol=1e-12)


def test_the_grammar_allows_tokens_that_fit_into_the_rest_of_the_chunk():
    allowed = allowed_tokens(GRAMMAR, np.array([5, 2, 3, 5, 1], np.int32), 6)
    assert [np.flatnonzero(row).tolist() for row in allowed] == [[5], [2, 3, 4], [2, 3], [5], [1]]


def test_an_answer_ends_with_its_end_token():
    assert without_end(np.array([5, 2, 1, 0, 0], np.int32)).tolist() == [5, 2, 1]
    assert without_end(np.array([5, 2], np.int32)).tolist() == [5, 2]
