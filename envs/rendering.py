"""Render MuJoCo scenes offscreen: selection of OpenGL, quality, and orientation of images.

Importing this module selects an OpenGL library and sets `MUJOCO_GL` for the process. Packages such as dm_control read
that variable while they are imported, so suites that use them import this module first. `Renderer` does not depend
on the order, because it creates its own GL context.

Axis letters: h image height, w image width.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import importlib
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from jaxtyping import Float64, UInt8

from simloop.envs.interface import RenderSettings
from simloop.envs.look import Look, Vector

GlBackend = Literal["egl", "osmesa", "glfw"]

# Values of MUJOCO_GL that mean "no rendering" and "glfw" to MuJoCo.
DISABLED = ("disable", "disabled", "off", "false", "0")
ANY_WINDOW_SYSTEM = ("enable", "enabled", "on", "true", "1", "glx")

# Shared libraries that a backend needs: one of each group.
LIBRARIES: dict[GlBackend, tuple[tuple[str, ...], ...]] = {
    "egl": (("libEGL.so.1",), ("libOpenGL.so.0",)),
    "osmesa": (("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"),),
    "glfw": (),  # Shipped in the glfw wheel.
}

EGL_DEVICE = "MUJOCO_EGL_DEVICE_ID"
"""Environment variable that names the device of EGL."""

INSTALL_HINT = (
    "Install one on Debian or Ubuntu with "
    "'apt-get install libegl1 libopengl0 libegl-mesa0 libgl1-mesa-dri' "
    "or set MUJOCO_GL to the one that this machine has: egl, osmesa or glfw."
)


class RenderingError(RuntimeError):
    """Images cannot be rendered on this machine."""

    user_facing = True


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def available(backend: GlBackend, loads: Callable[[str], bool] = _loads) -> bool:
    """Whether the libraries of a backend load. Only rendering an image shows whether they work."""
    return all(any(loads(name) for name in group) for group in LIBRARIES[backend])


def choose_backend(requested: str, loads: Callable[[str], bool] = _loads) -> GlBackend | None:
    """The OpenGL backend to use, or None if rendering is disabled or no library is installed.

    A `requested` backend, the value of `MUJOCO_GL`, is used even if its libraries do not load, so that the failure is
    visible. Without one, EGL, which uses a GPU if available, is preferred to OSMesa, which never does. GLFW needs a
    display and is used on request only.

    Raises:
      RenderingError: If MuJoCo does not know the `requested` backend.
    """
    requested = requested.lower().strip()
    if requested in DISABLED:
        return None
    if requested in ANY_WINDOW_SYSTEM:
        return "glfw"
    if requested in get_args(GlBackend):
        return cast(GlBackend, requested)
    if requested:
        raise RenderingError(
            f"MUJOCO_GL is {requested!r}; it can be {', '.join(get_args(GlBackend))} or disable."
        )
    preferred: tuple[GlBackend, ...] = ("egl", "osmesa")
    return next((backend for backend in preferred if available(backend, loads)), None)


GL_BACKEND = choose_backend(os.environ.get("MUJOCO_GL", ""))


def gl_environment() -> dict[str, str]:
    """Environment variables that make another process use the OpenGL of this one; empty without OpenGL."""
    if GL_BACKEND is None:
        return {}
    variables: dict[str, str] = {"MUJOCO_GL": GL_BACKEND}
    if GL_BACKEND != "glfw":
        variables["PYOPENGL_PLATFORM"] = GL_BACKEND
    # Render in the calling thread. The threads of Mesa's software renderer finish an official frame 1.2 times sooner
    # for 1.4 times the CPU time, which is a loss when every core simulates an episode.
    variables["LP_NUM_THREADS"] = os.environ.get("LP_NUM_THREADS", "0")
    return variables


os.environ.update(gl_environment())

try:
    import mujoco  # Reads MUJOCO_GL while it is imported, and loads the libraries of EGL or OSMesa.
except ModuleNotFoundError:
    raise
except Exception as error:  # PyOpenGL raises many types of errors without its libraries.
    raise RenderingError(
        f"MuJoCo does not import with MUJOCO_GL={GL_BACKEND!r} ({type(error).__name__}: {error}). "
        f"{INSTALL_HINT}"
    ) from error


def _gl_context(height: int, width: int) -> Any:
    """Create a GL context of the selected backend and make it current."""
    if GL_BACKEND is None:
        requested = os.environ.get("MUJOCO_GL")
        reason = f"MUJOCO_GL is {requested!r}" if requested else "neither EGL nor OSMesa was found"
        raise RenderingError(f"Rendering needs an OpenGL library, but {reason}. {INSTALL_HINT}")
    try:
        contexts = importlib.import_module(f"mujoco.{GL_BACKEND}").GLContext
        context = contexts.__new__(contexts)
        context._context = None  # Read when it is deleted, also if it never started.
        context.__init__(width, height)
        context.make_current()
    except Exception as error:  # As above.
        device = os.environ.get(EGL_DEVICE)
        remedy = (
            INSTALL_HINT
            if device is None or EGL_DEVICE not in str(error)
            else f"{EGL_DEVICE} is {device!r}: unset it, or set it to a device that this machine has."
        )
        raise RenderingError(
            f"OpenGL by {GL_BACKEND} does not start ({type(error).__name__}: {error}). {remedy}"
        ) from error
    return context


@contextlib.contextmanager
def _quality(model: mujoco.MjModel, settings: RenderSettings) -> Iterator[None]:
    """Set size and quality in the model while a renderer of it is made."""
    size, quality = model.vis.global_, model.vis.quality
    before = size.offheight, size.offwidth, quality.offsamples, quality.shadowsize
    size.offheight, size.offwidth = settings.height, settings.width
    if settings.profile == "fast":
        quality.offsamples = 0
        quality.shadowsize = 0  # Saves the shadow map as well as the pass that fills it.
    try:
        yield
    finally:
        size.offheight, size.offwidth, quality.offsamples, quality.shadowsize = before


_OPEN: weakref.WeakSet[Renderer] = weakref.WeakSet()


def _close_all() -> None:
    for renderer in tuple(_OPEN):
        with contextlib.suppress(Exception):  # Contexts of other threads cannot be closed here.
            renderer.close()


def close_renderers_first_at_exit() -> None:
    """Close open renderers at exit before anything that is registered up to now; otherwise each would print an error.

    Exit functions run in reverse order of registration. MuJoCo registers the end of EGL with the first GL context, and
    dm_control when it is imported.
    """
    atexit.unregister(_close_all)
    atexit.register(_close_all)


class Renderer:
    """Render the cameras of one model into arrays.

    Unlike `mujoco.Renderer`, it does not depend on the first import of mujoco for its GL library, and frees buffers
    before the GL context that owns them. It renders any data of the model, in the thread that constructs it.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        settings: RenderSettings,
        *,
        upside_down: frozenset[str] = frozenset(),
        hidden_geom_groups: tuple[int, ...] = (),
    ) -> None:
        """Allocate the GL context and its buffers.

        Args:
          model: The model to render.
          settings: Size and quality.
          upside_down: Cameras that the model mounts upside down; their images are rotated by 180 degrees.
          hidden_geom_groups: Groups of geoms that are not rendered, such as collision shapes.

        Raises:
          RenderingError: If OpenGL cannot be used on this machine.
        """
        self._closed = True  # Until everything has been allocated.
        self._model = model
        self._upside_down = upside_down
        self._shape = (settings.height, settings.width, 3)
        self._rect = mujoco.MjrRect(0, 0, settings.width, settings.height)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[list(hidden_geom_groups)] = 0

        self._gl = _gl_context(settings.height, settings.width)
        self._scene = mujoco.MjvScene(model, maxgeom=10_000)
        if settings.profile == "fast":
            self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        with _quality(model, settings):
            self._buffers = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._buffers)
        self._closed = False
        _OPEN.add(self)
        close_renderers_first_at_exit()

    def render(self, data: mujoco.MjData, camera: str, brightness: float = 1.0) -> UInt8[np.ndarray, "h w 3"]:
        """Image of a camera, upright and freshly allocated.

        Positions in `data` are used as they are; call `mujoco.mj_kinematics` after changes of its state.

        Args:
          brightness: Factor of the intensity of all lights.

        Raises:
          RuntimeError: After `close`.
        """
        if self._closed:
            raise RuntimeError(f"Camera {camera!r} cannot be rendered: the renderer is closed.")
        view = mujoco.MjvCamera()
        view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        view.fixedcamid = self._model.camera(camera).id
        self._gl.make_current()
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, view, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        if brightness != 1:
            for light in self._scene.lights[: self._scene.nlight]:
                for part in (light.ambient, light.diffuse, light.specular):
                    part[:] = brightness * part
        mujoco.mjr_render(self._rect, self._scene, self._buffers)
        pixels = np.empty(self._shape, np.uint8)
        mujoco.mjr_readPixels(pixels, None, self._rect, self._buffers)
        # OpenGL's first row is the lowest, so images of upside-down cameras only need left and right exchanged.
        return np.ascontiguousarray(pixels[:, ::-1] if camera in self._upside_down else pixels[::-1])

    def gl_renderer(self) -> str:
        """Vendor, device and version of OpenGL, for the provenance of images."""
        self._gl.make_current()
        gl = importlib.import_module("OpenGL.GL")  # Its import binds to the platform of the current context.
        names = (gl.GL_VENDOR, gl.GL_RENDERER, gl.GL_VERSION)
        return " / ".join(gl.glGetString(name).decode() for name in names)

    def close(self) -> None:
        """Free the buffers and the GL context. Closing twice is allowed."""
        if not self._closed:
            self._closed = True
            self._gl.make_current()
            self._buffers.free()
            self._gl.free()


