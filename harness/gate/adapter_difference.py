"""In which ways an adapter differs from the registered one of its suite and robot, without a simulation.

Both are given the same images, states and actions, so that each difference is exact and has a name.

Axis letters: n samples, d and e entries of vectors, s size of the suite's state, a action size.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from simloop.envs.interface import Env, TaskSpec
from simloop.harness.adapters.base import Adapter
from simloop.harness.gate.causes import UNITS, quaternion_in, rotation_difference
from simloop.harness.gate.findings import Finding
from simloop.harness.gate.orientations import orientation_of

SAMPLES = 16
EXACT = 1e-5
"""Relative residual of a linear relation that holds."""


class StateOnly(Env):
    """An environment that has a state and nothing else, for the state of an adapter."""

    def __init__(self, spec: TaskSpec, state: Float[np.ndarray, "s"]) -> None:
        self.spec = spec
        self._state = np.asarray(state, np.float32)

    def state(self) -> np.ndarray:
        return self._state

    def _nothing(self, *_: object) -> None:
        raise NotImplementedError("This adapter reads more than the state of the environment.")

    reset = step = privileged = render = snapshot = save = restore = close = _nothing  # type: ignore[assignment]


def states_of(adapter: Adapter, task: TaskSpec, states: Float[np.ndarray, "n s"]) -> np.ndarray | None:
    """States [n, d] of the policy for states of the suite; None if the adapter needs a simulation."""
    try:
        robot = [adapter.state(StateOnly(task, state)) for state in states]
        return np.stack([adapter.convention.model_state(np.asarray(state, np.float64)) for state in robot])
    except Exception:
        return None


def adapter_differences(adapter: Adapter, registered: Adapter, task: TaskSpec) -> Iterator[Finding]:
    """Name every difference of an adapter from the registered one.

    Exchanged or turned images, and other units, signs, orders or rotations cannot be right for weights of the same
    robot convention; other cameras and formulas may be.
    """
    yield from _cameras(adapter, registered)
    yield from _images(adapter, registered)
    states = _random_states(task)
    mine, right = states_of(adapter, task, states), states_of(registered, task, states)
    if mine is not None and right is not None:
        yield from _vectors("state", mine, right, None)
    size = registered.convention.action_size or task.action_size
    chunk = np.random.default_rng(1).uniform(-1, 1, (SAMPLES, size))
    found, wanted = (one.convention.robot_actions(chunk) for one in (adapter, registered))
    yield from _vectors("actions", found, wanted, task.action_names)


def _cameras(adapter: Adapter, registered: Adapter) -> Iterator[Finding]:
    others = {
        name: (camera, registered.cameras[name])
        for name, camera in adapter.cameras.items()
        if name in registered.cameras and camera != registered.cameras[name]
    }
    if not others:
        return
    swapped = {camera for camera, _ in others.values()} == {camera for _, camera in others.values()}
    listed = "; ".join(
        f"{name} shows {camera!r}, registered is {wanted!r}" for name, (camera, wanted) in others.items()
    )
    yield Finding("cameras", "FAIL" if swapped else "note", ("swapped cameras: " if swapped else "") + listed)


def _images(adapter: Adapter, registered: Adapter) -> Iterator[Finding]:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    found, wanted = adapter.image(image), registered.image(image)
    if np.array_equal(found, wanted):
        return
    orientation = orientation_of(found, wanted)
    said = "changed" if orientation is None else orientation
    yield Finding(
        "images",
        "note" if orientation is None else "FAIL",
        f"{said}, compared with those of the registered adapter",
    )


def _random_states(task: TaskSpec) -> Float[np.ndarray, "n s"]:
    """States whose quaternions, told by the names of their entries, have norm 1."""
    states = np.random.default_rng(0).uniform(-1, 1, (SAMPLES, task.state_size))
    quaternion = [i for i, name in enumerate(task.state_names) if "quat" in name]
    for start in range(0, len(quaternion) - 3, 4):
        chosen = quaternion[start : start + 4]
        states[:, chosen] /= np.linalg.norm(states[:, chosen], axis=1, keepdims=True)
    return states


def _vectors(
    what: str,
    found: Float[np.ndarray, "n d"],
    wanted: Float[np.ndarray, "n e"],
    names: tuple[str, ...] | None,
) -> Iterator[Finding]:
    """Findings on vectors that should be equal."""
    if found.shape == wanted.shape and np.allclose(found, wanted, atol=EXACT):
        return
    quaternion = quaternion_in(found)
    if quaternion is not None and quaternion_in(wanted) is None:
        text = f"entries {quaternion} to {quaternion + 3} are a quaternion, where the convention has none"
        yield Finding(what, "FAIL", text)
        return
    if found.shape != wanted.shape:
        text = f"{found.shape[1]} entries, where the convention of the robot has {wanted.shape[1]}"
        yield Finding(what, "FAIL", text)
        return
    unequal = [i for i in range(found.shape[1]) if not np.allclose(found[:, i], wanted[:, i], atol=EXACT)]
    for start in unequal:
        three = slice(start, start + 3)
        difference = (
            rotation_difference(found[:, three], wanted[:, three]) if found.shape[1] >= start + 3 else None
        )
        if difference is not None:
            yield Finding(what, "FAIL", f"entries {start} to {start + 2} are {difference}")
            unequal = [i for i in unequal if not start <= i < start + 3]
            break
    for i in unequal:
        name = f"entry {i}" if names is None else names[i]
        cause = _relation(found[:, i], wanted, i, names)
        yield Finding(what, "FAIL" if cause else "note", f"{name} {cause or 'is computed otherwise'}")


def _relation(found: np.ndarray, wanted: np.ndarray, entry: int, names: tuple[str, ...] | None) -> str | None:
    """How an entry follows linearly from one of the right vector; None if it does not."""
    for other in [entry, *(i for i in range(wanted.shape[1]) if i != entry)]:
        fit = np.polyfit(wanted[:, other], found, 1) if np.ptp(wanted[:, other]) else np.zeros(2)
        residual = found - np.polyval(fit, wanted[:, other])
        if not fit[0] or np.abs(residual).max() > EXACT * max(1.0, np.abs(found).max()):
            continue
        factor, offset = float(fit[0]), float(fit[1])
        source = f"entry {other}" if names is None else names[other]
        parts = [f"is {source}: another order"] if other != entry else []
        if factor < 0:
            parts.append("has the other sign")
        unit = next((u for u, f in UNITS.items() if abs(abs(factor) / f - 1) < 0.01), None)
        if unit or abs(abs(factor) - 1) > EXACT:
            parts.append(f"is in {unit}" if unit else f"is {abs(factor):.3g} times as large")
        if abs(offset) > EXACT:
            parts.append(f"is shifted by {offset:.3g}")
        return ", ".join(parts)
    return None
