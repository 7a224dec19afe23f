import numpy as np
import pytest

from simloop.policies.tokenizers.paligemma import PaligemmaTokenizer


def test_encodes_the_prompt_and_masks_padding(text_model):
    row = PaligemmaTokenizer(text_model, 24).tokenize("Pick_up the bowl")
    count = row.mask.sum()
    assert row.mask.tolist() == [True] * count + [False] * (24 - count)
    assert row.tokens[0] == 2
    assert text_model.decode(row.tokens[:count].tolist()) == "Pick up the bowl\n"
    assert not row.tokens[count:].any()


def test_pi0_newline_is_a_separate_token(text_model):
    row = PaligemmaTokenizer(text_model, 24).tokenize("pick up the bowl")
    assert text_model.encode("\n") == [row.tokens[row.mask.sum() - 1]]


def test_state_prompts_contain_the_bins(text_model):
    row = PaligemmaTokenizer(text_model, 80).tokenize("go", np.array([0.5, -1.0]))
    assert text_model.decode(row.tokens[row.mask].tolist()) == "Task: go, State: 192 0;\nAction: "


def test_warns_when_cutting_a_prompt(text_model):
    whole = PaligemmaTokenizer(text_model, 48).tokenize("put the moka pot on the stove")
    with pytest.warns(UserWarning, match="cut to 5"):
        cut = PaligemmaTokenizer(text_model, 5).tokenize("put the moka pot on the stove")
    np.testing.assert_array_equal(cut.tokens, whole.tokens[:5])
    assert cut.mask.all()
