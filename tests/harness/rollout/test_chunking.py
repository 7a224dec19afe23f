"""Expected rows were written down by hand from the definitions of the modes; `recorded_ensembles.npz` holds what the
ensembles of LeRobot 0.6.1, inspect-robots 0.60.0 and vla-eval e1ee9ad gave for the same chunks."""

import contextlib
import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from simloop.harness.planning.execution import Ensemble, Execution, ExecutionError
from simloop.harness.rollout.chunking import (
    ChunkExecutor,
    RecedingHorizon,
    TemporalEnsemble,
    averaged,
    ensemble_weights,
    hold_action,
    make_executor,
    require_executable,
)
from simloop.policies.interface import PolicySpec
from tests.helpers.point_suite import point_task


def chunk(first: float, steps: int) -> np.ndarray:
    return np.arange(first, first + steps, dtype=np.float32)[:, None]


@pytest.mark.parametrize(("replan_steps", "horizon"), [(1, 1), (3, 3), (5, 5), (100, 5)])
def test_queries_again_after_the_replan_interval_or_the_whole_chunk(replan_steps, horizon):
    executor = RecedingHorizon(replan_steps)
    queries = []
    for step in range(20):
        if executor.wants_query(step):
            queries.append(step)
            executor.accept(chunk(100 * len(queries), 5), step)
        action, chunk_index, index, age = executor.action(step)
        assert age == index
        assert (chunk_index, index) == (len(queries) - 1, step - queries[-1])
        assert action.item() == 100 * len(queries) + index
    assert queries == list(range(0, 20, horizon))


def origins(executor: ChunkExecutor, delays, steps: int, length: int = 8) -> list[str]:
    """Return what is executed at each step, such as `B2` for row 2 of the second chunk and `-` for holding still."""
    done = []
    for step in range(steps):
        if executor.wants_query(step):
            executor.accept(np.zeros((length, 2), np.float32), step, next(delays))
        scheduled = executor.action(step)
        done.append("-" if scheduled is None else f"{chr(65 + scheduled[1])}{scheduled[2]}")
    return done


EXPECTED = {
    ("synchronous", 0): "A0 A1 A2 A3 B0 B1 B2 B3 C0 C1 C2 C3 D0 D1",
    ("synchronous", 2): "A0 A1 A2 A3 - - B0 B1 B2 B3 - - C0 C1",
    ("naive", 0): "A0 A1 A2 A3 B0 B1 B2 B3 C0 C1 C2 C3 D0 D1",
    ("naive", 2): "A0 A1 A2 A3 A4 A5 B2 B3 B4 B5 C2 C3 C4 C5",
    ("naive", 4): "A0 A1 A2 A3 A4 A5 A6 A7 B4 B5 B6 B7 C4 C5",
    ("rtc", 2): "A0 A1 A2 A3 A4 A5 B2 B3 B4 B5 C2 C3 C4 C5",
    ("rtc-identity", 2): "A0 A1 A2 A3 A4 A5 B2 B3 B4 B5 C2 C3 C4 C5",
    ("rtc-trained", 2): "A0 A1 A2 A3 A4 A5 B2 B3 B4 B5 C2 C3 C4 C5",
    ("synchronous", 8): "A0 A1 A2 A3 - - - - - - - - B0 B1",
    ("ensemble:newest", 2): "A0 A1 A2 A3 A4 A5 B2 B3 B4 B5 C2 C3 C4 C5",
}


@pytest.mark.parametrize(("mode", "delay"), EXPECTED)
def test_executes_these_rows_of_chunks_of_eight_with_a_replan_interval_of_four(mode, delay):
    executor = make_executor(Execution.parse(mode, str(delay)), 4, point_task())
    assert origins(executor, itertools.repeat(delay), 14) == EXPECTED[mode, delay].split()


def test_holds_still_after_a_chunk_that_ends_before_the_late_answer_and_asks_again_once_it_is_there():
    executor = make_executor(Execution.parse("naive", "live"), 4, point_task())
    delays = iter([0, 6, 1, 0])
    # B is asked at 4 and arrives at 10, where C is asked at once; C arrives at 11.
    assert " ".join(origins(executor, delays, 15)) == "A0 A1 A2 A3 A4 A5 A6 A7 - - B6 C1 C2 C3 D0"


