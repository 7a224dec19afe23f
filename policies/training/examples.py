"""Training examples from the frames of a dataset.

Prompts of all frames are tokenized before the first step, so that a prompt that is too long is reported at once.
Axis letters: n frames, b batch, t prompt tokens, c chunk steps, a action size.
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
from simloop.policies.tokenizers.fast import FastTokenizer
from simloop.policies.tokenizers.fast_actions import ActionRangeError
from simloop.policies.tokenizers.paligemma import filled
from simloop.policies.training.dataset_statistics import action_chunks
from simloop.policies.training.errors import TrainingError
from simloop.policies.training.prepared import PreparedData
from simloop.policies.training.state_prediction import target_states
from simloop.policies.training.step import TrainingBatch
from simloop.policies.transforms.normalization import Normalizer, NormStats
from simloop.policies.transforms.preprocessing import zero_padded

MAX_EXCLUDED = 0.01
"""Largest fraction of a pi0-FAST dataset's frames that may be excluded because their actions take too many tokens."""


@dataclass(frozen=True)
class Tokens:
    """Token ids of every frame, padded to one length."""

    rows: Int32[np.ndarray, "n t"]
    mask: Bool[np.ndarray, "n t"]
    in_answer: Bool[np.ndarray, "n t"] | None
    """True on tokens to predict; None for flow models."""


