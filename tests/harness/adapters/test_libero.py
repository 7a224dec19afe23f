from unittest.mock import create_autospec

import numpy as np
from scipy.spatial.transform import Rotation

from simloop.envs.interface import Env
from simloop.harness.adapters import libero

RNG = np.random.default_rng(0)


def test_axis_angle_equals_scipy_for_rotations_below_half_a_turn():
    for rotation in Rotation.random(20, random_state=0):
        quat = rotation.as_quat(canonical=True)
        np.testing.assert_allclose(libero.axis_angle_from_quat_xyzw(quat), rotation.as_rotvec(), atol=1e-9)


def test_axis_angle_of_a_negative_quaternion_exceeds_half_a_turn():
    rotation = Rotation.from_rotvec([0.0, 0.0, 0.5])
    long_way = libero.axis_angle_from_quat_xyzw(-rotation.as_quat(canonical=True))
    np.testing.assert_allclose(long_way, [0, 0, 0.5 - 2 * np.pi])


def test_axis_angle_of_no_rotation_is_zero():
    np.testing.assert_array_equal(libero.axis_angle_from_quat_xyzw(np.array([0.0, 0, 0, 1.0])), np.zeros(3))
    np.testing.assert_array_equal(
        libero.axis_angle_from_quat_xyzw(np.array([0.0, 0, 0, 1.0000001])), np.zeros(3)
    )


def test_hand_state_is_position_rotation_fingers():
    state = libero.hand_state(np.array([1.0, 2, 3]), np.array([1.0, 0, 0, 0]), np.array([0.04, -0.04]))
    np.testing.assert_allclose(state, [1, 2, 3, np.pi, 0, 0, 0.04, -0.04])


def test_robot_actions_have_no_padding():
    assert libero.PANDA.robot_actions(np.zeros((5, 32))).shape == (5, 7)


def test_suite_adapter_mirrors_images_and_keeps_long_rotations():
    adapter = libero.LIBERO
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    np.testing.assert_array_equal(adapter.image(image), image[:, ::-1])
    # robosuite's rows start at the bottom; turned by 180 degrees they are what the suite shows, mirrored.
    bottom_up = image[::-1]
    np.testing.assert_array_equal(adapter.image(image), bottom_up[::-1, ::-1])
    quat = np.array([0.97, 0.04, 0.09, -0.21])
    env = create_autospec(Env, instance=True)
    env.state.return_value = np.float32([0.1, 0.2, 0.3, *quat, 0.02, -0.02])
    wanted = libero.hand_state(np.array([0.1, 0.2, 0.3]), quat, np.array([0.02, -0.02]))
    np.testing.assert_allclose(adapter.state(env), wanted, atol=1e-6)
    assert np.linalg.norm(adapter.state(env)[3:6]) > np.pi