@contextlib.contextmanager
def cameras_at(
    model: mujoco.MjModel, data: mujoco.MjData, positions: Iterable[tuple[str, Vector]]
) -> Iterator[None]:
    """Put cameras of the data at positions (m) in the frame of the world, until an image has been drawn."""
    kept = data.cam_xpos.copy()
    for name, position in positions:
        data.cam_xpos[model.camera(name).id] = position
    try:
        yield
    finally:
        data.cam_xpos[:] = kept


@contextlib.contextmanager
def looked_at(model: mujoco.MjModel, data: mujoco.MjData, look: Look) -> Iterator[None]:
    """Put the cameras and lights of the data where a look has them, until an image has been drawn.

    The model stays as it is, so that environments that share it keep their own looks.
    """
    kept = {name: getattr(data, name).copy() for name in ("cam_xpos", "cam_xmat", "light_xpos", "light_xdir")}
    try:
        for name, offset in look.cameras.items():
            camera = model.camera(name).id
            axes = data.cam_xmat[camera].reshape(3, 3).copy()
            data.cam_xpos[camera] += axes @ np.array(offset.shift_m)
            data.cam_xmat[camera] = (axes @ _rotation(offset.turn_rad)).ravel()
        if any(look.light_turn_rad):
            turn, middle = _rotation(look.light_turn_rad), model.stat.center
            data.light_xpos[:] = middle + (data.light_xpos - middle) @ turn.T
            data.light_xdir[:] = data.light_xdir @ turn.T
        yield
    finally:
        for name, values in kept.items():
            getattr(data, name)[:] = values


