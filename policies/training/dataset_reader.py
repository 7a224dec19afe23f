"""Read LeRobotDatasets of versions 3 and 2. Their tables are joined by their keys, and every contradiction is refused.

Axis letters: n frames of all episodes, s state size, a action size, e entries of the environment's state,
h image height, w image width.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
from jaxtyping import Float, Float32, Int64, UInt8

from simloop.policies.files.video import MAX_PIXELS, VideoError, decode_frames
from simloop.policies.training import dataset_layout as layout
from simloop.policies.training.dataset_index import DatasetIndex, Episode, explain_unfinished, read_index
from simloop.policies.training.dataset_layout import DatasetError
from simloop.policies.training.dataset_tables import (
    UnfinishedFileError,
    numbers,
    read_table,
    row_groups,
    vectors,
)
from simloop.untrusted import inside, read_bytes, read_json_object, require_links_inside

INDEX_COLUMNS = {
    "index": np.int64,
    "episode_index": np.int64,
    "frame_index": np.int64,
    "task_index": np.int64,
    "timestamp": np.float64,
}
MAX_PICTURE_BYTES = 256 << 20
TIME_TOLERANCE = 0.1
"""Largest difference between a time stamp and the time of its frame, in frames."""


@dataclass(frozen=True)
class Dataset:
    """A dataset whose images are decoded on demand."""

    folder: Path
    fps: float
    robot: str | None
    cameras: Mapping[str, tuple[int, int]]
    """Height and width by camera key."""
    states: Float32[np.ndarray, "n s"]
    actions: Float32[np.ndarray, "n a"]
    environment_states: Float32[np.ndarray, "n e"]
    """e is 0 if the dataset has none."""
    task_of_frame: Int64[np.ndarray, " n"]
    instructions: tuple[str, ...]
    """By the numbers in `task_of_frame`."""
    episodes: tuple[Episode, ...]
    data_files: tuple[Path, ...]
    """Parquet files with the frames, in order."""
    seeds: Mapping[str, tuple[int, ...]]
    """Seeds of the episodes by `suite/task`; empty for datasets from elsewhere."""

    def images(self, camera_key: str) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
        """Every frame of a camera with its row, in no particular order.

        Raises:
          DatasetError: If there is no such camera, or a frame is missing.
        """
        if camera_key not in self.cameras:
            raise DatasetError(
                f"{self.folder} has the cameras {_listed(self.cameras)}; got {camera_key!r}. Assign cameras of the "
                "dataset to those of the model with the option cameras."
            )
        if camera_key in self.episodes[0].videos:
            yield from self._video_frames(camera_key)
        else:
            yield from self._stored_images(camera_key)

    def _video_frames(self, camera_key: str) -> Iterator[tuple[int, np.ndarray]]:
        by_file: dict[Path, list[tuple[float, int]]] = {}
        for episode in self.episodes:
            file, from_s = episode.videos[camera_key]
            rows = range(episode.begin, episode.end)
            by_file.setdefault(file, []).extend((from_s * self.fps + i, row) for i, row in enumerate(rows))
        for file, wanted in by_file.items():
            wanted.sort()
            places = np.array([place for place, _ in wanted])
            if (np.diff(places) < 0.5).any():
                first = self._episode_of(wanted[int(np.argmax(np.diff(places) < 0.5))][1])
                raise DatasetError(
                    f"{file}: episode {first} shares frames with another one. Copy the dataset again."
                )
            found = np.zeros(len(wanted), np.bool_)
            try:
                for time_s, image in decode_frames(file):
                    i = _nearest(places, time_s * self.fps)
                    if not found[i] and abs(places[i] - time_s * self.fps) <= TIME_TOLERANCE:
                        found[i] = True
                        yield wanted[i][1], image
            except VideoError as error:
                raise DatasetError(str(error)) from error
            if not found.all():
                missing = int(np.argmin(found))
                raise DatasetError(
                    f"{file} lacks {int((~found).sum())} frames of its episodes, the first at "
                    f"{places[missing] / self.fps:.3f} s of episode {self._episode_of(wanted[missing][1])}, to a tenth "
                    "of a frame. Copy the dataset again, or encode the video at its frame rate."
                )

    def _episode_of(self, row: int) -> int:
        return next(episode.index for episode in self.episodes if episode.begin <= row < episode.end)

    def _stored_images(self, camera_key: str) -> Iterator[tuple[int, np.ndarray]]:
        row = 0
        for file in self.data_files:
            with _damage_explained(self.folder):
                for column in row_groups(file, camera_key):
                    for cell in column:
                        yield row, self._picture(cell.as_py(), camera_key, row)
                        row += 1

    def _picture(self, cell: Any, camera_key: str, row: int) -> UInt8[np.ndarray, "h w 3"]:
        content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        if content is None and isinstance(path, str):
            content = read_bytes(
                inside(self.folder, path, error=DatasetError), MAX_PICTURE_BYTES, error=DatasetError
            )
        if not isinstance(content, bytes):
            raise DatasetError(
                f"{self.folder}: {camera_key} of frame {row} is neither a picture nor the path of one."
            )
        image = PIL.Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"an image of {camera_key} has {image.width} x {image.height} pixels")
        return np.asarray(image.convert("RGB"))


def _nearest(places: Float[np.ndarray, " n"], place: float) -> int:
    """Index of the entry of a sorted array that is nearest to a number."""
    i = int(np.searchsorted(places, place))
    return i - 1 if i == len(places) or (i > 0 and place - places[i - 1] < places[i] - place) else i


def open_dataset(
    folder: Path, *, state_key: str = layout.STATE_KEY, action_key: str = layout.ACTION_KEY
) -> Dataset:
    """Open a dataset; reads everything but the images.

    Args:
      folder: Folder of the dataset, which contains `meta`.
      state_key: Column of the robot's state.
      action_key: Column of the actions.

    Raises:
      DatasetError: If the folder is not a dataset of a known version, is empty, lacks a column, contradicts itself, or
        holds states or actions that are not finite.
    """
    if (folder / layout.INFO).is_file():
        require_links_inside(folder, error=DatasetError)
    with _damage_explained(folder):
        index = read_index(folder)
        names = _vector_names(folder, index.info, state_key, action_key)
        tables = _read_data(folder, index, [*names, *INDEX_COLUMNS])
        columns = {key: vectors(tables, key) for key in names}
        joined = {
            key: numbers(tables, key, dtype) for key, dtype in INDEX_COLUMNS.items() if _has(tables, key)
        }
        cameras = {
            key: (int(feature["shape"][0]), int(feature["shape"][1]))
            for key, feature in index.info["features"].items()
            if feature["dtype"] in ("video", "image")
        }
        task_of_frame, instructions = _instructions(folder, index.tasks, joined)
    total = len(columns[state_key])
    _check_episodes(folder, index, joined, total)
    for key in (state_key, action_key):
        bad = np.flatnonzero(~np.isfinite(columns[key]).all(axis=1))
        if bad.size:
            raise DatasetError(f"{folder}: {key} of frame {bad[0]} is NaN or infinite. Remove its episode.")
    return Dataset(
        folder=folder,
        fps=index.fps,
        robot=index.info.get("robot_type"),
        cameras=cameras,
        states=columns[state_key],
        actions=columns[action_key],
        environment_states=columns.get(layout.ENVIRONMENT_KEY, np.zeros((total, 0), np.float32)),
        task_of_frame=task_of_frame,
        instructions=instructions,
        episodes=index.episodes,
        data_files=index.data_files,
        seeds=_seeds(folder),
    )


def _check_episodes(folder: Path, index: DatasetIndex, joined: Mapping[str, np.ndarray], total: int) -> None:
    """Compare the bounds of episodes with the keys of every frame.

    Raises:
      DatasetError: If there are no frames, or the two contradict each other; names the first episode that does.
    """
    episodes = index.episodes
    if not episodes or total == 0:
        raise DatasetError(f"{folder} holds no frames. Collect demonstrations first (simloop collect).")
    end = 0
    for episode in episodes:
        if episode.begin != end or episode.end <= end:
            raise DatasetError(
                f"{folder}: episode {episode.index} has the frames {episode.begin} to {episode.end}, and the one "
                f"before it ends at {end}. Episodes overlap, or frames between them are missing; write "
                "the metadata again."
            )
        end = episode.end
    if end != total:
        raise DatasetError(
            f"{folder}: the episodes end at frame {end}, the data have {total} frames. Copy the dataset again."
        )
    for key, wanted in _keys_by_metadata(index, total):
        if key not in joined:
            continue
        tolerance = TIME_TOLERANCE / index.fps if key == "timestamp" else 0
        wrong = np.abs(joined[key] - wanted) > tolerance
        if wrong.any():
            row = int(np.argmax(wrong))
            number = next(episode.index for episode in episodes if row < episode.end)
            raise DatasetError(
                f"{folder}: frame {row} has {key} {joined[key][row]:g}; by the metadata it is {wanted[row]:g} (episode "
                f"{number}). Data and metadata contradict each other; write them again."
            )


def _keys_by_metadata(index: DatasetIndex, total: int) -> Iterator[tuple[str, np.ndarray]]:
    """Values that the key columns must have by the bounds of the episodes, one column at a time."""
    lengths = np.array([episode.end - episode.begin for episode in index.episodes])
    yield "index", np.arange(total)
    yield "episode_index", np.repeat([episode.index for episode in index.episodes], lengths)
    frames = np.arange(total)
    frames -= np.repeat([episode.begin for episode in index.episodes], lengths)
    yield "frame_index", frames
    yield "timestamp", frames / index.fps


@contextlib.contextmanager
def _damage_explained(folder: Path) -> Iterator[None]:
    """Turn what damaged tables and descriptions raise into `DatasetError`."""
    try:
        yield
    except DatasetError:
        raise
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        ArithmeticError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DatasetError(
            f"{folder} is damaged: {type(error).__name__}: {reason}. Copy or download the dataset again."
        ) from error


def _vector_names(folder: Path, info: Mapping[str, Any], state_key: str, action_key: str) -> list[str]:
    known = [key for key, feature in info["features"].items() if feature["dtype"] not in ("video", "image")]
    for key in (state_key, action_key):
        if key not in known:
            raise DatasetError(
                f"{folder} has no column {key!r}; it has {_listed(known)}. Name the columns with the "
                "options state_key and action_key."
            )
    shape = info["features"].get(layout.ENVIRONMENT_KEY, {}).get("shape", ())
    # Others hold other quantities.
    extra = len(shape) == 1 and shape[0] > 1 and state_key != layout.ENVIRONMENT_KEY
    return [state_key, action_key, *([layout.ENVIRONMENT_KEY] if extra else [])]


def _read_data(folder: Path, index: DatasetIndex, names: Sequence[str]) -> list[tuple[Path, pa.Table]]:
    """Columns of all data files, in the order of the frames."""
    tables = []
    for file in index.data_files:
        try:
            tables.append((file, read_table(file, names)))
        except UnfinishedFileError as error:
            before = sum(len(table) for _, table in tables)
            lost = sum(episode.end > before for episode in index.episodes)
            raise explain_unfinished(error, file, lost, len(index.episodes)) from error
    return tables


def _has(tables: Sequence[tuple[Path, pa.Table]], key: str) -> bool:
    return all(key in table.column_names for _, table in tables)


def _instructions(
    folder: Path, tasks: Mapping[int, str], joined: Mapping[str, np.ndarray]
) -> tuple[Int64[np.ndarray, " n"], tuple[str, ...]]:
    """Position of every frame's task among the instructions, which are in the order of their numbers."""
    if "task_index" not in joined:
        raise DatasetError(f"{folder} has no column 'task_index'. Copy the dataset again.")
    known = np.array(sorted(tasks), np.int64)
    named = joined["task_index"]
    places = np.minimum(np.searchsorted(known, named), max(0, len(known) - 1))
    unknown = known[places] != named if len(known) else np.ones(len(named), np.bool_)
    if unknown.any():
        row = int(np.argmax(unknown))
        raise DatasetError(
            f"{folder}: frame {row} has the task {named[row]}, which the table of tasks does not have. Copy the "
            "dataset again."
        )
    return places.astype(np.int64), tuple(tasks[number] for number in known.tolist())


def _seeds(folder: Path) -> dict[str, tuple[int, ...]]:
    file = folder / layout.SIMLOOP
    if not file.exists():
        return {}
    with _damage_explained(folder):
        seeds = read_json_object(file, error=DatasetError).get("seeds", {})
        return {task: tuple(map(int, of_task)) for task, of_task in seeds.items()}


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names)) or "none"
