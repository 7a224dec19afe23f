"""From frames of a dataset to the batches that a model learns from.

Prompts are tokenised once for all frames, before the first step, so that one that does not fit is
found before hours are lost. Axis letters: n frames, b batch, t prompt tokens, c chunk steps, a action size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from simloop.policies.inference.model_policy import PolicyTokenizers
from simloop.policies.models.model_input import ModelInput
from simloop.policies.presets import Preset
from simloop.policies.tokenizers import fast, paligemma
from simloop.policies.tokenizers.fast_actions import ActionRangeError
from simloop.policies.tokenizers.paligemma import filled
from simloop.policies.training.dataset_statistics import chunks
from simloop.policies.training.errors import TrainingError
from simloop.policies.training.prepared import PreparedData
from simloop.policies.training.state_prediction import locations
from simloop.policies.training.step import TrainingBatch
from simloop.policies.transforms.normalization import Normalizer, NormStats
from simloop.policies.transforms.preprocessing import zero_padded

MOST_LEFT_OUT = 0.01
"""Part of the frames of a pi0-FAST dataset that may be left out because their actions take too many tokens."""


@dataclass(frozen=True)
class Tokens:
    """The text of every frame."""

    rows: Int32[np.ndarray, "n t"]
    mask: Bool[np.ndarray, "n t"]
    in_answer: Bool[np.ndarray, "n t"] | None
    """True on the tokens to be predicted, for models that answer in tokens."""


class Examples:
    """All frames of a dataset as examples for one preset."""

    def __init__(
        self,
        data: PreparedData,
        preset: Preset,
        stats: NormStats,
        words: PolicyTokenizers,
        *,
        locate: bool = False,
    ):
        """Normalise states and tokenise everything. With `locate`, examples ask where things are.

        Raises:
          TrainingError: If prompts are too long, or too many chunks of actions, or nothing says where things
            are.
        """
        self._data, self._preset = data, preset
        self._actions = Normalizer(preset.normalization, stats["actions"])
        state = Normalizer(preset.normalization, stats["state"])
        self._states = state.normalize(data.states.astype(np.float64))
        self._locations = locations(data) if locate else None
        self.left_out = 0
        """Frames that are never drawn because their actions take too many tokens."""
        self._tokens, self.usable = self._tokenize(words)

    @property
    def cameras(self) -> list[str]:
        """What a model sees, in its own order: what the data hold, and black where it expects that."""
        expects_black = self._preset.absent_cameras == "black"
        return [c for c in self._preset.model.cameras if c in self._data.frames or expects_black]

    @property
    def location_size(self) -> int:
        """Numbers that say where things are; 0 if that is not what is learnt."""
        return 0 if self._locations is None else self._locations.shape[1]

    def batch(self, frames: Int[np.ndarray, " b"]) -> TrainingBatch:
        """The examples of these frames."""
        model, seen = self._preset.model, self.cameras
        black = np.zeros((len(frames), model.image_size, model.image_size, 3), np.uint8)
        in_order = np.argsort(frames, kind="stable")  # Ascending reads of the mapped files.
        back = np.argsort(in_order, kind="stable")
        images = {
            camera: np.asarray(self._data.frames[camera][frames[in_order]])[back]
            if camera in self._data.frames
            else black
            for camera in seen
        }
        in_answer = self._tokens.in_answer
        inputs = ModelInput(
            images=images,
            image_masks={camera: np.ones(len(frames), np.bool_) for camera in seen},
            state=zero_padded(self._states[frames], model.action_dim).astype(np.float32),
            tokens=self._tokens.rows[frames],
            token_mask=self._tokens.mask[frames],
            token_ar_mask=None if in_answer is None else in_answer[frames].astype(np.int32),
            token_loss_mask=None if in_answer is None else in_answer[frames],
        )
        where = None if self._locations is None else self._locations[frames]
        if in_answer is not None:
            return TrainingBatch(inputs, locations=where)
        actions = self._normalized_chunks(frames)
        return TrainingBatch(inputs, zero_padded(actions, model.action_dim).astype(np.float32), where)

    def _normalized_chunks(self, frames: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b c a"]:
        in_robot_units = chunks(self._data, frames, self._preset.model.action_horizon, self._preset.relative)
        return self._actions.normalize(in_robot_units)

    def _tokenize(self, words: PolicyTokenizers) -> tuple[Tokens, Int[np.ndarray, " _"]]:
        ids, answers = self._prompts(words), None
        room = self._preset.prompt_lengths[-1]
        longest = max(range(len(ids)), key=lambda i: len(ids[i]))
        if len(ids[longest]) > room:
            instruction = self._data.instructions[self._data.task_of_frame[longest]]
            raise TrainingError(
                f"The prompt of {instruction[:60]!r} takes {len(ids[longest])} tokens; {self._preset.name} "
                f"has room for {room}. Shorten the instruction, or take a preset with longer prompts."
            )
        length = self._preset.model.max_token_len
        fits = np.ones(len(ids), np.bool_)
        if words.answer is not None:
            answers = self._answers(words)
            fits = np.array(
                [bool(a) and len(p) + len(a) <= length for p, a in zip(ids, answers, strict=True)]
            )
            self.left_out = int((~fits).sum())
            if self.left_out > MOST_LEFT_OUT * len(ids):
                raise TrainingError(
                    f"Of {len(ids)} frames, {self.left_out} have actions that take more tokens than "
                    f"{self._preset.name} has room for ({length} with the prompt). Fit a larger action "
                    "vocabulary, or take a preset with shorter chunks."
                )
        whole = ids if answers is None else [p + a for p, a in zip(ids, answers, strict=True)]
        rows = np.stack([filled(row, length) for row in whole])
        mask = np.arange(length)[None] < np.array([len(row) for row in whole])[:, None]
        in_answer = None
        if answers is not None:
            in_answer = mask & (np.arange(length)[None] >= np.array([len(p) for p in ids])[:, None])
        return Tokens(rows, mask, in_answer), np.flatnonzero(fits)

    def _prompts(self, words: PolicyTokenizers) -> list[list[int]]:
        """Token ids of the prompt of every frame."""
        tasks, text = self._data.task_of_frame, words.text
        instructions = self._data.instructions
        if self._preset.prompt == "instruction":
            known = [paligemma.encode_prompt(text, instruction) for instruction in instructions]
            return [known[task] for task in tasks]
        write: Callable[..., list[int]]
        write = fast.encode_prompt if self._preset.prompt == "fast" else paligemma.encode_prompt
        return [write(text, instructions[t], s) for t, s in zip(tasks, self._states, strict=True)]

    def _answers(self, words: PolicyTokenizers) -> list[list[int]]:
        """Token ids of the actions of every frame; empty where they cannot be written."""
        assert words.answer is not None
        written: list[list[int]] = []
        padded = self._preset.model.action_dim
        for begin in range(0, self._data.size, 4096):
            frames = np.arange(begin, min(begin + 4096, self._data.size))
            for chunk in zero_padded(self._normalized_chunks(frames), padded):
                try:
                    written.append(words.answer.encode_answer(chunk))
                except ActionRangeError:
                    written.append([])
        return written


class Shuffle:
    """The order in which frames are drawn: every one once, in a new order each time around.

    It is a function of the step, so that a training that is resumed sees what it would have seen.
    """

    def __init__(self, frames: Int[np.ndarray, " n"], batch: int, seed: int):
        """`frames` are the ones to draw."""
        self._frames, self._batch, self._seed = frames, batch, seed
        self._order: tuple[int, np.ndarray] = (-1, frames)

    def frames_of(self, step: int) -> Int[np.ndarray, " b"]:
        """The frames of a step, counted from 0."""
        positions = np.arange(step * self._batch, (step + 1) * self._batch)
        rounds, places = np.divmod(positions, len(self._frames))
        drawn = np.empty(self._batch, np.int64)
        for turn in np.unique(rounds):
            drawn[rounds == turn] = self._in_order(int(turn))[places[rounds == turn]]
        return drawn

    def _in_order(self, turn: int) -> np.ndarray:
        if self._order[0] != turn:
            generator = np.random.Generator(np.random.PCG64([self._seed, turn]))
            self._order = (turn, generator.permutation(self._frames))
        return self._order[1]