class Examples:
    """Frames of a dataset as training examples for one preset."""

    def __init__(
        self,
        data: PreparedData,
        preset: Preset,
        stats: NormStats,
        tokenizers: PolicyTokenizers,
        *,
        with_states: bool = False,
    ):
        """Normalize states and tokenize prompts and answers.

        Args:
          data: Prepared dataset.
          preset: Model and robot.
          stats: Normalization statistics of `state` and `actions`.
          tokenizers: Tokenizers of prompts and answers.
          with_states: Whether examples have targets of state prediction.

        Raises:
          TrainingError: If a prompt is too long, too many answers are, or the data have no states to predict.
        """
        self._data, self._preset = data, preset
        self._actions = Normalizer(preset.normalization, stats["actions"])
        state = Normalizer(preset.normalization, stats["state"])
        self._states = state.normalize(data.states.astype(np.float64))
        self._targets = target_states(data) if with_states else None
        self.excluded = 0
        """Number of frames that are never drawn because their actions take too many tokens."""
        self._tokens, self.usable = self._tokenize(tokenizers)

    @property
    def cameras(self) -> list[str]:
        """Cameras of the model that the data hold or that it expects as black, in its own order."""
        expects_black = self._preset.absent_cameras == "black"
        return [c for c in self._preset.model.cameras if c in self._data.frames or expects_black]

    @property
    def target_size(self) -> int:
        """Entries of the targets of state prediction; 0 without it."""
        return 0 if self._targets is None else self._targets.shape[1]

    def batch(self, frames: Int[np.ndarray, " b"]) -> TrainingBatch:
        """Examples of the given frames."""
        model, cameras = self._preset.model, self.cameras
        black = np.zeros((len(frames), model.image_size, model.image_size, 3), np.uint8)
        order = np.argsort(frames, kind="stable")  # Memory-mapped files are read in ascending order.
        inverse = np.argsort(order, kind="stable")
        images = {
            camera: np.asarray(self._data.frames[camera][frames[order]])[inverse]
            if camera in self._data.frames
            else black
            for camera in cameras
        }
        in_answer = self._tokens.in_answer
        inputs = ModelInput(
            images=images,
            image_masks={camera: np.ones(len(frames), np.bool_) for camera in cameras},
            state=zero_padded(self._states[frames], model.action_dim).astype(np.float32),
            tokens=self._tokens.rows[frames],
            token_mask=self._tokens.mask[frames],
            token_ar_mask=None if in_answer is None else in_answer[frames].astype(np.int32),
            token_loss_mask=None if in_answer is None else in_answer[frames],
        )
        states = None if self._targets is None else self._targets[frames]
        if in_answer is not None:
            return TrainingBatch(inputs, states=states)
        actions = self._normalized_chunks(frames)
        return TrainingBatch(inputs, zero_padded(actions, model.action_dim).astype(np.float32), states)

    def _normalized_chunks(self, frames: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b c a"]:
        chunks = action_chunks(self._data, frames, self._preset.model.action_horizon, self._preset.relative)
        return self._actions.normalize(chunks)

    def _tokenize(self, tokenizers: PolicyTokenizers) -> tuple[Tokens, Int[np.ndarray, " _"]]:
        ids, answers = self._prompts(tokenizers), None
        room = self._preset.prompt_lengths[-1]
        longest = max(range(len(ids)), key=lambda i: len(ids[i]))
        if len(ids[longest]) > room:
            instruction = self._data.instructions[self._data.task_of_frame[longest]]
            raise TrainingError(
                f"The prompt of {instruction[:60]!r} takes {len(ids[longest])} tokens; {self._preset.name} "
                f"has room for {room}. Shorten the instruction, or choose a preset with longer prompts."
            )
        length = self._preset.model.max_token_len
        fits = np.ones(len(ids), np.bool_)
        if tokenizers.answer is not None:
            answers = self._answers(tokenizers.answer)
            fits = np.array(
                [bool(a) and len(p) + len(a) <= length for p, a in zip(ids, answers, strict=True)]
            )
            self.excluded = int((~fits).sum())
            if self.excluded > MAX_EXCLUDED * len(ids):
                raise TrainingError(
                    f"Of {len(ids)} frames, {self.excluded} have actions that take more tokens than "
                    f"{self._preset.name} has room for ({length} with the prompt). Fit a larger action "
                    "vocabulary, or choose a preset with shorter chunks."
                )
        sequences = ids if answers is None else [p + a for p, a in zip(ids, answers, strict=True)]
        rows = np.stack([filled(row, length) for row in sequences])
        mask = np.arange(length)[None] < np.array([len(row) for row in sequences])[:, None]
        in_answer = None
        if answers is not None:
            in_answer = mask & (np.arange(length)[None] >= np.array([len(p) for p in ids])[:, None])
        return Tokens(rows, mask, in_answer), np.flatnonzero(fits)

    def _prompts(self, tokenizers: PolicyTokenizers) -> list[list[int]]:
        """Token ids of the prompt of every frame."""
        tasks, text = self._data.task_of_frame, tokenizers.text
        instructions = self._data.instructions
        if self._preset.prompt == "instruction":
            by_task = [paligemma.encode_prompt(text, instruction) for instruction in instructions]
            return [by_task[task] for task in tasks]
        encode: Callable[..., list[int]]
        encode = fast.encode_prompt if self._preset.prompt == "fast" else paligemma.encode_prompt
        return [encode(text, instructions[t], s) for t, s in zip(tasks, self._states, strict=True)]

    def _answers(self, tokenizer: FastTokenizer) -> list[list[int]]:
        """Token ids of the actions of every frame; empty if the tokenizer cannot encode them."""
        answers: list[list[int]] = []
        padded = self._preset.model.action_dim
        for begin in range(0, self._data.size, 4096):
            frames = np.arange(begin, min(begin + 4096, self._data.size))
            for chunk in zero_padded(self._normalized_chunks(frames), padded):
                try:
                    answers.append(tokenizer.encode_answer(chunk))
                except ActionRangeError:
                    answers.append([])
        return answers


class Shuffle:
    """Order in which frames are drawn: a new permutation of all frames per epoch.

    It is a function of the step, so a resumed run draws the same frames.
    """

    def __init__(self, frames: Int[np.ndarray, " n"], batch: int, seed: int):
        """Draw `batch` of `frames` per step."""
        self._frames, self._batch, self._seed = frames, batch, seed
        self._cached: tuple[int, np.ndarray] = (-1, frames)

    def frames_of(self, step: int) -> Int[np.ndarray, " b"]:
        """Frames of a step, counted from 0."""
        positions = np.arange(step * self._batch, (step + 1) * self._batch)
        epochs, places = np.divmod(positions, len(self._frames))
        drawn = np.empty(self._batch, np.int64)
        for epoch in np.unique(epochs):
            drawn[epochs == epoch] = self._permutation(int(epoch))[places[epochs == epoch]]
        return drawn

    def _permutation(self, epoch: int) -> np.ndarray:
        if self._cached[0] != epoch:
            generator = np.random.Generator(np.random.PCG64([self._seed, epoch]))
            self._cached = (epoch, generator.permutation(self._frames))
        return self._cached[1]
