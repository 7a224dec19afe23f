import dataclasses

import numpy as np
import pytest

from simloop.envs.interface import RenderSettings
from simloop.envs.registry import suite, suites
from simloop.harness.adapters.base import Adapter, AdapterError
from simloop.harness.adapters.registry import ADAPTERS, checked_adapter, find_adapter
from simloop.policies.interface import PolicySpec
from simloop.policies.scripted import scripted_policy
from tests.helpers.point_suite import PointEnv, point_task

ADAPTER = Adapter("points", "point", cameras={"base_0_rgb": "top", "left_wrist_0_rgb": "missing"})
POLICY = PolicySpec(
    name="net", robot="point", weights="untrained", cameras=("base_0_rgb",), image_hw=(16, 16), state_size=2,
    action_size=2, chunk_steps=4,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"cameras": ("base_0_rgb", "right_wrist_0_rgb")}, ["'base_0_rgb'", "needs 'right_wrist_0_rgb'"]),
        ({"cameras": ("left_wrist_0_rgb",)}, ["needs 'left_wrist_0_rgb'"]),
        ({"state_size": 8}, ["2 numbers (x_m, y_m)", "was made for 8"]),
        ({"action_size": 7}, ["2 numbers (dx, dy)", "gives 7"]),
    ],
)
def test_rejects_a_policy_that_does_not_fit_the_task(changes, wanted):
    with pytest.raises(AdapterError) as error:
        ADAPTER.check(dataclasses.replace(POLICY, **changes), point_task())
    assert all(
        text in str(error.value) for text in [*wanted, "points/point", "'net'", "simloop list policies"]
    )


def test_rejects_a_policy_that_needs_simulator_state_if_there_is_none():
    task = dataclasses.replace(point_task(), privileged_size=0)
    with pytest.raises(AdapterError, match="offers no simulator state"):
        ADAPTER.check(dataclasses.replace(POLICY, uses_privileged=True), task)


def test_accepts_a_fitting_policy():
    ADAPTER.check(POLICY, point_task())


def test_names_the_robots_that_a_suite_has_adapters_for():
    with pytest.raises(
        AdapterError, match=r"convention 'point'; suite 'metaworld' has adapters for 'metaworld'"
    ):
        find_adapter("metaworld", POLICY)


def test_query_holds_cameras_state_and_bounds():
    env = PointEnv(point_task(), RenderSettings("fast", 16, 16))
    env.reset(0)
    query = ADAPTER.query(env, POLICY, {"top": env.render("top")}, "go", 7)
    assert set(query.images) == {"base_0_rgb"}
    np.testing.assert_array_equal(query.state, env.state())
    np.testing.assert_array_equal(query.action_low, [-1, -1])
    assert (query.key, query.instruction, query.privileged) == (7, "go", None)


def test_actions_are_clipped_to_the_bounds():
    np.testing.assert_array_equal(
        ADAPTER.actions(point_task(), np.array([[3.0, -0.5]], np.float32)), [[1.0, -0.5]]
    )


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=lambda adapter: f"{adapter.suite}-{adapter.robot}")
def test_every_task_renders_the_cameras_of_its_adapters(adapter):
    assert adapter.suite in suites()
    for task in suite(adapter.suite).tasks():
        assert set(adapter.cameras.values()) <= set(task.cameras)


def test_scripted_policies_fit_every_suite():
    hold = PolicySpec("hold", "any", "scripted", (), None, None, None, 1, runs_in="actor")
    for name in suites():
        assert checked_adapter(hold, list(suite(name).tasks())).suite == name


def test_the_expert_plays_tasks_whose_suite_brings_one_and_is_refused_elsewhere():
    expert = scripted_policy("expert").spec
    tasks = {task.name: task for task in suite("robosuite").tasks()}
    assert checked_adapter(expert, [tasks["Lift"]]) is ADAPTERS["robosuite/expert"]
    with pytest.raises(AdapterError, match="robosuite/Square offers no simulator state"):
        checked_adapter(expert, [tasks["Square"]])
    with pytest.raises(AdapterError, match="suite 'aloha_sim' has adapters for"):
        find_adapter("aloha_sim", expert)
