"""Robot conventions against recordings of the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from simloop.harness.adapters import aloha, droid, libero
from simloop.harness.adapters.openpi_observation import ModelView, filled_cameras
from simloop.harness.parity.comparison import ArrayComparison
from simloop.policies.models.configs import FAST_CAMERAS, FLOW_CAMERAS

LIMIT = 1e-6
ALOHA_CASES = ("all_u8", "high_only_f32")
GRIPPER_MAPS = {
    "to_angular": aloha.pi_gripper_from_opening,
    "from_angular": aloha.servo_fraction_from_pi_command,
    "from_angular_inv": aloha.pi_command_from_servo_fraction,
}

Arrays = Mapping[str, np.ndarray]
View = Callable[[dict[str, object]], ModelView]


def checks(golden: Path) -> Iterator[ArrayComparison]:
    """Compare everything in `robots.npz`, if it is there."""
    file = golden / "robots.npz"
    if not file.exists():
        return
    with np.load(file) as npz:
        arrays = dict(npz)
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
        yield _close(f"robots/outputs/{name}", arrays[f"outputs/{name}"], got)


def _aloha(arrays: Arrays) -> Iterator[ArrayComparison]:
    for adapt in (True, False):
        convention = aloha.ALOHA if adapt else aloha.RAW_ALOHA
        for case in ALOHA_CASES:
            name = f"aloha/{case}_adapt{int(adapt)}"
            view: View = partial(aloha.model_view, convention=convention)
            yield from _inputs(arrays, name, view, FLOW_CAMERAS, False)
            actions = arrays[f"{name}/in/actions"]
            wanted = arrays[f"{name}/out/actions"]
            yield _close(f"robots/{name}/actions", wanted, aloha.pi_actions(actions) if adapt else actions)
        given = arrays[f"aloha/outputs_in_adapt{int(adapt)}"]
        wanted = arrays[f"aloha/outputs_adapt{int(adapt)}"]
        got = convention.robot_actions(given)
        yield _close(f"robots/aloha/outputs_adapt{int(adapt)}", wanted, got)
    for name, convert in GRIPPER_MAPS.items():
        wanted, x = arrays[f"aloha/gripper/{name}"], arrays["aloha/gripper/x"]
        yield _close(f"robots/aloha/gripper/{name}", wanted, convert(x))


def _inputs(
    arrays: Arrays, name: str, model_view: View, cameras: tuple[str, ...], absent_counts: bool
) -> Iterator[ArrayComparison]:
    """State, images, masks and instruction that a robot's observation turns into."""
    view = model_view(_observation(arrays, f"{name}/in/"))
    images, masks = filled_cameras(view, cameras, absent_counts=absent_counts)
    yield _close(f"robots/{name}/state", arrays[f"{name}/out/state"], view.state)
    for camera in cameras:
        wanted, mask = arrays[f"{name}/out/image/{camera}"], arrays[f"{name}/out/image_mask/{camera}"]
        yield ArrayComparison(f"robots/{name}/image/{camera}", wanted, images[camera], 0.0, "identical")
        yield ArrayComparison(
            f"robots/{name}/image_mask/{camera}", mask, np.array(masks[camera]), 0.0, "identical"
        )
    wanted = _characters(str(arrays[f"{name}/out/prompt"]))
    yield ArrayComparison(
        f"robots/{name}/prompt", wanted, _characters(view.instruction or ""), 0.0, "identical"
    )


def _observation(arrays: Arrays, prefix: str) -> dict[str, object]:
    """The recorded observation with its own keys; `.` stands for a slash in them."""
    found = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    images = {name.removeprefix("images/"): a for name, a in found.items() if name.startswith("images/")}
    if images:
        return {"images": images, **{name: a for name, a in found.items() if not name.startswith("images/")}}
    return {name.replace(".", "/"): array for name, array in found.items()}


def _characters(text: str) -> np.ndarray:
    return np.array([ord(character) for character in text])


def _close(name: str, wanted: np.ndarray, got: np.ndarray) -> ArrayComparison:
    return ArrayComparison(name, wanted, got, LIMIT, "max")
