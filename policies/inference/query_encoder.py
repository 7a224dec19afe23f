"""Encoding of queries: one row of arrays for the batch of a model. Needs no JAX.

Axis letters: h w image height and width, s state size, a padded state size, t prompt tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, UInt8, UInt32

from simloop.policies.guidance import GUIDANCE_SCHEDULES, prefix_weights
from simloop.policies.interface import Guidance, GuidanceMethod, Query, QueryError
from simloop.policies.presets import Preset
from simloop.policies.tokenizers import fast, paligemma
from simloop.policies.tokenizers.paligemma import filled, warn_if_cut
from simloop.policies.tokenizers.sentencepiece_model import SentencePieceModel
from simloop.policies.transforms.normalization import Normalizer
from simloop.policies.transforms.preprocessing import (
    delta_actions,
    resize_with_pad,
    uint8_image,
    zero_padded,
)

PROMPTS_KEPT = 4096  # Prompts whose token ids are cached; a benchmark has a few dozen.


@dataclass(frozen=True)
class RowShape:
    """Shapes of a row, which select the compiled program."""

    cameras: tuple[str, ...]
    """In the model's order."""
    prompt_tokens: int
    guided: GuidanceMethod | None = None


@dataclass(frozen=True)
class Row:
    """One query, normalized, tokenized and padded."""

    query: Query
    shape: RowShape
    images: dict[str, UInt8[np.ndarray, "h w 3"]]
    state: Float32[np.ndarray, "a"]
    tokens: Int32[np.ndarray, "t"]
    token_mask: Bool[np.ndarray, "t"]
    key: UInt32[np.ndarray, "2"]
    guidance: GuidedRow | None = None


@dataclass(frozen=True)
class GuidedRow:
    """Actions that a chunk is to agree with, normalized and padded, and how much."""

    target: Float32[np.ndarray, "c a"]
    weights: Float32[np.ndarray, "c"]


