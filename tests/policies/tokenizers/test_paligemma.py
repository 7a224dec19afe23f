import numpy as np
import pytest

from simloop.policies.tokenizers.paligemma import encode_prompt, filled, warn_if_cut


def test_encodes_the_instruction_after_bos(text_model):
    ids = encode_prompt(text_model, "Pick_up the bowl")
    assert ids[0] == 2
    assert text_model.decode(ids) == "Pick up the bowl\n"


def test_pi0_newline_is_a_separate_token(text_model):
    assert text_model.encode("\n") == [encode_prompt(text_model, "pick up the bowl")[-1]]


def test_state_prompts_contain_the_bins(text_model):
    ids = encode_prompt(text_model, "go", np.array([0.5, -1.0]))
    assert text_model.decode(ids) == "Task: go, State: 192 0;\nAction: "


def test_pads_with_zeros_and_cuts():
    np.testing.assert_array_equal(filled([2, 5], 4), [2, 5, 0, 0])
    np.testing.assert_array_equal(filled([2, 5, 7], 2), [2, 5])


def test_warns_when_cutting_a_prompt():
    with pytest.warns(UserWarning, match="cut to 5"):
        warn_if_cut([1] * 6, 5, "put the moka pot on the stove")
