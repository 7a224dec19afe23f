"""Robot conventions of openpi: names, sizes and conversions between a robot's client and a pi0 model.

Axis letters: h image height, w image width, s robot state size, t actions of a chunk, a action size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8

from simloop.policies.transforms.preprocessing import uint8_image


class ObservationError(ValueError):
    """An observation that lacks an entry, or has one of another shape than the robot's convention."""


@dataclass(frozen=True)
class ModelView:
    """An observation under the model's names, in the model's convention."""

    images: Mapping[str, UInt8[np.ndarray, "h w 3"]]
    """By model camera name. Cameras that the robot lacks are absent."""
    state: Float[np.ndarray, "s"]
    instruction: str | None = None


def _unchanged(values: np.ndarray) -> np.ndarray:
    return values


@dataclass(frozen=True)
class RobotConvention:
    """The one table of a robot, for simulated suites and for observations of openpi's client."""

    cameras: Mapping[str, str] = field(default_factory=dict)
    """Keys of the client's images by model camera name."""
    optional_cameras: tuple[str, ...] = ()
    """Model camera names that an observation may lack."""
    state: Mapping[str, int] = field(default_factory=dict)
    """Keys and sizes of the client's vectors that form the state, in order."""
    action_size: int | None = None
    """Length of the robot's actions, which models pad; None to keep all entries."""
    model_state: Callable[[np.ndarray], np.ndarray] = _unchanged
    """Converts states [s] of the robot to the convention of the model."""
    from_model_actions: Callable[[np.ndarray], np.ndarray] = _unchanged
    """Converts actions [t, a] of the model, without padding, to the convention of the robot."""
    to_model_actions: Callable[[np.ndarray], np.ndarray] = _unchanged
    """The inverse."""

    @property
    def state_size(self) -> int | None:
        """Length of the state; None if it is that of the suite."""
        return sum(self.state.values()) or None

    def model_view(self, observation: Mapping[str, object]) -> ModelView:
        """Convert an observation of openpi's client.

        Raises:
          ObservationError: If an entry is missing or has the wrong shape.
        """
        seen = {
            camera: read_image(observation, key)
            for camera, key in self.cameras.items()
            if key in observation or camera not in self.optional_cameras
        }
        state = [read_vector(observation, key, size) for key, size in self.state.items()]
        return ModelView(seen, self.model_state(np.concatenate(state)), read_instruction(observation))

    def robot_actions(self, actions: Float[np.ndarray, "t padded"]) -> Float[np.ndarray, "t a"]:
        """Convert the model's padded actions to the robot's."""
        return self.from_model_actions(actions[..., : self.action_size])


def filled_cameras(
    view: ModelView, cameras: Sequence[str], *, absent_counts: bool
) -> tuple[dict[str, np.ndarray], dict[str, bool]]:
    """Return images and masks of all cameras of a model; images of absent cameras are black.

    Args:
      view: The observation.
      cameras: The model's camera names.
      absent_counts: Whether absent cameras are unmasked. The published pi0-FAST models were trained so.
    """
    black = np.zeros_like(next(iter(view.images.values())))
    images = {camera: view.images.get(camera, black) for camera in cameras}
    return images, {camera: camera in view.images or absent_counts for camera in cameras}


def read_image(observation: Mapping[str, object], key: str) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image of an observation as uint8 with channels last.

    Raises:
      ObservationError: If it is missing or not an image.
    """
    image = _array(observation, key)
    if image.dtype.kind not in "fiu":
        raise ObservationError(f"{key} must be an image; got an array of {image.dtype}.")
    try:
        return uint8_image(image)
    except ValueError as error:
        raise ObservationError(f"{key}: {error}") from error


def _array(observation: Mapping[str, object], key: str) -> np.ndarray:
    if key not in observation:
        raise ObservationError(f"The observation has no {key!r}; it has {', '.join(observation)}.")
    try:
        return np.asarray(observation[key])
    except ValueError as error:  # Lists of unequal lengths.
        raise ObservationError(f"{key} is no array: {error}") from error


def read_vector(observation: Mapping[str, object], key: str, size: int) -> Float[np.ndarray, "s"]:
    """Return a vector of an observation. A single number needs no axis.

    Raises:
      ObservationError: If it is missing or has another length.
    """
    vector = np.atleast_1d(_array(observation, key))
    if vector.shape != (size,) or not np.issubdtype(vector.dtype, np.floating):
        raise ObservationError(
            f"{key} must be {size} floating-point numbers; got {vector.dtype} of shape {vector.shape}."
        )
    return vector


def read_instruction(observation: Mapping[str, object]) -> str | None:
    """Return the instruction of an observation, which may be text, bytes or a NumPy scalar of either.

    Raises:
      ObservationError: If it is anything else, or bytes that are no UTF-8.
    """
    prompt = observation.get("prompt")
    if isinstance(prompt, np.ndarray | np.generic) and prompt.size == 1:
        prompt = prompt.item()
    try:
        prompt = prompt.decode() if isinstance(prompt, bytes) else prompt
    except UnicodeDecodeError as error:
        raise ObservationError(f"prompt is no UTF-8: {error}.") from error
    if prompt is not None and not isinstance(prompt, str):
        raise ObservationError(f"prompt must be one text; got a {type(prompt).__name__}.")
    return prompt
