"""Datasets as arrays: pictures decoded once, in the model's size, and mapped into memory.

    <data>.prepared/<size>-<hash>/prepared.json              written last: the folder is complete
                                 /numbers.npz                states, actions, episodes, tasks
                                 /frames-<camera>.npy        uint8 [n, h, w, 3]

Axis letters: n frames of all episodes, b frames asked for, s state size, a action size, e entries of the
environment's state, h w image height and width.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from simloop.policies.training import layout
from simloop.policies.training.layout import DatasetError
from simloop.policies.training.reading import Dataset, open_dataset
from simloop.policies.transforms.preprocessing import resize_with_pad

PREPARED = "prepared.json"
NUMBERS = "numbers.npz"
FORMAT = 2


@runtime_checkable
class TrainingFrames(Protocol):
    """Pictures that are read when asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """n, h, w, 3."""

    def __getitem__(self, frames: Int64[np.ndarray, " b"], /) -> UInt8[np.ndarray, "b h w 3"]:
        """The pictures of these frames."""


@dataclass(frozen=True)
class PreparedData:
    """A dataset ready to be sampled from."""

    folder: Path
    states: Float32[np.ndarray, "n s"]
    actions: Float32[np.ndarray, "n a"]
    environment_states: Float32[np.ndarray, "n e"]
    """e is 0 where the data do not have them."""
    task_of_frame: Int64[np.ndarray, " n"]
    episode_end: Int64[np.ndarray, " n"]
    """Row behind the last frame of each frame's episode."""
    frames: Mapping[str, TrainingFrames]
    """By model camera name; mapped from disk."""
    instructions: tuple[str, ...]
    seeds: Mapping[str, tuple[int, ...]]
    episodes: int
    fps: float
    sha256: str
    """Of everything but the pictures, and of what they were made from."""

    @property
    def size(self) -> int:
        """Number of frames."""
        return self.states.shape[0]


def prepare(
    data: Path,
    cameras: Mapping[str, str],
    image_size: int,
    *,
    state_key: str = layout.STATE_KEY,
    action_key: str = layout.ACTION_KEY,
    on_progress: Callable[[str], None] = lambda message: None,
) -> PreparedData:
    """Open what was prepared of a dataset, preparing it where that has not been done.

    Args:
      data: Folder of a dataset, or a folder that was prepared.
      cameras: Key in the dataset by model camera name.
      image_size: Height and width of the pictures, padded as at inference.
      state_key: Column of the robot's state.
      action_key: Column of the actions.
      told: Told what takes long.

    Raises:
      DatasetError: If the dataset cannot be used, or was prepared for other cameras or another size.
    """
    wanted = {"cameras": dict(cameras), "image_size": image_size, "keys": [state_key, action_key]}
    if (data / PREPARED).is_file():
        return _open(data, wanted)
    dataset = open_dataset(data, state_key=state_key, action_key=action_key)
    source = _sha256_of_source(dataset)
    name = hashlib.sha256(json.dumps([FORMAT, wanted, source], sort_keys=True).encode()).hexdigest()[:8]
    folder = data.with_name(f"{data.name}.prepared") / f"{image_size}px-{name}"
    if not folder.is_dir():
        on_progress(f"Decoding {len(dataset.states)} frames of {len(cameras)} cameras into {folder}")
        _make(folder, dataset, wanted, source)
    return _open(folder, wanted)


def _make(folder: Path, dataset: Dataset, wanted: Mapping[str, Any], source: str) -> None:
    missing = [key for key in wanted["cameras"].values() if key not in dataset.cameras]
    if missing:
        raise DatasetError(
            f"{dataset.folder} has the cameras {', '.join(dataset.cameras) or 'none'}; {', '.join(missing)} is "
            "wanted. Say which camera of the dataset stands for which of the model (cameras)."
        )
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir(parents=True)
    try:
        rows, size = len(dataset.states), wanted["image_size"]
        for camera, key in wanted["cameras"].items():
            file = partial / f"frames-{camera}.npy"
            shape = (rows, size, size, 3)
            frames = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
            for row, image in dataset.images(key):
                frames[row] = resize_with_pad(image, size, size)
            frames.flush()
        end = np.zeros(rows, np.int64)
        for episode in dataset.episodes:
            end[episode.begin : episode.end] = episode.end
        np.savez(
            partial / NUMBERS,
            states=dataset.states,
            actions=dataset.actions,
            environment_states=dataset.environment_states,
            task_of_frame=dataset.task_of_frame,
            episode_end=end,
        )
        words = {
            "format": FORMAT,
            **wanted,
            "source_sha256": source,
            "instructions": dataset.instructions,
            "seeds": dataset.seeds,
            "episodes": len(dataset.episodes),
            "fps": dataset.fps,
        }
        (partial / PREPARED).write_text(json.dumps(words, indent=1) + "\n")
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _open(folder: Path, wanted: Mapping[str, Any]) -> PreparedData:
    text = (folder / PREPARED).read_text()
    words = json.loads(text)
    for key, value in {"format": FORMAT, **wanted}.items():
        if words.get(key) != value:
            raise DatasetError(
                f"{folder} was prepared with {key} {words.get(key)!r}; {value!r} is wanted. Name the dataset "
                "itself, or prepare it again (python -m simloop.policies.training prepare)."
            )
    with np.load(folder / NUMBERS) as file:
        numbers = dict(file)
    digest = hashlib.sha256(text.encode())
    for name in sorted(numbers):
        digest.update(np.ascontiguousarray(numbers[name]).tobytes())
    return PreparedData(
        folder=folder,
        frames={
            camera: np.load(folder / f"frames-{camera}.npy", mmap_mode="r") for camera in words["cameras"]
        },
        instructions=tuple(words["instructions"]),
        seeds={task: tuple(seeds) for task, seeds in words["seeds"].items()},
        episodes=words["episodes"],
        fps=words["fps"],
        sha256=digest.hexdigest(),
        **numbers,
    )


def _sha256_of_source(dataset: Dataset) -> str:
    """Of the descriptions, and of sizes of the files that hold the pictures."""
    digest = hashlib.sha256((dataset.folder / layout.INFO).read_bytes())
    for file in sorted((dataset.folder / layout.EPISODES_FOLDER).glob("*/*.parquet")):
        digest.update(file.read_bytes())
    for file in sorted((dataset.folder / "videos").glob("*/*/*")):
        digest.update(f"{file.relative_to(dataset.folder)} {file.stat().st_size}".encode())
    return digest.hexdigest()
