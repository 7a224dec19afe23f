import numpy as np
import pytest

from simloop.policies.tokenizers.fast import FastTokenizer, encode_prompt

STATE = np.array([0.1, -0.4, 1.0])
ACTIONS = np.sin(np.linspace(0, 3, 70)).reshape(10, 7)


@pytest.fixture
def tokenizer(text_model, action_tokens):
    return FastTokenizer(text_model, action_tokens)


def test_decodes_encoded_actions(tokenizer):
    decoded = tokenizer.decode(tokenizer.encode_answer(ACTIONS), steps=10, size=7)
    assert decoded.undecodable is None
    assert np.abs(decoded.actions - ACTIONS).max() < 0.1


def test_answers_start_and_end_with_fixed_tokens(tokenizer):
    answer, leading, closing = tokenizer.encode_answer(ACTIONS), tokenizer.leading(), tokenizer.closing()
    assert len(leading) > 1
    assert tuple(answer[: len(leading)]) == leading
    assert tuple(answer[-len(closing) :]) == closing


def test_ignores_tokens_after_the_answer(tokenizer):
    answer = tokenizer.encode_answer(ACTIONS)
    noisy = np.concatenate([answer, [0, 0, 700, 800]])
    np.testing.assert_array_equal(
        tokenizer.decode(noisy, steps=10, size=7).actions, tokenizer.decode(answer, steps=10, size=7).actions
    )


def test_prompts_and_answers_are_text_with_special_tokens(tokenizer, text_model):
    prompt, answer = encode_prompt(text_model, "pour", STATE), tokenizer.encode_answer(ACTIONS)
    assert (prompt[0], answer[-1]) == (2, 1)
    assert text_model.decode(prompt).startswith("Task: pour, State:")
    assert text_model.decode(answer).startswith("Action: ")


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
