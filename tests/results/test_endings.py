"""Every rule catches the ending that it names, and no other."""

import dataclasses
from pathlib import Path

import pytest

from simloop.results.endings import (
    AWAY_M,
    ENDINGS,
    FALL_M,
    INVALID,
    LIFT_M,
    NO_RECORDS,
    NO_SCENES,
    OTHER,
    SATURATED_SHARE,
    UNDECODABLE,
    Evidence,
    by_ledger,
    by_steps,
    endings_for,
)
from simloop.results.records.step_records import StepRecords
from tests.helpers.run_folders import EPISODE, broken, failed
from tests.helpers.scripted_records import recorded


@pytest.mark.parametrize(
    ("ending", "scenes", "step"),
    [
        ("never touched", "....", 0),
        ("touched, not lifted", "..tt", 2),
        ("touched, not lifted", ".hh.", 1),
        ("lifted, dropped", ".hLL.", 3),
        ("lifted, dropped", ".hLt.", 2),
        ("held, not placed", "..hLL", 2),
        ("out of reach", ".tff", 2),
        ("out of reach", ".taa", 2),
    ],
)
def test_a_rule_names_the_ending_and_its_step(ending, scenes, step):
    assert by_steps(Evidence(recorded(scenes))) == (ending, step)


def test_an_action_at_one_bound_through_the_second_half_is_saturated():
    assert by_steps(Evidence(recorded("....", dx=[0, 0, 1, 1]))) == ("saturated actions", 2)
    assert by_steps(Evidence(recorded("....", dx=[1, 1, 0, 1])))[0] == "never touched"


def test_a_closed_gripper_is_not_saturated():
    assert by_steps(Evidence(recorded("....", gripper=[1, 1, 1, 1])))[0] == "never touched"


def test_a_thing_held_far_from_its_first_position_is_within_reach():
    assert by_steps(Evidence(recorded(".hLA")))[0] == "held, not placed"


def test_what_no_rule_catches_is_other():
    assert by_steps(Evidence(recorded("..tt")), endings=()) == (OTHER, None)


def test_records_without_scenes_say_so():
    assert by_steps(Evidence(recorded("    "))) == (NO_SCENES, None)


def test_records_without_steps_or_bounds_say_so():
    nothing = recorded("....")
    for queries in [(), tuple(dataclasses.replace(q, steps=()) for q in nothing.queries)]:
        assert by_steps(Evidence(StepRecords(nothing.header, queries))) == (NO_SCENES, None)
    no_bounds = dataclasses.replace(recorded("....", dx=[1, 1, 1, 1]).queries[0], action_low=None)
    assert by_steps(Evidence(StepRecords(nothing.header, (no_bounds,))))[0] == "never touched"


def test_steps_without_a_scene_are_passed_over():
    assert by_steps(Evidence(recorded("..t  "))) == ("touched, not lifted", 2)


def test_a_rule_is_left_out_where_a_success_shows_the_same():
    pushed = endings_for([Evidence(recorded(".tt"))])
    assert by_steps(Evidence(recorded("..t")), pushed) == (OTHER, None)
    assert by_steps(Evidence(recorded("...")), pushed) == ("never touched", 0)
    assert endings_for([]) == ENDINGS


def test_dropping_is_told_although_successes_let_go_too():
    assert (
        by_steps(Evidence(recorded(".hL.")), endings_for([Evidence(recorded(".hLL."))]))[0]
        == "lifted, dropped"
    )


FAILED = dataclasses.replace(failed(EPISODE), queries=4)


@pytest.mark.parametrize(
    ("record", "ending"),
    [
        (FAILED, ""),
        (dataclasses.replace(FAILED, undecodable=1), ""),
        (dataclasses.replace(FAILED, undecodable=2), UNDECODABLE),
        (dataclasses.replace(FAILED, undecodable=1, ended_by="undecodable"), UNDECODABLE),
        (broken(EPISODE, "ActionError: metaworld/reach-v3 got an action with NaN"), INVALID),
        (broken(EPISODE, "PolicyError: Policy 'p' answered a query with None"), INVALID),
        (broken(EPISODE, "RuntimeError: the simulator diverged"), ""),
    ],
)
def test_the_ledger_tells_undecodable_tokens_and_invalid_actions(record, ending):
    assert by_ledger(record) == ending


def test_names_of_endings_differ():
    names = [ending.name for ending in ENDINGS]
    assert len({*names, INVALID, UNDECODABLE, NO_SCENES, OTHER}) == len(names) + 4


def test_the_documentation_lists_the_rules_in_their_order():
    page = (Path(__file__).parents[2] / "docs" / "debugging.md").read_text()
    names = [INVALID, UNDECODABLE, *(ending.name for ending in ENDINGS), OTHER, NO_SCENES, NO_RECORDS]
    places = [page.index(f"\n| {name} |") for name in names]
    assert places == sorted(places)
    lengths = [f"{100 * metres:.0f} cm" for metres in (LIFT_M, FALL_M, AWAY_M)]
    assert all(text in page for text in [*lengths, f"At {100 * SATURATED_SHARE:.0f} % of the steps"])
