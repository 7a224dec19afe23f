"""What a suite showed and computed where its results were checked, and how this machine compares.

For some tasks of each suite the package keeps the first picture, and the picture and the robot's state after a fixed
sequence of actions. Physics must agree to rounding. Renderers do not agree in every pixel, so pictures must agree on
average; a change of lights, textures, cameras or places shows far above the tolerance.

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
from jaxtyping import Float32, UInt8

from simloop.envs.interface import RenderSettings, Suite

RENDER = RenderSettings("official", 128, 128)
SEED = 0
STEPS = 8
REACH = 0.2  # Of the range of each action, about its middle for most suites: nothing is hit hard.

PICTURE_TOLERANCE = 1.5
"""Mean absolute difference of grey levels, of 255. Turning multisampling off makes 0.9 to 1.3 in LIBERO, a stove or
cabinet that stands a centimetre elsewhere 2 to 4, the textures of a newer MuJoCo 37."""

STATE_TOLERANCE = 1e-5
"""Largest difference in the robot's state, in its own units. Other processors make 1e-9 or less."""


@dataclass(frozen=True)
class Moment:
    """One instant of an episode."""

    state: Float32[np.ndarray, "s"]
    snapshot_sha256: str
    picture: UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class GoldenComparison:
    """How a moment came out here, beside the one that was kept."""

    task: str
    moment: str
    identical_physics: bool
    """Whether the whole simulation state is the same to the last bit."""
    state_difference: float
    picture_difference: float

    @property
    def agrees(self) -> bool:
        """Whether both differences are within their tolerances."""
        return self.state_difference <= STATE_TOLERANCE and self.picture_difference <= PICTURE_TOLERANCE


@dataclass(frozen=True)
class Origin:
    """What the kept moments came from."""

    packages: dict[str, str]
    renderer: str
    machine: str


def compare(suite: Suite, task: str) -> Iterator[GoldenComparison]:
    """Play a golden task of a suite here and compare it with what was kept, moment by moment."""
    kept = _kept(suite)
    wanted = json.loads((kept / "golden.json").read_text())["tasks"][task]
    for name, here in moments(suite, task).items():
        picture = np.asarray(PIL.Image.open(io.BytesIO((kept / _file(task, name)).read_bytes())))
        yield GoldenComparison(
            task,
            name,
            here.snapshot_sha256 == wanted[name]["snapshot_sha256"],
            float(np.abs(here.state.astype(float) - wanted[name]["state"]).max()),
            float(np.abs(here.picture.astype(float) - picture).mean()),
        )


def record(suite: Suite, folder: Path) -> None:
    """Play the golden tasks of a suite and keep what they came to in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks: dict[str, dict[str, object]] = {}
    for task in suite.golden_tasks:
        for name, moment in moments(suite, task).items():
            kept = {"state": moment.state.astype(float).tolist(), "snapshot_sha256": moment.snapshot_sha256}
            tasks.setdefault(task, {})[name] = kept
            PIL.Image.fromarray(moment.picture).save(folder / _file(task, name), optimize=True)
    content = {**asdict(origin_here(suite)), "tasks": tasks}
    (folder / "golden.json").write_text(json.dumps(content, indent=1) + "\n")


def moments(suite: Suite, task: str) -> dict[str, Moment]:
    """The first moment of a task, and the one after the fixed actions."""
    env = suite.make(task, RENDER)
    try:
        env.reset(SEED)

        def now() -> Moment:
            snapshot = np.ascontiguousarray(env.snapshot(), "<f8").tobytes()
            return Moment(env.state(), hashlib.sha256(snapshot).hexdigest(), env.render(env.spec.cameras[0]))

        first = now()
        generator = np.random.Generator(np.random.PCG64(SEED))
        for _ in range(STEPS):
            env.step(REACH * generator.uniform(env.spec.action_low, env.spec.action_high))
        return {"first": first, "moved": now()}
    finally:
        env.close()


def origin(suite: Suite) -> Origin:
    """Where the kept moments of a suite come from."""
    content = json.loads((_kept(suite) / "golden.json").read_text())
    return Origin(content["packages"], content["renderer"], content["machine"])


def origin_here(suite: Suite) -> Origin:
    """The same of this machine."""
    from simloop.envs.rendering import renderer_name  # Imports MuJoCo.

    versions = (part.rsplit(" ", 1) for part in (*suite.source.split(", "), f"numpy {np.__version__}"))
    return Origin(dict(versions), renderer_name(), f"{platform.system()} {platform.machine()}")


def _kept(suite: Suite) -> Traversable:
    return resources.files(f"simloop.envs.{suite.name}") / "golden"


def _file(task: str, moment: str) -> str:
    """Short, for names of LIBERO's tasks are longer than some archives allow."""
    return f"{hashlib.sha256(task.encode()).hexdigest()[:8]}-{moment}.png"
