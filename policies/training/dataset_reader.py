"""Read LeRobotDatasets of version 3.

Axis letters: n frames of all episodes, s state size, a action size, e entries of the environment's state,
h image height, w image width.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int64, UInt8

from simloop.policies.files.video import MAX_PIXELS, VideoError, decode_frames
from simloop.policies.training import dataset_layout as layout
from simloop.policies.training.dataset_layout import DatasetError
from simloop.untrusted import (
    UntrustedInputError,
    inside,
    open_regular,
    read_json_object,
    require_links_inside,
)

MAX_TABLE_BYTES = 8 << 30
MAX_ROWS = 100_000_000
"""Of one parquet file; LeRobot begins a new one after 100 MB."""


@dataclass(frozen=True)
class Episode:
    """Location of an episode's frames."""

    index: int
    begin: int
    """Row of its first frame in the arrays of the dataset."""
    end: int
    videos: Mapping[str, tuple[Path, float]]
    """File, and time in it in seconds, by camera key. Empty if cameras are stored as images."""


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
    """By task index."""
    episodes: tuple[Episode, ...]
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
        if self.episodes[0].videos:
            yield from self._video_frames(camera_key)
        else:
            yield from self._stored_images(camera_key)

    def _video_frames(self, camera_key: str) -> Iterator[tuple[int, np.ndarray]]:
        by_file: dict[Path, dict[int, int]] = {}
        for episode in self.episodes:
            file, from_s = episode.videos[camera_key]
            first = round(from_s * self.fps)
            rows = by_file.setdefault(file, {})
            rows.update({first + i: episode.begin + i for i in range(episode.end - episode.begin)})
        for file, row_of_frame in by_file.items():
            try:
                for number, image in decode_frames(file, self.fps):
                    row = row_of_frame.pop(number, None)
                    if row is not None:
                        yield row, image
            except VideoError as error:
                raise DatasetError(str(error)) from error
            if row_of_frame:
                raise DatasetError(
                    f"{file} lacks {len(row_of_frame)} frames of its episodes, the first at "
                    f"{min(row_of_frame) / self.fps:.3f} s. Copy the dataset again."
                )

    def _stored_images(self, camera_key: str) -> Iterator[tuple[int, np.ndarray]]:
        column = _data_columns(self.folder, [camera_key])[camera_key]
        for row, cell in enumerate(column.to_pylist()):
            with _damage_explained(self.folder):
                image = PIL.Image.open(io.BytesIO(cell["bytes"]), formats=("PNG", "JPEG"))
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"an image of {camera_key} has {image.width} x {image.height} pixels")
                pixels = np.asarray(image.convert("RGB"))
            yield row, pixels


def open_dataset(
    folder: Path, *, state_key: str = layout.STATE_KEY, action_key: str = layout.ACTION_KEY
) -> Dataset:
    """Open a dataset; reads everything but the images.

    Args:
      folder: Folder of the dataset, which contains `meta`.
      state_key: Column of the robot's state.
      action_key: Column of the actions.

    Raises:
      DatasetError: If the folder is not a dataset of version 3, is empty, lacks a column, or holds states or
        actions that are not finite.
    """
    if (folder / layout.INFO).is_file():
        require_links_inside(folder, error=DatasetError)
    info = _read_info(folder)
    with _damage_explained(folder):
        columns = _read_columns(folder, info, state_key, action_key)
        episodes = tuple(_episodes(folder, info))
        instructions = _instructions(folder)
        cameras = {
            key: (int(feature["shape"][0]), int(feature["shape"][1]))
            for key, feature in info["features"].items()
            if feature["dtype"] in ("video", "image")
        }
    total = len(columns["index"])
    if not episodes or total == 0:
        raise DatasetError(f"{folder} holds no frames. Collect demonstrations first (simloop collect).")
    if episodes[-1].end != total or not np.array_equal(columns["index"], np.arange(total)):
        raise DatasetError(
            f"{folder}: the episodes end at frame {episodes[-1].end}, the data have {total} frames. Copy the "
            "dataset again."
        )
    _check_episodes(folder, episodes, columns["task_index"], len(instructions))
    environment_states = columns.get(layout.ENVIRONMENT_KEY, np.zeros((total, 0), np.float32))
    for key in (state_key, action_key):
        bad = np.flatnonzero(~np.isfinite(columns[key]).all(axis=1))
        if bad.size:
            raise DatasetError(f"{folder}: {key} of frame {bad[0]} is NaN or infinite. Remove its episode.")
    return Dataset(
        folder=folder,
        fps=info["fps"],
        robot=info.get("robot_type"),
        cameras=cameras,
        states=columns[state_key],
        actions=columns[action_key],
        environment_states=environment_states,
        task_of_frame=columns["task_index"],
        instructions=instructions,
        episodes=episodes,
        seeds=_seeds(folder),
    )


def _check_episodes(folder: Path, episodes: Sequence[Episode], tasks: np.ndarray, known: int) -> None:
    """Raise `DatasetError` unless episodes follow one another and every frame has an instruction."""
    ends = [0, *(episode.end for episode in episodes)]
    if any(episode.begin != end or episode.end <= end for episode, end in zip(episodes, ends, strict=False)):
        raise DatasetError(f"{folder}: its episodes overlap, or frames between them are missing.")
    if tasks.min() < 0 or tasks.max() >= known:
        raise DatasetError(
            f"{folder}: a frame has the task {tasks.max()} of {known}. Copy the dataset again."
        )


