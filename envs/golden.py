"""Compare the physics and images of this machine with recorded golden moments of each suite.

The package contains, for the golden tasks of each suite, the first image, and the image and the robot's state after a
fixed sequence of actions. Physics must agree to rounding. Renderers differ in single pixels, so images must agree on
average; changes of lights, textures, cameras or poses exceed the tolerance by far.

Axis letters: h image height, w image width, s state size.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
import PIL.Image
from jaxtyping import Float, Float32, UInt8

from simloop.envs.interface import RenderSettings, Suite

RENDER = RenderSettings("official", 128, 128)
SEED = 0
STEPS = 8
ACTION_SCALE = 0.2  # Actions are this fraction of uniform ones, to avoid violent contacts.

IMAGE_TOLERANCE = 1.5
"""Mean absolute difference of grey levels, of 255. Disabling multisampling changes LIBERO by 0.9 to 1.3, a stove or
cabinet displaced by a centimetre by 2 to 4, the textures of a newer MuJoCo by 37."""

STATE_TOLERANCE = 1e-5
"""Largest difference of the robot's state, in its own units. Other processors differ by 1e-9 or less."""


@dataclass(frozen=True)
class Moment:
    """State and image at one instant of an episode."""

    state: Float32[np.ndarray, "s"]
    snapshot_sha256: str
    image: UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class GoldenComparison:
    """Differences between a moment on this machine and the recorded one."""

    task: str
    moment: str
    identical_physics: bool
    """Whether the integration state is equal bit for bit."""
    state_difference: float
    image_difference: float

    @property
    def agrees(self) -> bool:
        """Whether both differences are within their tolerances."""
        return self.state_difference <= STATE_TOLERANCE and self.image_difference <= IMAGE_TOLERANCE


@dataclass(frozen=True)
class Origin:
    """Software and machine of recorded moments."""

    packages: dict[str, str]
    renderer: str
    machine: str


def compare(suite: Suite, task: str) -> Iterator[GoldenComparison]:
    """Simulate a golden task of a suite and compare it with the recorded moments."""
    folder = _folder(suite)
    recorded = json.loads((folder / "golden.json").read_text())["tasks"][task]
    for name, here in moments(suite, task).items():
        image = np.asarray(PIL.Image.open(io.BytesIO((folder / _file(task, name)).read_bytes())))
        yield GoldenComparison(
            task,
            name,
            here.snapshot_sha256 == recorded[name]["snapshot_sha256"],
            float(np.abs(here.state.astype(float) - recorded[name]["state"]).max()),
            float(np.abs(here.image.astype(float) - image).mean()),
        )


def record(suite: Suite, folder: Path) -> None:
    """Simulate the golden tasks of a suite and write their moments to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks: dict[str, dict[str, object]] = {}
    for task in suite.golden_tasks:
        for name, moment in moments(suite, task).items():
            content = {
                "state": moment.state.astype(float).tolist(),
                "snapshot_sha256": moment.snapshot_sha256,
            }
            tasks.setdefault(task, {})[name] = content
            PIL.Image.fromarray(moment.image).save(folder / _file(task, name), optimize=True)
    text = json.dumps({**asdict(origin_here(suite)), "tasks": tasks}, indent=1)
    (folder / "golden.json").write_text(text + "\n")


def moments(suite: Suite, task: str) -> dict[str, Moment]:
    """The first moment of an episode, and the one after the fixed actions."""
    env = suite.make(task, RENDER)
    try:
        env.reset(SEED)

        def now() -> Moment:
            snapshot = np.ascontiguousarray(env.snapshot(), "<f8").tobytes()
            return Moment(env.state(), hashlib.sha256(snapshot).hexdigest(), env.render(env.spec.cameras[0]))

        first = now()
        generator = np.random.Generator(np.random.PCG64(SEED))
        for _ in range(STEPS):
            env.step(ACTION_SCALE * generator.uniform(env.spec.action_low, env.spec.action_high))
        return {"first": first, "moved": now()}
    finally:
        env.close()


def recorded_states(suite: Suite) -> dict[str, Float[np.ndarray, "n s"]]:
    """States of the robot at the recorded moments of each golden task; empty for suites without recordings."""
    if not suite.golden_tasks:
        return {}
    tasks = json.loads((_folder(suite) / "golden.json").read_text())["tasks"]
    return {
        task: np.array([moment["state"] for moment in tasks[task].values()]) for task in suite.golden_tasks
    }


def origin(suite: Suite) -> Origin:
    """Software and machine of the recorded moments of a suite."""
    content = json.loads((_folder(suite) / "golden.json").read_text())
    return Origin(content["packages"], content["renderer"], content["machine"])


def origin_here(suite: Suite) -> Origin:
    """Software and machine of this process."""
    versions = (part.rsplit(" ", 1) for part in (*suite.source.split(", "), f"numpy {np.__version__}"))
    return Origin(dict(versions), suite.renderer(), f"{platform.system()} {platform.machine()}")


def _folder(suite: Suite) -> Traversable:
    return resources.files(f"simloop.envs.{suite.name}") / "golden"


def _file(task: str, moment: str) -> str:
    """A short file name; the names of LIBERO's tasks are too long for some archives."""
    return f"{hashlib.sha256(task.encode()).hexdigest()[:8]}-{moment}.png"
