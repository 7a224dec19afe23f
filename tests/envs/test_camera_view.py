"""Points of the world are found at the pixels to which views project them."""

import mujoco
import numpy as np
import pytest

from simloop.envs.camera_view import camera_view
from simloop.envs.interface import CameraError, RenderSettings
from simloop.envs.rendering import Renderer
from tests.helpers.point_suite import PointEnv, point_task

WIDE = RenderSettings(height=90, width=160)
BALL = (0.3, -0.1, 0.2)
MODEL = f"""
<mujoco>
  <visual><headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/></visual>
  <worldbody>
    <camera name="front" pos="0 -2 0.4" xyaxes="1 0 0 0 0.2 1" fovy="45"/>
    <camera name="side" pos="3 0.2 1" xyaxes="0.1 1 0 -0.3 0 1" fovy="30"/>
    <camera name="behind" pos="0 2 0" xyaxes="1 0 0 0 0 1"/>
    <geom name="ball" size="0.03" pos="{BALL[0]} {BALL[1]} {BALL[2]}" rgba="1 0 0 1"/>
  </worldbody>
</mujoco>
"""


@pytest.fixture(scope="module")
def ball() -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(MODEL)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def middle(mask: np.ndarray) -> np.ndarray:
    """Mean (u, v) of the pixels of a mask."""
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()]) + 0.5


@pytest.mark.parametrize("upside_down", [False, True])
@pytest.mark.parametrize("camera", ["front", "side"])
def test_a_ball_is_drawn_around_the_pixel_of_its_middle(ball, camera, upside_down):
    model, data = ball
    renderer = Renderer(model, WIDE, upside_down=frozenset({camera} if upside_down else ()))
    seen = renderer.render(data, camera)[..., 0] > 100
    renderer.close()
    view = camera_view(model, data, camera, WIDE, upside_down)
    pixels, depth = view.project(np.array([BALL]))
    assert seen.sum() > 4
    assert np.abs(middle(seen) - pixels[0]).max() < 0.5
    x, y, z = np.linalg.inv(view.intrinsics) @ [*pixels[0], 1] * depth
    rotation, offset = view.extrinsics[:, :3], view.extrinsics[:, 3]
    np.testing.assert_allclose(rotation.T @ ([x, y, z] - offset), BALL, err_msg="pixel and depth lead back")


def test_points_behind_a_camera_have_no_pixel(ball):
    pixels, depth = camera_view(*ball, "behind", WIDE).project(np.array([[0.0, 0.0, 0.0], [0.0, 3.0, 0.0]]))
    assert depth[0] < 0 < depth[1]
    assert np.isnan(pixels[0]).all()
    np.testing.assert_allclose(pixels[1], [80, 45])


def test_suites_that_do_not_tell_have_no_views():
    env = PointEnv(point_task(), WIDE)
    assert env.view("top") is None
    with pytest.raises(CameraError, match="renders cameras 'top', 'hand'"):
        env.view("middle")
