"""What a model of the pi0 family sees of a robot, whatever the robot calls it.

Axis letters: h image height, w image width, s robot state size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from simloop.policies.transforms.preprocessing import uint8_image


class ObservationError(ValueError):
    """An observation that lacks something, or has it in another shape than the robot's convention says."""


@dataclass(frozen=True)
class ModelView:
    """An observation under the model's names, in the model's robot convention."""

    images: Mapping[str, UInt8[np.ndarray, "h w 3"]]
    """By model camera name. Cameras that the robot lacks are absent."""
    state: Float[np.ndarray, "s"]
    instruction: str | None = None


def filled_cameras(
    view: ModelView, cameras: Sequence[str], *, absent_counts: bool
) -> tuple[dict[str, np.ndarray], dict[str, bool]]:
    """Images of all cameras of a model, black where the robot has none, and their masks.

    Args:
      view: What the robot sees.
      cameras: The model's camera names.
      absent_counts: Whether black images are marked as seen. The published pi0-FAST models were trained
        so; the others mask them.
    """
    black = np.zeros_like(next(iter(view.images.values())))
    images = {camera: view.images.get(camera, black) for camera in cameras}
    return images, {camera: camera in view.images or absent_counts for camera in cameras}


def read_image(observation: Mapping[str, object], key: str) -> UInt8[np.ndarray, "h w 3"]:
    """An image of an observation, as grey levels with channels last.

    Raises:
      ObservationError: If it is absent or no image.
    """
    try:
        return uint8_image(np.asarray(observation[key]))
    except KeyError as error:
        raise ObservationError(f"The observation has no {key!r}; it has {', '.join(observation)}.") from error
    except ValueError as error:
        raise ObservationError(f"{key}: {error}") from error


def read_vector(observation: Mapping[str, object], key: str, size: int) -> Float[np.ndarray, "s"]:
    """A vector of an observation. A single number may be given without its axis.

    Raises:
      ObservationError: If it is absent or of another length.
    """
    if key not in observation:
        raise ObservationError(f"The observation has no {key!r}; it has {', '.join(observation)}.")
    vector = np.atleast_1d(np.asarray(observation[key]))
    if vector.shape != (size,) or not np.issubdtype(vector.dtype, np.floating):
        raise ObservationError(
            f"{key} must be {size} floating-point numbers; got {vector.dtype} of shape {vector.shape}."
        )
    return vector


def read_instruction(observation: Mapping[str, object]) -> str | None:
    """The instruction of an observation, which may be text, bytes or a numpy scalar of either."""
    prompt = observation.get("prompt")
    if isinstance(prompt, np.ndarray):
        prompt = prompt.item()
    if isinstance(prompt, bytes):
        return prompt.decode()
    return None if prompt is None else str(prompt)
