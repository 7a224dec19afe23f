"""Actions alone solve tasks of LIBERO, and success is reported with the last of them only."""

import numpy as np
import pytest

from simloop.envs import registry
from simloop.envs.interface import RenderSettings
from simloop.envs.libero.tasks import LIBERO_OBJECT
from tests.helpers.pick_and_place import Grip, pick_and_place

SOUP, TOMATO_SAUCE, MILK = (LIBERO_OBJECT[i] for i in (0, 5, 7))
SOLVED = [
    pytest.param(SOUP, 0, Grip(), id="alphabet soup"),
    *(
        pytest.param(task, state, Grip(), marks=pytest.mark.slow, id=f"{task}-{state}")
        for task in (SOUP, TOMATO_SAUCE, MILK)
        for state in (1, 2)
    ),
]


@pytest.mark.parametrize(("task", "state", "grip"), SOLVED)
def test_success_requires_the_object_to_be_released_in_the_basket(task, state, grip):
    env = registry.suite("libero").make(task, RenderSettings("fast", 64, 64))
    actions = pick_and_place(env, state, grip)

    env.reset(state)
    successes = [env.step(action).success for action in actions]
    assert successes == [False] * (len(actions) - 1) + [True]

    env.reset(state)
    for action in actions[: len(actions) // 2]:  # Above the table, the object in hand ...
        env.step(action)
    dropping = np.array([0.0] * 6 + [-1.0])
    assert not any(env.step(dropping).success for _ in range(30))  # ... which is released there.
    env.close()