def _read_info(folder: Path) -> dict[str, Any]:
    try:
        info = read_json_object(folder / layout.INFO)
        version = info["codebase_version"]
    except (UntrustedInputError, KeyError) as error:
        raise DatasetError(
            f"{folder} is no LeRobotDataset: {layout.INFO} is missing or damaged ({error}). Name the folder "
            "that contains 'meta'."
        ) from error
    if version != layout.VERSION:
        raise DatasetError(
            f"{folder} is a LeRobotDataset of version {version}; {layout.VERSION} is required. Convert it with "
            "lerobot's script convert_dataset_v21_to_v30."
        )
    with _damage_explained(folder):
        info["fps"] = float(info["fps"])
        if not 0 < info["fps"] < math.inf or any("dtype" not in entry for entry in info["features"].values()):
            raise ValueError(
                f"{layout.INFO} has {info['fps']:g} frames per second, or features without a type"
            )
    return info


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


def _read_columns(
    folder: Path, info: Mapping[str, Any], state_key: str, action_key: str
) -> dict[str, np.ndarray]:
    vectors = [key for key, feature in info["features"].items() if feature["dtype"] not in ("video", "image")]
    for key in (state_key, action_key):
        if key not in vectors:
            raise DatasetError(
                f"{folder} has no column {key!r}; it has {_listed(vectors)}. Name the columns with the "
                "options state_key and action_key."
            )
    names = [state_key, action_key]
    shape = info["features"].get(layout.ENVIRONMENT_KEY, {}).get("shape", ())
    if (
        len(shape) == 1 and shape[0] > 1 and state_key != layout.ENVIRONMENT_KEY
    ):  # Others hold other quantities.
        names.append(layout.ENVIRONMENT_KEY)
    table = _data_columns(folder, [*names, "task_index", "index"])
    columns: dict[str, np.ndarray] = {}
    for key in names:
        flat = table[key].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        columns[key] = flat.astype(np.float32).reshape(len(table[key]), -1)
    for key in ("task_index", "index"):
        columns[key] = table[key].to_numpy().astype(np.int64)
    return columns


def _data_columns(folder: Path, names: list[str]) -> dict[str, Any]:
    """Columns of all data files by name, in the order of the frames."""
    files = sorted((folder / "data").glob("*/*.parquet"))
    if not files:
        raise DatasetError(f"{folder} has no files in data/. Copy the dataset again.")
    table = pa.concat_tables([_read_table(file, names) for file in files])
    return {name: table.column(name) for name in names}


def _read_table(file: Path, names: Sequence[str] | None = None) -> pa.Table:
    """Columns of a parquet file, by default those that are no statistics, if they fit into `MAX_TABLE_BYTES`."""
    with open_regular(file, error=DatasetError) as stream, pq.ParquetFile(stream) as parquet:
        names = names or [name for name in parquet.schema_arrow.names if not name.startswith("stats/")]
        groups = map(parquet.metadata.row_group, range(parquet.metadata.num_row_groups))
        claimed = sum(
            group.column(i).total_uncompressed_size
            for group in groups
            for i in range(group.num_columns)
            if group.column(i).path_in_schema.split(".")[0] in names
        )
        if not 0 <= claimed <= MAX_TABLE_BYTES or not 0 <= parquet.metadata.num_rows <= MAX_ROWS:
            raise DatasetError(
                f"{file} would take {claimed} bytes of memory in {parquet.metadata.num_rows} rows; at most "
                f"{MAX_TABLE_BYTES} and {MAX_ROWS} are read of one file."
            )
        return parquet.read(list(names))


def _episodes(folder: Path, info: Mapping[str, Any]) -> Iterator[Episode]:
    video_keys = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    rows: list[dict[str, Any]] = []
    for file in sorted((folder / layout.EPISODES_FOLDER).glob("*/*.parquet")):
        rows += _read_table(file).to_pylist()
    for row in sorted(rows, key=lambda row: row["episode_index"]):
        videos = {
            key: (
                inside(
                    folder,
                    str(info["video_path"]).format(
                        video_key=str(key),
                        chunk_index=int(row[f"videos/{key}/chunk_index"]),
                        file_index=int(row[f"videos/{key}/file_index"]),
                    ),
                    error=DatasetError,
                ),
                float(row[f"videos/{key}/from_timestamp"]),
            )
            for key in video_keys
        }
        yield Episode(row["episode_index"], row["dataset_from_index"], row["dataset_to_index"], videos)


def _instructions(folder: Path) -> tuple[str, ...]:
    tasks = _read_table(folder / layout.TASKS).to_pandas().sort_values("task_index")
    return tuple(str(sentence) for sentence in tasks.index)


def _seeds(folder: Path) -> dict[str, tuple[int, ...]]:
    file = folder / layout.SIMLOOP
    if not file.exists():
        return {}
    with _damage_explained(folder):
        seeds = read_json_object(file, error=DatasetError).get("seeds", {})
        return {task: tuple(map(int, of_task)) for task, of_task in seeds.items()}


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names)) or "none"
