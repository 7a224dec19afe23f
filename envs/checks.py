"""Checks of what passes between a task and its callers: actions and cameras in, states, images and results out."""

from __future__ import annotations

import math

import numpy as np

from simloop.envs.interface import (
    ActionError,
    CameraError,
    EnvError,
    RenderSettings,
    StepResult,
    TaskSpec,
)


def check_action(spec: TaskSpec, action: np.ndarray) -> None:
    """Raise `ActionError` unless the action has the spec's shape and lies within its bounds."""
    where = f"{spec.suite}/{spec.name}"
    if np.shape(action) != (spec.action_size,):
        raise ActionError(
            f"{where} takes an action of shape ({spec.action_size},) = {', '.join(spec.action_names)}; "
            f"got shape {np.shape(action)}."
        )
    if not np.all(np.isfinite(action)):
        raise ActionError(
            f"{where} got an action with NaN or infinite entries: {np.asarray(action).tolist()}."
        )
    # Bounds are rounded to the action's precision: 0.1 in single precision exceeds 0.1 slightly and is still allowed.
    low, high = np.asarray(spec.action_low, action.dtype), np.asarray(spec.action_high, action.dtype)
    outside = (action < low) | (action > high)
    if np.any(outside):
        i = int(np.argmax(outside))
        raise ActionError(
            f"{where} takes {spec.action_names[i]} in [{low[i]:g}, {high[i]:g}]; got {float(action[i]):g}. "
            "Clip it in the adapter if saturation is intended."
        )


def check_cameras_stay(spec: TaskSpec, render: RenderSettings) -> None:
    """Raise `CameraError` if the settings move a camera."""
    if render.camera_positions:
        raise CameraError(
            f"{spec.suite}/{spec.name} cannot move its cameras; got positions for "
            f"{', '.join(name for name, _ in render.camera_positions)}."
        )


def check_vector(spec: TaskSpec, name: str, vector: object, size: int) -> None:
    """Raise `EnvError` unless a vector that the simulation gave has `size` finite real numbers.

    Args:
      spec: The task.
      name: What the vector is, such as `state`.
      vector: What the simulation gave.
      size: Its promised length.
    """
    if (
        not isinstance(vector, np.ndarray)
        or vector.shape != (size,)
        or vector.dtype.kind not in "fiub"
        or not np.isfinite(vector).all()
    ):
        raise EnvError(
            f"{spec.suite}/{spec.name} gave {_described(vector)} as {name}; wanted {size} finite numbers. The "
            "simulation is at fault, not the policy."
        )


def check_image(spec: TaskSpec, camera: str, image: object, render: RenderSettings) -> None:
    """Raise `EnvError` unless an image is uint8 of the promised height and width, with three channels."""
    wanted = (render.height, render.width, 3)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape != wanted:
        raise EnvError(
            f"{spec.suite}/{spec.name} gave {_described(image)} as image of camera {camera!r}; wanted uint8 of shape "
            f"{wanted}. The simulation is at fault, not the policy."
        )


def check_step_result(spec: TaskSpec, result: object) -> None:
    """Raise `EnvError` unless a step gave a finite reward and a success that is true or false."""
    if (
        not isinstance(result, StepResult)
        or not isinstance(result.success, bool | np.bool_)
        or not isinstance(result.reward, int | float | np.integer | np.floating)
        or not math.isfinite(result.reward)
    ):
        raise EnvError(
            f"{spec.suite}/{spec.name} gave {result!r} as the result of a step; wanted a StepResult with a finite "
            "reward and a success of True or False. The simulation is at fault, not the policy."
        )


def _described(value: object) -> str:
    if not isinstance(value, np.ndarray):
        return "None" if value is None else f"a {type(value).__name__}"
    nans = value.dtype.kind in "fc" and not np.isfinite(value).all()
    return f"{value.dtype} of shape {value.shape}" + " with NaN or infinite entries" * nans
