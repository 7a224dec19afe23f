"""Faults that the statistics of the training data contradict are named without a simulation or a model."""

import dataclasses

import numpy as np
import pytest

from simloop.envs import golden, registry
from simloop.harness.adapters.aloha import RAW_ALOHA_SIM
from simloop.harness.adapters.libero import LIBERO
from simloop.harness.gate.adapter_difference import states_of
from simloop.harness.gate.statistics import (
    action_findings,
    prompt_findings,
    rate_findings,
    state_findings,
    variance_findings,
)
from simloop.harness.gate.training import Training
from simloop.policies.interface import PolicySpec
from simloop.policies.transforms.normalization import EntryStats
from tests.harness.gate.wrong_adapters import WRONG, other_state

TASK = registry.suite("libero").tasks()[0]
STATE = EntryStats(  # Of the demonstrations of LIBERO, rounded.
    mean=np.array([-0.046, 0.034, 0.765, 2.972, -0.220, -0.126, 0.027, -0.027]),
    std=np.array([0.105, 0.152, 0.378, 0.344, 0.907, 0.325, 0.014, 0.014]),
    q01=np.array([-0.352, -0.268, 0.042, 1.509, -2.724, -1.081, 0.002, -0.040]),
    q99=np.array([0.139, 0.325, 1.258, 3.266, 2.435, 0.566, 0.040, -0.002]),
)
ACTIONS = EntryStats(
    mean=np.array([0.07, 0.09, -0.09, 0.0, 0.01, 0.0, -0.05]),
    std=np.array([0.33, 0.37, 0.44, 0.04, 0.06, 0.08, 1.0]),
    q01=np.array([-0.72, -0.8, -0.94, -0.11, -0.18, -0.28, -1.0]),
    q99=np.array([0.93, 0.86, 0.93, 0.13, 0.18, 0.34, 1.0]),
)
TRAINING = Training({"state": STATE, "actions": ACTIONS})
GOLDEN = np.concatenate(list(golden.recorded_states(registry.suite("libero")).values()))


def scaled(stats: EntryStats, factor, offset=0.0) -> EntryStats:
    low, high = stats.q01 * factor + offset, stats.q99 * factor + offset
    mean, std = stats.mean * factor + offset, stats.std * np.abs(factor)
    return EntryStats(mean, std, np.minimum(low, high), np.maximum(low, high))


def of_states(adapter, training=TRAINING):
    return list(state_findings(training, states_of(adapter, TASK, GOLDEN)))


def of_actions(**stats):
    return list(action_findings(Training({**TRAINING.stats, **stats}), LIBERO, TASK))


def test_the_right_adapter_and_statistics_are_passed():
    assert of_states(LIBERO) == []
    assert of_actions() == []


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ("entry 3 is in degrees where radians", "in degrees where radians are expected"),
        ("entries 3 to 5 are the axis angle that turns the other way round", "turns the other way round"),
        ("entries 3 to 6 are a quaternion", "a quaternion in entries 3 to 6"),
        ("entry 0 is in millimetres", "in millimetres where metres are expected"),
    ],
)
def test_states_far_from_the_training_data_are_refused_with_their_cause(wrong, cause):
    (found,) = of_states(WRONG[wrong])
    assert found.verdict == "FAIL"
    assert cause in found.text


def test_another_order_another_sign_and_normalized_states_are_named():
    (found,) = of_states(other_state(lambda state, _: state[[3, 4, 5, 0, 1, 2, 6, 7]]))
    assert "another order of entries" in found.text
    (found,) = of_states(other_state(lambda state, _: state * [1, 1, -1, 1, 1, 1, 1, 1]))
    assert "entry 2 with the other sign (entry 2 is -1.18, trained on 0.042 to 1.26)" in found.text
    (found,) = of_states(other_state(lambda state, _: (state - STATE.mean) / STATE.std))
    assert "normalized already" in found.text


