"""What a scene contains at a moment: poses of things, contacts of grippers, and what they hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import mujoco
import numpy as np
from jaxtyping import Float64

from simloop.envs.scene_types import Contact, GripperPose, Pose, Scene

Finger = frozenset[int]
"""Bodies that move with one finger."""


class Tip(NamedTuple):
    """A point of a finger."""

    body: int
    offset_m: tuple[float, float, float]
    """In the frame of the body."""


@dataclass(frozen=True)
class Gripper:
    """A gripper with two fingers, by body ids."""

    bodies: frozenset[int]
    """All bodies of the hand and its fingers."""
    fingers: tuple[Finger, Finger]
    tips: tuple[Tip, Tip]
    """Inner sides of the ends of the fingers, which meet where the gripper closes."""


class SceneReader:
    """Read scenes of one compiled model.

    Poses and forces are computed from the integration state in data of their own: the physics is not affected, and
    equal states have equal scenes. What a suite's step leaves in its own data may lag behind, and dm_control leaves no
    forces there.

    Args:
      things: Root body of each thing of interest, by name.
      points: Returns the positions of further things that are no bodies, such as goals, in metres in the world frame.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        things: Mapping[str, int],
        grippers: Sequence[Gripper],
        points: Callable[[mujoco.MjData], Mapping[str, np.ndarray]] = lambda _: {},
    ):
        self._model = model
        self._data = mujoco.MjData(model)
        self._things = dict(things)
        self._points = points
        self._grippers = tuple(grippers)
        self._gripper_bodies = frozenset().union(*(gripper.bodies for gripper in grippers))
        self._names = _names(model, things)

    def read(self, state: Float64[np.ndarray, "_"]) -> Scene:
        """Return the scene of an integration state."""
        data = self._data
        mujoco.mj_setState(self._model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(self._model, data)
        poses = {
            name: Pose(data.xpos[body].copy(), data.xquat[body].copy()) for name, body in self._things.items()
        }
        for name, position in self._points(data).items():
            poses[name] = Pose(np.array(position, np.float64), np.array([1.0, 0.0, 0.0, 0.0]))
        touching = self._touching(data)
        contacts = tuple(
            Contact(self._names[gripper], self._names[other], force)
            for (gripper, other), force in sorted(touching.items())
        )
        grippers = tuple(_gripper_pose(data, *gripper.tips) for gripper in self._grippers)
        return Scene(float(data.time), poses, contacts, self._held(touching), grippers)

    def _touching(self, data: mujoco.MjData) -> dict[tuple[int, int], float]:
        """Normal force in newtons by (body of a gripper, other body), summed over their contact points."""
        forces: defaultdict[tuple[int, int], float] = defaultdict(float)
        wrench = np.zeros(6)
        bodies = self._model.geom_bodyid[data.contact.geom]
        for index, pair in enumerate(bodies.tolist()):
            inside = [body in self._gripper_bodies for body in pair]
            if inside[0] != inside[1]:
                mujoco.mj_contactForce(self._model, data, index, wrench)
                forces[tuple(pair) if inside[0] else (pair[1], pair[0])] += abs(float(wrench[0]))
        return dict(forces)

    def _held(self, touching: Mapping[tuple[int, int], float]) -> tuple[str, ...]:
        """Names of movable things that press against both fingers of a gripper."""
        held = set()
        for gripper in self._grippers:
            left, right = (
                {
                    self._names[other]
                    for (body, other), force in touching.items()
                    if body in finger and force > 0 and self._model.body_weldid[other]
                }
                for finger in gripper.fingers
            )
            held |= left & right
        return tuple(sorted(held))


def _gripper_pose(data: mujoco.MjData, *tips: Tip) -> GripperPose:
    left, right = (
        data.xpos[tip.body] + data.xmat[tip.body].reshape(3, 3) @ np.array(tip.offset_m) for tip in tips
    )
    return GripperPose((left + right) / 2, float(np.linalg.norm(left - right)))


def movable(model: mujoco.MjModel, robots: Iterable[str]) -> dict[str, int]:
    """Bodies that have joints of their own and do not belong to the robots, by name.

    Args:
      robots: Root bodies of the robots.
    """
    robot_bodies = frozenset().union(*(subtree(model, model.body(name).id) for name in robots))
    return {
        model.body(body).name or f"body{body}": body
        for body in range(1, model.nbody)
        if model.body_jntnum[body] and body not in robot_bodies
    }


def subtree(model: mujoco.MjModel, root: int) -> frozenset[int]:
    """Ids of a body and all bodies below it."""
    found = {root}
    for body in range(root + 1, model.nbody):  # MuJoCo numbers parents before their children.
        if model.body_parentid[body] in found:
            found.add(body)
    return frozenset(found)


def _names(model: mujoco.MjModel, things: Mapping[str, int]) -> list[str]:
    """Name of each body: that of the thing that it belongs to, else its own, else that of the body above it."""
    of_thing = {body: name for name, body in things.items()}
    names: list[str] = []
    for body in range(model.nbody):
        parent = names[model.body_parentid[body]] if body else "world"
        belongs = body and parent in things and body not in of_thing
        names.append(of_thing.get(body) or (parent if belongs else model.body(body).name or parent))
    return names
