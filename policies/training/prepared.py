"""Prepared datasets: images decoded once, resized for the model, and memory-mapped.

    <data>.prepared/<size>-<hash>/prepared.json              options and metadata
                                 /numbers.npz                states, actions, episodes, tasks
                                 /frames-<camera>.npy        uint8 [n, h, w, 3]

Axis letters: n frames of all episodes, b requested frames, s state size, a action size, e entries of the
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

from simloop.policies.training import dataset_layout as layout
from simloop.policies.training.dataset_layout import DatasetError
from simloop.policies.training.dataset_reader import Dataset, open_dataset
from simloop.policies.transforms.preprocessing import Resizing, resize_with_pad
from simloop.untrusted import MAX_JSON_BYTES, file_sha256, parse_json, read_bytes

PREPARED = "prepared.json"
NUMBERS = "numbers.npz"
FORMAT = 3


@runtime_checkable
class TrainingFrames(Protocol):
    """Images that are read from disk when indexed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """n, h, w, 3."""

    def __getitem__(self, frames: Int64[np.ndarray, " b"], /) -> UInt8[np.ndarray, "b h w 3"]:
        """Images of the given frames."""


@dataclass(frozen=True)
class PreparedData:
    """A dataset as arrays."""

    folder: Path
    states: Float32[np.ndarray, "n s"]
    actions: Float32[np.ndarray, "n a"]
    environment_states: Float32[np.ndarray, "n e"]
    """e is 0 if the data have none."""
    task_of_frame: Int64[np.ndarray, " n"]
    episode_end: Int64[np.ndarray, " n"]
    """Row after the last one of each frame's episode."""
    frames: Mapping[str, TrainingFrames]
    """By model camera name; memory-mapped."""
    instructions: tuple[str, ...]
    seeds: Mapping[str, tuple[int, ...]]
    episodes: int
    fps: float
    sha256: str
    """Hash of everything but the images, and of their source."""

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
    resizing: Resizing = "antialiased",
    log: Callable[[str], None] = lambda message: None,
) -> PreparedData:
    """Open the prepared form of a dataset, and make it if it does not exist.

    Args:
      data: Folder of a dataset, or a prepared folder.
      cameras: Dataset key by model camera name.
      image_size: Height and width of the images, which are resized and padded as at inference.
      state_key: Column of the robot's state.
      action_key: Column of the actions.
      resizing: How images are resized.
      log: Receives messages about long operations.

    Raises:
      DatasetError: If the dataset cannot be used, or was prepared for other cameras or another size.
    """
    options = {
        "cameras": dict(cameras),
        "image_size": image_size,
        "keys": [state_key, action_key],
        "resizing": resizing,
    }
    if (data / PREPARED).is_file():
        return _open(data, options)
    dataset = open_dataset(data, state_key=state_key, action_key=action_key)
    source = _source_sha256(dataset)
    name = hashlib.sha256(json.dumps([FORMAT, options, source], sort_keys=True).encode()).hexdigest()[:8]
    folder = data.with_name(f"{data.name}.prepared") / f"{image_size}px-{name}"
    if not folder.is_dir():
        log(f"Decoding {len(dataset.states)} frames of {len(cameras)} cameras into {folder}.")
        _make(folder, dataset, options, source)
    return _open(folder, options)


def _make(folder: Path, dataset: Dataset, options: Mapping[str, Any], source: str) -> None:
    missing = [key for key in options["cameras"].values() if key not in dataset.cameras]
    if missing:
        raise DatasetError(
            f"{dataset.folder} has the cameras {', '.join(dataset.cameras) or 'none'}; {', '.join(missing)} is "
            "missing. Assign cameras of the dataset to those of the model with the option cameras."
        )
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir(parents=True)
    try:
        rows, size = len(dataset.states), options["image_size"]
        for camera, key in options["cameras"].items():
            file = partial / f"frames-{camera}.npy"
            shape = (rows, size, size, 3)
            frames = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
            written = np.zeros(rows, np.bool_)
            for row, image in dataset.images(key):
                written[row] = True
                frames[row] = resize_with_pad(image, size, size, options["resizing"])
            if not written.all():
                raise DatasetError(
                    f"{dataset.folder}: {key} has no image of frame {int(np.argmin(written))} of {rows}. Copy the "
                    "dataset again."
                )
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
        metadata = {
            "format": FORMAT,
            **options,
            "source_sha256": source,
            "instructions": dataset.instructions,
            "seeds": dataset.seeds,
            "episodes": len(dataset.episodes),
            "fps": dataset.fps,
        }
        (partial / PREPARED).write_text(json.dumps(metadata, indent=1) + "\n")
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _open(folder: Path, options: Mapping[str, Any]) -> PreparedData:
    text = read_bytes(folder / PREPARED, MAX_JSON_BYTES, error=DatasetError)
    metadata = parse_json(text, str(folder / PREPARED), error=DatasetError)
    for key, value in {"format": FORMAT, **options}.items():
        if metadata.get(key) != value:
            raise DatasetError(
                f"{folder} was prepared with {key} {metadata.get(key)!r}; this run needs {value!r}. Name the "
                "dataset itself, which is then prepared again."
            )
    try:
        with np.load(folder / NUMBERS) as file:
            numbers = dict(file)
        frames = {
            camera: np.load(folder / f"frames-{camera}.npy", mmap_mode="r") for camera in metadata["cameras"]
        }
    except Exception as error:  # zipfile and NumPy fail in many ways on damaged files.
        raise DatasetError(
            f"{folder} is damaged ({type(error).__name__}: {error}). Delete it, and name the dataset itself."
        ) from error
    digest = hashlib.sha256(text)
    for name in sorted(numbers):
        digest.update(np.ascontiguousarray(numbers[name]).tobytes())
    return PreparedData(
        folder=folder,
        frames=frames,
        instructions=tuple(metadata["instructions"]),
        seeds={task: tuple(seeds) for task, seeds in metadata["seeds"].items()},
        episodes=metadata["episodes"],
        fps=metadata["fps"],
        sha256=digest.hexdigest(),
        **numbers,
    )


def _source_sha256(dataset: Dataset) -> str:
    """Hash of everything that was read of a dataset: the arrays, the instructions, and all files with images."""
    digest = hashlib.sha256(read_bytes(dataset.folder / layout.INFO, MAX_JSON_BYTES, error=DatasetError))
    for array in (dataset.states, dataset.actions, dataset.environment_states, dataset.task_of_frame):
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    bounds = [(episode.index, episode.begin, episode.end) for episode in dataset.episodes]
    digest.update(json.dumps([dataset.instructions, bounds]).encode())
    images = {file: at for episode in dataset.episodes for file, at in episode.videos.values()}
    if len(dataset.episodes[0].videos) < len(dataset.cameras):
        images |= dict.fromkeys([*dataset.data_files, *sorted((dataset.folder / "images").rglob("*.*"))], 0.0)
    for file in images:
        digest.update(bytes.fromhex(file_sha256(file, error=DatasetError)))
    for episode in dataset.episodes:
        digest.update(repr(sorted((key, at) for key, (_, at) in episode.videos.items())).encode())
    return digest.hexdigest()
