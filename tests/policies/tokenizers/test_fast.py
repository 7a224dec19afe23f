import numpy as np
import pytest

from simloop.policies.tokenizers.fast import FastTokenizer

STATE = np.array([0.1, -0.4, 1.0])
ACTIONS = np.sin(np.linspace(0, 3, 70)).reshape(10, 7)


@pytest.fixture
def tokenizer(text_model, action_tokens):
    return FastTokenizer(text_model, action_tokens, 160)


def answer_of(row):
    """The tokens that a perfect model generates after the prompt."""
    return row.tokens[row.loss_mask]


def test_decodes_encoded_actions(tokenizer):
    row = tokenizer.tokenize("pour the water", STATE, ACTIONS)
    decoded = tokenizer.decode(answer_of(row), steps=10, size=7)
    assert decoded.undecodable is None
    assert np.abs(decoded.actions - ACTIONS).max() < 0.1


def test_answers_consist_of_prefix_candidates_and_closing(tokenizer):
    answer = tokenizer.encode_answer(ACTIONS)
    leading, candidates = tokenizer.leading(), tokenizer.candidates()
    assert len(leading) > 1
    assert tuple(answer[: len(leading)]) == leading
    assert set(answer) <= set(candidates)
    assert list(candidates) == sorted(candidates)
    assert len(candidates) < tokenizer.model.pieces


def test_ignores_tokens_after_the_answer(tokenizer):
    answer = answer_of(tokenizer.tokenize("pour", STATE, ACTIONS))
    noisy = np.concatenate([answer, [0, 0, 700, 800]])
    np.testing.assert_array_equal(
        tokenizer.decode(noisy, steps=10, size=7).actions, tokenizer.decode(answer, steps=10, size=7).actions
    )


def test_loss_mask_covers_the_answer_alone(tokenizer, text_model):
    row = tokenizer.tokenize("pour", STATE, ACTIONS)
    np.testing.assert_array_equal(row.ar_mask.astype(bool), row.loss_mask)
    prompt = row.tokens[row.mask & ~row.loss_mask]
    assert text_model.decode(prompt.tolist()).startswith("Task: pour, State:")
    assert text_model.decode(answer_of(row).tolist()).startswith("Action: ")
    assert answer_of(row)[-1] == 1


def test_prompt_is_independent_of_actions(tokenizer):
    train, infer = tokenizer.tokenize("pour", STATE, ACTIONS), tokenizer.tokenize("pour", STATE)
    np.testing.assert_array_equal(train.tokens[: infer.mask.sum()], infer.tokens[infer.mask])
    assert not infer.loss_mask.any()


@pytest.mark.parametrize("words", ["no motion", "Action: |", "Action: <loc1023>|"])
def test_returns_invalid_tokens_as_undecodable(tokenizer, text_model, words):
    generated = text_model.encode(words)
    decoded = tokenizer.decode(generated, steps=10, size=7)
    assert decoded.undecodable == tuple(generated)
    assert decoded.actions.shape == (0, 7)


def test_can_return_zeros_like_the_reference(tokenizer, text_model):
    decoded = tokenizer.decode(text_model.encode("no motion"), steps=10, size=7, on_failure="zeros")
    assert decoded.undecodable is None
    np.testing.assert_array_equal(decoded.actions, np.zeros((10, 7)))