def test_every_action_of_an_ensemble_is_a_mean_over_the_chunks_that_have_arrived():
    executor = make_executor(Execution.parse("ensemble:average", "2"), 1, point_task())
    done = []
    for step in range(5):
        assert executor.wants_query(step)
        executor.accept(np.full((3, 2), step, np.float32), step, 2)
        done.append(executor.action(step).action[0])
    # Chunks arrive at 0, 3, 4, 5, 6 and predict three steps, so from step 3 on each has one row left.
    assert done == [0, 0, 0, 1, 2]


def test_a_gripper_takes_a_predicted_value_and_displacements_the_mean():
    rows = np.array([[0.0, -1.0], [0.3, 1.0], [0.9, 1.0]])
    np.testing.assert_allclose(averaged(rows, np.ones(3) / 3, np.array([False, True])), [0.4, 1.0])


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        ("act:0", [1, 1, 1]),
        ("act:0.1", [1, np.exp(-0.1), np.exp(-0.2)]),
        ("average", [1, 1, 1]),
        ("newest", [0, 0, 1]),
        ("exponential:0.5", [0.25, 0.25, 0.5]),
        ("exponential:0.2", [0.64, 0.16, 0.2]),
    ],
)
def test_weights_of_chunks_from_the_oldest_to_the_newest(kind, weights):
    found = ensemble_weights(3, Ensemble.parse(kind))
    np.testing.assert_allclose(found, np.array(weights) / np.sum(weights), rtol=1e-12)


RECORDED = np.load(Path(__file__).with_name("recorded_ensembles.npz"))


@pytest.mark.parametrize(
    ("kind", "recorded"),
    [
        ("act:0.01", "lerobot_act/coeff0.01"),
        ("act:0", "lerobot_act/coeff0.0"),
        ("act:0.1", "lerobot_act/coeff0.1"),
        ("act:-0.1", "lerobot_act/coeff-0.1"),
        ("act:0.1", "inspect_robots/ensembling_m0.1"),
        ("newest", "vla_eval/newest/every_step"),
        ("exponential:0.5", "vla_eval/ema0.5/every_step"),
        ("exponential:0.2", "vla_eval/ema0.2/every_step"),
    ],
)
def test_averages_chunks_as_other_programs_do(kind, recorded):
    executor = TemporalEnsemble(1, Ensemble.parse(kind), ["displacement"] * 3)
    done = []
    for step, actions in enumerate(RECORDED["chunks"]):
        executor.accept(actions, step)
        done.append(executor.action(step).action)
    np.testing.assert_allclose(done, RECORDED[recorded], rtol=0, atol=1e-6)


def test_holding_still_repeats_the_gripper_and_displaces_nothing():
    assert hold_action(point_task(), np.array([0.5, -0.25], np.float32)).tolist() == [0, -0.25]


def test_a_task_that_does_not_tell_what_its_actions_are_cannot_be_held_still():
    task = dataclasses.replace(point_task(), action_kinds=None)
    with pytest.raises(ExecutionError, match=r"TaskSpec\.action_kinds"):
        hold_action(task, None)


@pytest.mark.parametrize(
    ("max_delay", "delay", "refusal"),
    [
        (0, "2", "was not trained to continue given actions"),
        (0, "0", "was not trained to continue given actions"),
        (2, "3", "at most 2 control steps; got 3"),
        (2, "400ms", "at most 2 control steps; got 4"),
        (2, "2", None),
        (2, "live", None),
    ],
)
def test_only_a_policy_that_was_trained_for_the_delay_is_executed_by_trained_conditioning(
    max_delay, delay, refusal
):
    guidance = ("full", "trained") if max_delay else ("full",)
    policy = PolicySpec("mine", chunk_steps=8, guidance=guidance, max_delay=max_delay)
    task = dataclasses.replace(point_task(), control_hz=10.0)
    with pytest.raises(ExecutionError, match=refusal) if refusal else contextlib.nullcontext():
        require_executable(Execution.parse("rtc-trained", delay), 4, policy, task)


def test_a_policy_that_answers_in_tokens_can_be_executed_naively_only():
    policy = PolicySpec("tokens", chunk_steps=8)
    for mode in ("rtc", "rtc-identity", "rtc-trained"):
        with pytest.raises(ExecutionError, match="tokens cannot be guided"):
            require_executable(Execution.parse(mode, "2"), 4, policy, point_task())
    require_executable(Execution.parse("naive", "2"), 4, policy, point_task())