def test_the_statistics_of_another_robot_in_the_checkpoint_are_named():
    droid = scaled(STATE, 0.0, 40.0)
    training = Training({"state": droid}, {"physical-intelligence/libero": TRAINING.stats})
    (found,) = of_states(LIBERO, training)
    assert found.verdict == "FAIL"
    assert "the wrong statistics are used: those of 'physical-intelligence/libero' fit" in found.text


def test_an_unusual_state_without_a_known_cause_is_worth_a_note():
    (found,) = of_states(other_state(lambda state, _: state + np.array([3.0] + [0] * 7)))
    assert found.verdict == "note"
    assert "entry 0 is" in found.text


@pytest.mark.parametrize(
    ("actions", "cause"),
    [
        (scaled(ACTIONS, 180 / np.pi), "degrees where radians are expected"),
        (scaled(ACTIONS, 9.0, 30.0), "not normalized, or of another robot"),
        (scaled(ACTIONS, np.array([0.01] * 6 + [1])), "metres or radians where it takes shares"),
        (
            EntryStats(*(np.append(getattr(STATE, n)[:6], getattr(ACTIONS, n)[6]) for n in ("mean", "std"))),
            "absolute targets, distributed as the state",
        ),
    ],
)
def test_actions_of_the_training_data_that_the_task_cannot_execute_are_refused(actions, cause):
    (found,) = of_actions(actions=actions)
    assert found.verdict == "FAIL"
    assert cause in found.text


def test_displacements_for_a_task_of_absolute_targets_are_refused_unless_the_policy_adds_the_state():
    aloha = registry.suite("aloha_sim").tasks()[0]
    state = EntryStats(np.full(14, 0.9), np.full(14, 0.1))
    actions = EntryStats(np.full(14, 0.001), np.full(14, 0.02))
    training = Training({"state": state, "actions": actions})
    (found,) = action_findings(training, RAW_ALOHA_SIM, aloha)
    assert found.text == "displacements around zero where the task takes absolute targets"
    relative = dataclasses.replace(training, relative=(True,) * 14)
    assert list(action_findings(relative, RAW_ALOHA_SIM, aloha)) == []


def test_a_gripper_from_0_to_1_for_a_task_from_minus_1_to_1_is_worth_a_note():
    half = scaled(ACTIONS, np.array([1, 1, 1, 1, 1, 1, 0.5]), np.array([0, 0, 0, 0, 0, 0, 0.5]))
    (found,) = of_actions(actions=half)
    assert found.check == "gripper"
    assert "it never opens or never closes" in found.text


def test_another_control_rate_is_refused_where_the_policy_states_it():
    slow = PolicySpec("mine", control_hz=10.0)
    (found,) = rate_findings(slow, Training(), TASK)
    assert found.verdict == "FAIL"
    assert found.text.startswith("the policy was made for 10 control steps per second, libero/")
    (found,) = rate_findings(PolicySpec("mine"), Training(fps=10.0), TASK)
    assert found.verdict == "note"
    assert "its dataset has 10" in found.text
    assert list(rate_findings(PolicySpec("mine", control_hz=20.0), Training(fps=10.0), TASK)) != []


def test_a_prompt_unlike_those_of_the_training_is_named_with_the_nearest():
    training = Training(instructions=("Open a drawer", "Push and open a window"))
    (found,) = prompt_findings(training, ["open a drawer"])
    assert (
        found.text == "'open a drawer' is spelled otherwise than in training; the nearest is 'Open a drawer'"
    )
    (found,) = prompt_findings(training, ["Open a drawer", "Open a window"])
    assert found.text.startswith("1 of 2 prompts; 'Open a window' is none of the 2 training prompts")
    assert list(prompt_findings(training, ["Open a drawer"])) == []
    assert list(prompt_findings(Training(), ["Open a drawer"])) == []


def test_entries_that_hardly_varied_in_training_are_named():
    still = dataclasses.replace(STATE, std=STATE.std * [1, 1, 1, 1, 1, 1, 0, 1])
    training = Training({"state": still}, normalization="z_score")
    (found,) = variance_findings(PolicySpec("mine", state_size=8), training)
    assert found.text.startswith("Entry 6 of state hardly varies")
