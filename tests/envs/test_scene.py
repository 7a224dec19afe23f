"""Scenes of integration states name what a gripper touches and holds."""

import mujoco
import numpy as np
import pytest

from simloop.envs.scene import Gripper, SceneReader, Tip, movable, subtree

MODEL = """
<mujoco>
  <option gravity="0 0 0"/>
  <worldbody>
    <body name="base"><joint type="slide" axis="0 0 1"/><geom size="0.02" pos="0 0 1" mass="1"/>
      <body name="left" pos="-0.05 0 0"><joint name="left" type="slide" axis="1 0 0" damping="1"/>
        <geom type="box" size="0.01 0.05 0.05"/></body>
      <body name="right" pos="0.05 0 0"><joint name="right" type="slide" axis="-1 0 0" damping="1"/>
        <geom type="box" size="0.01 0.05 0.05"/></body>
    </body>
    <body name="mug"><freejoint/><geom type="box" size="0.03 0.03 0.03" mass="0.1"/>
      <body name="handle" pos="0 0.06 0"><geom size="0.01" mass="0.01"/></body></body>
    <body name="wall" pos="0 0.3 0"><geom type="box" size="0.1 0.01 0.1"/></body>
  </worldbody>
  <actuator><motor joint="left"/><motor joint="right"/></actuator>
</mujoco>
"""

GOAL = np.array([1.0, 2.0, 3.0])


@pytest.fixture
def simulation() -> tuple[mujoco.MjModel, mujoco.MjData, SceneReader]:
    model = mujoco.MjModel.from_xml_string(MODEL)
    data = mujoco.MjData(model)
    hand, left, right = (subtree(model, model.body(name).id) for name in ("base", "left", "right"))
    tips = (Tip(model.body("left").id, (0.01, 0, 0.05)), Tip(model.body("right").id, (-0.01, 0, 0.05)))
    gripper = Gripper(hand, (left, right), tips)
    reader = SceneReader(model, movable(model, ["base"]), [gripper], lambda _: {"goal": GOAL})
    return model, data, reader


def state(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
    mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
    return state


def advance(model: mujoco.MjModel, data: mujoco.MjData, effort: tuple[float, float]) -> None:
    data.ctrl[:] = effort
    for _ in range(300):
        mujoco.mj_step(model, data)


def test_movable_things_are_the_bodies_with_joints_outside_the_robot(simulation):
    model, _, _ = simulation
    assert movable(model, ["base"]) == {"mug": model.body("mug").id}


def test_a_thing_between_both_fingers_is_held(simulation):
    model, data, reader = simulation
    advance(model, data, (5.0, 5.0))
    scene = reader.read(state(model, data))
    assert scene.held == ("mug",)
    assert [(contact.gripper, contact.other) for contact in scene.contacts] == [
        ("left", "mug"),
        ("right", "mug"),
    ]
    assert all(contact.force_n == pytest.approx(5.0, rel=0.1) for contact in scene.contacts)


def test_a_thing_that_one_finger_touches_is_not_held(simulation):
    model, data, reader = simulation
    data.qpos[model.jnt_qposadr[model.joint("left").id]] = 0.011
    mujoco.mj_forward(model, data)
    scene = reader.read(state(model, data))
    assert [contact.other for contact in scene.contacts] == ["mug"]
    assert scene.held == ()


def test_poses_are_in_the_world_frame_and_keep_their_values(simulation):
    model, data, reader = simulation
    scene = reader.read(state(model, data))
    assert scene.time_s == 0.0
    np.testing.assert_array_equal(scene.poses["goal"].position_m, GOAL)
    np.testing.assert_array_equal(scene.poses["mug"].quaternion, [1, 0, 0, 0])
    advance(model, data, (5.0, 0.0))
    reader.read(state(model, data))
    np.testing.assert_array_equal(scene.poses["mug"].position_m, [0, 0, 0])


def test_a_gripper_is_between_the_tips_of_its_fingers(simulation):
    model, data, reader = simulation
    (opened,) = reader.read(state(model, data)).grippers
    np.testing.assert_allclose(opened.position_m, [0, 0, 0.05], atol=1e-12)
    assert opened.opening_m == pytest.approx(0.08)
    advance(model, data, (5.0, 5.0))
    (closed,) = reader.read(state(model, data)).grippers
    assert closed.opening_m == pytest.approx(0.06, abs=2e-3), "the mug is 6 cm wide"