def _rotation(vector: Vector) -> Float64[np.ndarray, "3 3"]:
    """Matrix of a rotation vector in radians."""
    turn, matrix, axis = np.empty(4), np.empty(9), np.array(vector)
    angle = float(np.linalg.norm(axis))
    mujoco.mju_axisAngle2Quat(turn, axis / angle if angle else np.array([1.0, 0.0, 0.0]), angle)
    mujoco.mju_quat2Mat(matrix, turn)
    return matrix.reshape(3, 3)


@functools.cache
def renderer_name() -> str:
    """OpenGL renderer of this process, for the provenance of a run; `none` with the reason if there is none."""
    try:
        return render_test_frame(RenderSettings(height=32, width=32)).gl_renderer
    except RenderingError as error:
        return f"none ({error})"


# A red board above a blue one, emissive so that their colours do not depend on lights.
TEST_SCENE = """
<mujoco>
  <visual><headlight ambient="0 0 0" diffuse="0 0 0" specular="0 0 0"/></visual>
  <asset>
    <material name="red" rgba="1 0 0 1" emission="1"/>
    <material name="blue" rgba="0 0 1 1" emission="1"/>
  </asset>
  <worldbody>
    <camera name="front" pos="0 -2 0" xyaxes="1 0 0 0 0 1" fovy="45"/>
    <geom type="box" size="2 0.1 1" pos="0 0 1" material="red"/>
    <geom type="box" size="2 0.1 1" pos="0 0 -1" material="blue"/>
  </worldbody>
</mujoco>
"""


@dataclass(frozen=True)
class TestFrame:
    """An image of known content, with the OpenGL that rendered it."""

    __test__ = False  # Not a test case of pytest.

    image: UInt8[np.ndarray, "h w 3"]
    backend: GlBackend
    gl_renderer: str


def render_test_frame(settings: RenderSettings) -> TestFrame:
    """Render a red board above a blue one and verify the image.

    Raises:
      RenderingError: If OpenGL cannot be used, or the image is wrong.
    """
    model = mujoco.MjModel.from_xml_string(TEST_SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = Renderer(model, settings)
    try:
        image, gl_renderer = renderer.render(data, "front"), renderer.gl_renderer()
    finally:
        renderer.close()
    upper, lower = (
        image[settings.height // 4, settings.width // 2],
        image[-settings.height // 4, settings.width // 2],
    )
    if not (upper[0] > 200 > 50 > upper[2] and lower[2] > 200 > 50 > lower[0]):
        raise RenderingError(
            f"A red board above a blue one came out as RGB {upper.tolist()} above {lower.tolist()}, rendered by "
            f"{gl_renderer}. Try another backend with MUJOCO_GL ({', '.join(get_args(GlBackend))})."
        )
    assert GL_BACKEND is not None  # A renderer without a backend would have raised.
    return TestFrame(image, GL_BACKEND, gl_renderer)