class QueryEncoder:
    """Encoder of the queries of one preset."""

    def __init__(
        self, preset: Preset, text_model: SentencePieceModel, state: Normalizer, actions: Normalizer
    ):
        """`state` and `actions` normalize the robot state and the actions of guidance."""
        self._preset = preset
        self._text_model = text_model
        self._state = state
        self.actions = actions
        self._takes_state = preset.spec().state_size is not None
        self._black = np.zeros((preset.model.image_size, preset.model.image_size, 3), np.uint8)
        self._instruction_ids = functools.lru_cache(PROMPTS_KEPT)(
            lambda instruction: paligemma.encode_prompt(text_model, instruction)
        )

    def encode(self, query: Query) -> Row:
        """Encode a query.

        Raises:
          QueryError: If a camera is missing or unknown, or the state differs in size from that of the robot.
        """
        images = self._images(query)
        state = self._normalized_state(query)
        ids = self._prompt_ids(query.instruction, state)
        lengths = self._preset.prompt_lengths
        length = next((n for n in lengths if n >= len(ids)), lengths[-1])
        warn_if_cut(ids, length, query.instruction)
        return Row(
            query=query,
            shape=RowShape(tuple(images), length, None if query.guidance is None else query.guidance.method),
            images=images,
            state=zero_padded(state, self._preset.model.action_dim).astype(np.float32),
            tokens=filled(ids, length),
            token_mask=filled([True] * len(ids), length, bool),
            key=np.array([query.key >> 32 & 0xFFFFFFFF, query.key & 0xFFFFFFFF], np.uint32),
            guidance=None if query.guidance is None else self._guided(query, query.guidance),
        )

    def usual_shapes(self, guidance: Sequence[GuidanceMethod | None] = (None,)) -> list[RowShape]:
        """Shapes of rows with exactly the cameras that the preset requires, for these methods of guidance."""
        cameras = self._seen(self._preset.cameras)
        return [
            RowShape(cameras, length, method) for method in guidance for length in self._preset.prompt_lengths
        ]

    def blank_row(self, shape: RowShape) -> Row:
        """Return a row of black images, zeros and one token, to warm up with."""
        return Row(
            query=Query("", "", 0, np.zeros(self._preset.state_size, np.float32)),
            shape=shape,
            images=dict.fromkeys(shape.cameras, self._black),
            state=np.zeros(self._preset.model.action_dim, np.float32),
            tokens=filled([0], shape.prompt_tokens),
            token_mask=filled([True], shape.prompt_tokens, bool),
            key=np.zeros(2, np.uint32),
            guidance=None if shape.guided is None else self._unguided(),
        )

    def _guided(self, query: Query, guidance: Guidance) -> GuidedRow:
        """Normalize the actions that are left, relative to the state of this query where the preset's actions are."""
        left = guidance.actions.astype(np.float64)
        if self._preset.model.action_expert is None:
            raise QueryError(f"{self._preset.name} answers in tokens, which cannot be guided.")
        if left.ndim != 2 or left.shape[1] != self._preset.action_size:
            raise QueryError(
                f"{self._preset.name} is guided by actions of {self._preset.action_size} numbers; got an array of "
                f"shape {left.shape}."
            )
        row = self._unguided()
        steps = min(len(left), len(row.weights))
        if steps:
            if any(self._preset.relative):
                left = delta_actions(left, query.state.astype(np.float64), self._preset.relative)
            row.target[:steps, : left.shape[1]] = self.actions.normalize(left[:steps])
            delay = guidance.delay
            if guidance.method == "trained":
                delay = min(delay, self._preset.max_delay)
            row.weights[:] = prefix_weights(
                delay, steps, len(row.weights), GUIDANCE_SCHEDULES[guidance.method]
            )
        return row

    def _unguided(self) -> GuidedRow:
        sizes = self._preset.model
        return GuidedRow(
            np.zeros((sizes.action_horizon, sizes.action_dim), np.float32),
            np.zeros(sizes.action_horizon, np.float32),
        )

    def _seen(self, present: tuple[str, ...]) -> tuple[str, ...]:
        """Cameras that the model reads, in its order, from a query with these."""
        black = self._preset.absent_cameras == "black"
        return tuple(camera for camera in self._preset.model.cameras if black or camera in present)

    def _images(self, query: Query) -> dict[str, np.ndarray]:
        missing = [camera for camera in self._preset.cameras if camera not in query.images]
        unknown = [camera for camera in query.images if camera not in self._preset.model.cameras]
        if missing or unknown:
            raise QueryError(
                f"{self._preset.name} needs images of {_listed(self._preset.cameras)} and takes "
                f"{_listed(self._preset.model.cameras)}; the query has {_listed(tuple(query.images))}. "
                "The adapter of the suite names the cameras (harness/adapters/)."
            )
        size = self._preset.model.image_size
        return {
            camera: resize_with_pad(_pixels(camera, query.images[camera]), size, size, self._preset.resizing)
            if camera in query.images
            else self._black
            for camera in self._seen(tuple(query.images))
        }

    def _normalized_state(self, query: Query) -> Float[np.ndarray, "s"]:
        if not self._takes_state:
            return np.zeros(0)
        if query.state.shape != (self._preset.state_size,):
            raise QueryError(
                f"{self._preset.name} takes a state of {self._preset.state_size} numbers in the convention "
                f"of robot {self._preset.robot!r}; got shape {query.state.shape}."
            )
        if not np.isfinite(query.state).all():
            i = int(np.argmin(np.isfinite(query.state)))
            raise QueryError(
                f"Entry {i} of the state is {query.state[i]}; {self._preset.name} takes finite numbers."
            )
        return self._state.normalize(query.state.astype(np.float64))

    def _prompt_ids(self, instruction: str, state: Float[np.ndarray, "s"]) -> list[int]:
        write: dict[str, Callable[[], list[int]]] = {
            "instruction": lambda: self._instruction_ids(instruction),
            "instruction_and_state": lambda: paligemma.encode_prompt(self._text_model, instruction, state),
            "fast": lambda: fast.encode_prompt(self._text_model, instruction, state),
        }
        return write[self._preset.prompt]()


def _pixels(camera: str, image: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    try:
        return uint8_image(image)
    except (ValueError, AttributeError) as error:
        raise QueryError(f"The image of camera {camera!r} cannot be used. {error}") from error


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names)) or "no camera"
