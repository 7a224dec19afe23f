"""Selection of OpenGL and correctness of rendered images."""

import importlib
import os
import subprocess
import sys

import mujoco
import numpy as np
import pytest

from simloop.envs import rendering
from simloop.envs.interface import RenderSettings
from simloop.envs.rendering import (
    Renderer,
    RenderingError,
    choose_backend,
    gl_environment,
    render_test_frame,
    renderer_name,
)

SMALL = RenderSettings("fast", 24, 40)

# A white ball left of and above the middle, on black.
BALL = """
<mujoco>
  <asset><material name="white" rgba="1 1 1 1" emission="1"/></asset>
  <worldbody>
    <camera name="front" pos="0 -2 0" xyaxes="1 0 0 0 0 1"/>
    <camera name="turned" pos="0 -2 0" xyaxes="-1 0 0 0 0 -1"/>
    <geom type="sphere" size="0.2" pos="-0.5 0 0.3" material="white"/>
  </worldbody>
</mujoco>
"""


def scene(xml: str = BALL) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


@pytest.mark.parametrize(
    ("requested", "loadable", "chosen"),
    [
        ("", {"libEGL.so.1", "libOpenGL.so.0", "libOSMesa.so.8"}, "egl"),
        ("", {"libEGL.so.1", "libOSMesa.so.8"}, "osmesa"),  # EGL alone is not enough: MuJoCo needs libOpenGL.
        ("", {"libOSMesa.so.6"}, "osmesa"),
        ("", set(), None),
        ("osmesa", {"libEGL.so.1", "libOpenGL.so.0"}, "osmesa"),
        (" EGL ", set(), "egl"),
        ("glx", set(), "glfw"),
        ("off", {"libEGL.so.1", "libOpenGL.so.0"}, None),
    ],
)
def test_respects_mujoco_gl_and_prefers_egl(requested, loadable, chosen):
    assert choose_backend(requested, loadable.__contains__) == chosen


@pytest.mark.skipif(rendering.GL_BACKEND != "egl", reason="needs EGL")
def test_a_device_that_this_machine_does_not_have_is_the_advice_and_leaves_no_traceback():
    finished = subprocess.run(
        [sys.executable, "-c", "from simloop.envs.rendering import renderer_name; print(renderer_name())"],
        capture_output=True,
        text=True,
        env={**os.environ, "MUJOCO_EGL_DEVICE_ID": "99"},
    )
    assert "MUJOCO_EGL_DEVICE_ID is '99': unset it" in finished.stdout
    assert "apt-get" not in finished.stdout
    assert finished.stderr == ""


def test_rejects_an_unknown_backend():
    with pytest.raises(RenderingError, match=r"'vulkan'; it can be egl, osmesa, glfw or disable"):
        choose_backend("vulkan")


def test_error_without_opengl_names_the_packages_to_install(monkeypatch):
    monkeypatch.setattr(rendering, "GL_BACKEND", None)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(RenderingError, match="libegl1 libopengl0 libegl-mesa0 libgl1-mesa-dri"):
        render_test_frame(SMALL)
    assert gl_environment() == {}
    renderer_name.cache_clear()
    assert renderer_name().startswith("none")
    renderer_name.cache_clear()


def test_test_frame_is_red_above_blue_and_names_its_renderer():
    frame = render_test_frame(SMALL)
    assert frame.image.shape == (24, 40, 3)
    assert frame.backend == rendering.GL_BACKEND == gl_environment()["MUJOCO_GL"]
    assert frame.gl_renderer == renderer_name()
    assert len(frame.gl_renderer.split(" / ")) == 3


def test_detects_a_wrong_test_frame(monkeypatch):
    monkeypatch.setattr(Renderer, "render", lambda *_: np.zeros((24, 40, 3), np.uint8))
    with pytest.raises(RenderingError, match=r"came out as RGB \[0, 0, 0\] above \[0, 0, 0\]"):
        render_test_frame(SMALL)


def test_images_are_neither_mirrored_nor_upside_down():
    model, data = scene()
    renderer = Renderer(model, SMALL)
    rows, columns = np.nonzero(renderer.render(data, "front").min(axis=2) > 200)
    assert rows.mean() < 10
    assert columns.mean() < 15
    renderer.close()


def test_rotates_images_of_upside_down_cameras():
    model, data = scene()
    renderer = Renderer(model, SMALL, upside_down=frozenset({"turned"}))
    front, turned = (renderer.render(data, camera).astype(int) for camera in ("front", "turned"))
    assert np.abs(front - turned).max() <= 1
    renderer.close()
    raw = Renderer(model, SMALL)
    assert np.abs(front[::-1, ::-1] - raw.render(data, "turned")).max() <= 1
    raw.close()


def test_renderers_of_one_process_are_independent():
    model, data = scene()
    one = Renderer(model, SMALL)
    alone = one.render(data, "front")
    other = Renderer(scene(rendering.TEST_SCENE)[0], RenderSettings("official", 64, 32))
    assert np.array_equal(one.render(data, "front"), alone)
    other.close()
    assert np.array_equal(one.render(data, "front"), alone)
    one.close()


def test_official_profile_equals_the_renderer_of_mujoco(monkeypatch):
    backend = importlib.import_module(f"mujoco.{rendering.GL_BACKEND}")
    monkeypatch.setattr(mujoco.gl_context, "GLContext", backend.GLContext)
    model, data = scene()
    renderer = Renderer(model, RenderSettings("official", 24, 40))
    ours = renderer.render(data, "front")
    renderer.close()
    with mujoco.Renderer(model, 24, 40) as reference:
        reference.update_scene(data, "front")
        assert np.array_equal(ours, reference.render())


def test_fast_profile_disables_antialiasing():
    model, data = scene()
    shades = {}
    for profile in ("fast", "official"):
        renderer = Renderer(model, RenderSettings(profile, 24, 40))
        shades[profile] = len(np.unique(renderer.render(data, "front")))
        renderer.close()
        model = scene()[0]
    assert shades["fast"] == 2
    assert shades["official"] > 2


def test_closed_renderer_raises_and_may_be_closed_again():
    model, data = scene()
    renderer = Renderer(model, SMALL)
    renderer.close()
    renderer.close()
    with pytest.raises(RuntimeError, match="closed"):
        renderer.render(data, "front")


def test_open_renderer_does_not_disturb_the_exit():
    program = """
import mujoco
from simloop.envs import rendering
from simloop.envs.interface import RenderSettings
model = mujoco.MjModel.from_xml_string(rendering.TEST_SCENE)
kept = rendering.Renderer(model, RenderSettings("fast", 24, 40))
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stderr == ""


def test_packages_that_end_egl_at_exit_do_not_disturb_it_either():
    program = """
from simloop.envs import registry
from simloop.envs.interface import RenderSettings
env = registry.suite("metaworld").make("reach-v3", RenderSettings("fast", 24, 40))
env.reset(0)
env.render("corner2")
registry.suite("aloha_sim").make("insertion", RenderSettings("fast", 24, 40))
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stderr == ""


@pytest.mark.skipif(rendering.available("osmesa"), reason="needs a machine without OSMesa")
def test_explains_a_requested_backend_that_is_missing():
    finished = subprocess.run(
        [sys.executable, "-c", "import simloop.envs.rendering"],
        capture_output=True,
        text=True,
        env={**os.environ, "MUJOCO_GL": "osmesa"},
    )
    assert finished.returncode != 0
    assert "RenderingError: MuJoCo does not import with MUJOCO_GL='osmesa'" in finished.stderr
    assert "apt-get install libegl1" in finished.stderr
