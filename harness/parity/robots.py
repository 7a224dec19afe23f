"""Comparisons of robot conventions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from simloop.harness.adapters import aloha, droid, libero
from simloop.harness.adapters.openpi_observation import ModelView, filled_cameras
from simloop.harness.parity.comparison import (
    ArrayComparison,
    Arrays,
    close,
    identical,
    load_arrays,
    recorded_observation,
)
from simloop.policies.models.configs import FAST_CAMERAS, FLOW_CAMERAS

LIMIT = 1e-6
ALOHA_CASES = ("all_u8", "high_only_f32")
GRIPPER_MAPS = {
    "to_angular": aloha.pi_gripper_from_opening,
    "from_angular": aloha.servo_fraction_from_pi_command,
    "from_angular_inv": aloha.pi_command_from_servo_fraction,
}

View = Callable[[dict[str, object]], ModelView]


def checks(golden: Path) -> Iterator[ArrayComparison]:
    """Compare everything in `robots.npz`."""
    arrays = load_arrays(golden / "robots.npz")
    if not arrays:
        return
    yield from _aloha(arrays)
    for family in ("pi0", "pi05", "pi0_fast"):
        fast = family == "pi0_fast"
        yield from _inputs(arrays, f"libero/{family}", libero.PANDA.model_view, FLOW_CAMERAS, fast)
        droid_view = (droid.DROID_FAST if fast else droid.DROID).model_view
        yield from _inputs(
            arrays, f"droid/{family}", droid_view, FAST_CAMERAS if fast else FLOW_CAMERAS, fast
        )
    for name, robot in (("libero", libero.PANDA), ("droid", droid.DROID)):
        got = robot.robot_actions(arrays["outputs/in"])
        yield close(f"robots/outputs/{name}", arrays[f"outputs/{name}"], got, LIMIT)


def _aloha(arrays: Arrays) -> Iterator[ArrayComparison]:
    for adapt in (True, False):
        convention = aloha.ALOHA if adapt else aloha.RAW_ALOHA
        for case in ALOHA_CASES:
            name = f"aloha/{case}_adapt{int(adapt)}"
            view: View = partial(aloha.model_view, convention=convention)
            yield from _inputs(arrays, name, view, FLOW_CAMERAS, False)
            actions = arrays[f"{name}/in/actions"]
            wanted = arrays[f"{name}/out/actions"]
            got = aloha.pi_actions(actions) if adapt else actions
            yield close(f"robots/{name}/actions", wanted, got, LIMIT)
        given = arrays[f"aloha/outputs_in_adapt{int(adapt)}"]
        wanted = arrays[f"aloha/outputs_adapt{int(adapt)}"]
        got = convention.robot_actions(given)
        yield close(f"robots/aloha/outputs_adapt{int(adapt)}", wanted, got, LIMIT)
    for name, convert in GRIPPER_MAPS.items():
        wanted, x = arrays[f"aloha/gripper/{name}"], arrays["aloha/gripper/x"]
        yield close(f"robots/aloha/gripper/{name}", wanted, convert(x), LIMIT)


def _inputs(
    arrays: Arrays, name: str, model_view: View, cameras: tuple[str, ...], absent_counts: bool
) -> Iterator[ArrayComparison]:
    """Compare the state, images, masks and instruction that a robot's observation is converted to."""
    view = model_view(recorded_observation(arrays, f"{name}/in/", "images/"))
    images, masks = filled_cameras(view, cameras, absent_counts=absent_counts)
    yield close(f"robots/{name}/state", arrays[f"{name}/out/state"], view.state, LIMIT)
    for camera in cameras:
        wanted, mask = arrays[f"{name}/out/image/{camera}"], arrays[f"{name}/out/image_mask/{camera}"]
        yield identical(f"robots/{name}/image/{camera}", wanted, images[camera])
        yield identical(f"robots/{name}/image_mask/{camera}", mask, masks[camera])
    wanted = _characters(str(arrays[f"{name}/out/prompt"]))
    yield identical(f"robots/{name}/prompt", wanted, _characters(view.instruction or ""))


def _characters(text: str) -> np.ndarray:
    return np.array([ord(character) for character in text])
