import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simloop.policies.tokenizers.prompts import fast_prompt, instruction_prompt, state_bins, state_prompt

STATE = np.array([-1.0, 0.0, 0.999])


@given(st.floats(-1, 1, width=16))  # So that x + 1 is exact.
def test_states_are_in_256_equal_bins(x):
    assert state_bins(np.array([x]))[0] == min(math.floor((x + 1) * 128), 255)


def test_states_below_the_range_are_in_bin_minus_one():
    assert state_bins(np.array([-1.01, -5.0])).tolist() == [-1, -1]
    assert "State: -1;" in fast_prompt("go", np.array([-2.0]))


def test_states_above_the_range_are_in_the_last_bin():
    assert state_bins(np.array([1.0, 1.7])).tolist() == [255, 255]


def test_pi0_prompts_are_one_line():
    assert instruction_prompt("  Open_the middle\ndrawer ") == "Open the middle drawer"


def test_pi05_prompts_end_before_the_action():
    assert state_prompt(" Open_it\n", STATE) == "Task: Open it, State: 0 128 255;\nAction: "


def test_fast_prompts_are_lower_case_with_newlines():
    assert fast_prompt("Open_it\nNow", STATE) == "Task: open it\nnow, State: 0 128 255;\n"
