"""Conventions of robots of served suites."""

from unittest.mock import create_autospec

import numpy as np

from simloop.envs import registry
from simloop.envs.interface import Env
from simloop.harness.adapters.registry import ADAPTERS

ADAPTER = ADAPTERS["maniskill/maniskill_panda"]
TASKS = {spec.name: spec for spec in registry.suite("maniskill").tasks()}


def state_of(task):
    """The state of the convention where the suite's entry i has the value i + 1."""
    env = create_autospec(Env, instance=True)
    env.spec = TASKS[task]
    env.state.return_value = np.arange(1, TASKS[task].state_size + 1, dtype=np.float32)
    return ADAPTER.state(env).tolist()


def test_the_panda_of_maniskill_has_one_state_for_all_tasks_with_the_goal_where_it_is_told():
    arm = [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12]
    assert state_of("PushCube-v1") == [*arm, 0, 0, 0]
    assert state_of("PullCube-v1") == [*arm, 17, 18, 19]
    assert state_of("PickCube-v1") == state_of("PlaceSphere-v1") == [*arm, 18, 19, 20]
    assert {len(state_of(task)) for task in TASKS} == {ADAPTER.convention.state_size}


def test_datasets_name_every_entry_of_a_convention_and_those_of_the_suite_without_one():
    task = TASKS["PickCube-v1"]
    names = ADAPTER.state_names(task)
    assert len(names) == len(set(names)) == ADAPTER.convention.state_size
    assert ADAPTERS["maniskill/maniskill"].state_names(task) == task.state_names
