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


def test_a_perfect_answer_decodes_to_the_actions(tokenizer):
    row = tokenizer.tokenize("pour the water", STATE, ACTIONS)
    decoded = tokenizer.decode(answer_of(row), steps=10, size=7)
    assert decoded.undecodable is None
    assert np.abs(decoded.actions - ACTIONS).max() < 0.1


def test_what_is_known_of_answers_holds_for_them(tokenizer):
    answer = tokenizer.encode_answer(ACTIONS)
    leading, candidates = tokenizer.leading(), tokenizer.candidates()
    assert len(leading) > 1
    assert tuple(answer[: len(leading)]) == leading
    assert set(answer) <= set(candidates)
    assert list(candidates) == sorted(candidates)
    assert len(candidates) < tokenizer.model.pieces


def test_what_follows_the_end_of_the_answer_is_ignored(tokenizer):
    answer = answer_of(tokenizer.tokenize("pour", STATE, ACTIONS))
    noisy = np.concatenate([answer, [0, 0, 700, 800]])
    np.testing.assert_array_equal(
        tokenizer.decode(noisy, steps=10, size=7).actions, tokenizer.decode(answer, steps=10, size=7).actions
    )


def test_only_the_answer_is_predicted(tokenizer, text_model):
    row = tokenizer.tokenize("pour", STATE, ACTIONS)
    np.testing.assert_array_equal(row.ar_mask.astype(bool), row.loss_mask)
    prompt = row.tokens[row.mask & ~row.loss_mask]
    assert text_model.decode(prompt.tolist()).startswith("Task: pour, State:")
    assert text_model.decode(answer_of(row).tolist()).startswith("Action: ")
    assert answer_of(row)[-1] == 1


def test_the_prompt_is_the_same_with_and_without_actions(tokenizer):
    train, infer = tokenizer.tokenize("pour", STATE, ACTIONS), tokenizer.tokenize("pour", STATE)
    np.testing.assert_array_equal(train.tokens[: infer.mask.sum()], infer.tokens[infer.mask])
    assert not infer.loss_mask.any()


@pytest.mark.parametrize("words", ["no motion", "Action: |", "Action: <loc1023>|"])
def test_tokens_without_a_valid_chunk_are_handed_back(tokenizer, text_model, words):
    generated = text_model.encode(words)
    decoded = tokenizer.decode(generated, steps=10, size=7)
    assert decoded.undecodable == tuple(generated)
    assert decoded.actions.shape == (0, 7)


def test_the_reference_answers_zeros_where_it_cannot_decode(tokenizer, text_model):
    decoded = tokenizer.decode(text_model.encode("no motion"), steps=10, size=7, on_failure="zeros")
    assert decoded.undecodable is None
    np.testing.assert_array_equal(decoded.actions, np.zeros((10, 7)))
