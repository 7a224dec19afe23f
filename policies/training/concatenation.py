"""Concatenation of prepared datasets.

Axis letters: n frames of all datasets, b requested frames, h w image height and width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt8

from simloop.policies.training.dataset_layout import DatasetError
from simloop.policies.training.prepared import PreparedData, TrainingFrames


class ConcatenatedFrames:
    """Images of several files as one array, read from the file that holds them."""

    def __init__(self, files: Sequence[TrainingFrames]):
        """Concatenate files with images of equal size."""
        self._files = files
        self._begins = np.cumsum([0, *(file.shape[0] for file in files)])

    @property
    def shape(self) -> tuple[int, ...]:
        """n, h, w, 3."""
        return (int(self._begins[-1]), *self._files[0].shape[1:])

    def __getitem__(self, frames: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b h w 3"]:
        """Images of the given frames."""
        images = np.empty((len(frames), *self.shape[1:]), np.uint8)
        of_file = np.searchsorted(self._begins, frames, side="right") - 1
        for number, file in enumerate(self._files):
            here = of_file == number
            images[here] = file[frames[here] - self._begins[number]]
        return images


def concatenated(parts: Sequence[PreparedData]) -> PreparedData:
    """One dataset of all frames; equal instructions become one task.

    A dataset that occurs twice is drawn twice as often, but its episodes are counted once. The state of the
    environment is kept if it has the same size in all datasets.

    Raises:
      DatasetError: If the datasets differ in the sizes of states or actions, or in frames per second.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts[1:]:
        for what, ours, theirs in (
            ("states of", first.states.shape[1], part.states.shape[1]),
            ("actions of", first.actions.shape[1], part.actions.shape[1]),
            ("frames per second:", first.fps, part.fps),
        ):
            if ours != theirs:
                raise DatasetError(
                    f"{part.folder} has {what} {theirs:g}, {first.folder} {ours:g}. Datasets of one "
                    "training run must agree; train on one of them."
                )
    begins = np.cumsum([0, *(part.size for part in parts)])
    instructions = tuple(dict.fromkeys(text for part in parts for text in part.instructions))
    task_of = {text: task for task, text in enumerate(instructions)}
    sizes = {part.environment_states.shape[1] for part in parts}
    entries = sizes.pop() if len(sizes) == 1 else 0
    return PreparedData(
        folder=first.folder,
        states=np.concatenate([part.states for part in parts]),
        actions=np.concatenate([part.actions for part in parts]),
        environment_states=np.concatenate([part.environment_states[:, :entries] for part in parts]),
        task_of_frame=np.concatenate(
            [np.array([task_of[text] for text in part.instructions])[part.task_of_frame] for part in parts]
        ),
        episode_end=np.concatenate(
            [part.episode_end + begin for part, begin in zip(parts, begins, strict=False)]
        ),
        frames={
            camera: ConcatenatedFrames([part.frames[camera] for part in parts]) for camera in first.frames
        },
        instructions=instructions,
        seeds={
            task: tuple(dict.fromkeys(seed for part in parts for seed in part.seeds.get(task, ())))
            for task in dict.fromkeys(task for part in parts for task in part.seeds)
        },
        episodes=sum({part.sha256: part.episodes for part in parts}.values()),
        fps=first.fps,
        sha256=hashlib.sha256(" ".join(part.sha256 for part in parts).encode()).hexdigest(),
    )
