"""Metadata of a LeRobotDataset of version 3 or 2: `info.json`, episodes, tasks, and the files with their frames."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simloop.policies.training import dataset_layout as layout
from simloop.policies.training.dataset_layout import DatasetError
from simloop.policies.training.dataset_tables import UnfinishedFileError, read_table
from simloop.untrusted import UntrustedInputError, inside, parse_json, read_bytes, read_json_object

MAX_LINES_BYTES = 1 << 30
SENTENCES = ("task", "__index_level_0__", "tasks", "instruction")
"""Columns that hold the sentence of a task: of the documented table, or the index of a pandas frame."""


@dataclass(frozen=True)
class Episode:
    """Location of an episode's frames."""

    index: int
    begin: int
    """Row of its first frame in the arrays of the dataset."""
    end: int
    videos: Mapping[str, tuple[Path, float]]
    """File, and time in it in seconds, by key of a camera that is stored as video."""


@dataclass(frozen=True)
class DatasetIndex:
    """What the metadata of a dataset state."""

    info: Mapping[str, Any]
    fps: float
    episodes: tuple[Episode, ...]
    tasks: Mapping[int, str]
    """Sentence of every task by its number."""
    data_files: tuple[Path, ...]
    """In the order of their frames."""


def read_index(folder: Path) -> DatasetIndex:
    """Read the metadata of a dataset.

    Raises:
      DatasetError: If the folder is no dataset of a known version, or a table is absent, unfinished or contradictory.
    """
    info = _read_info(folder)
    if info["codebase_version"] == layout.VERSION:
        episodes = tuple(_episodes(folder, info))
        tasks = _tasks_of(folder / layout.TASKS, _table_of_tasks(folder / layout.TASKS))
        files = tuple(sorted((folder / "data").glob("*/*.parquet")))
    else:
        rows = sorted(_lines(folder / layout.EPISODES_V2), key=lambda row: row["episode_index"])
        files = tuple(_path(folder, info, "data_path", int(row["episode_index"])) for row in rows)
        episodes = tuple(_episodes_v2(folder, info, rows))
        tasks = _tasks_of(folder / layout.TASKS_V2, _lines(folder / layout.TASKS_V2))
    if not files:
        raise DatasetError(f"{folder} has no files in data/. Copy the dataset again.")
    for episode in episodes:
        for key, (file, _) in episode.videos.items():
            if not file.exists():
                raise DatasetError(
                    f"{folder} lacks the video {file} of {key}, episode {episode.index}. Copy it again."
                )
    return DatasetIndex(info, info["fps"], episodes, tasks, files)


def explain_unfinished(error: UnfinishedFileError, file: Path, lost: int, total: int) -> DatasetError:
    """The error for a parquet file without footer, with the number of episodes that it takes along."""
    return DatasetError(
        f"{error}: its writer was interrupted before finalize() was called, and {lost} of {total} episodes are lost "
        f"with it. Record them again, or remove them from the metadata and {file.name}."
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
    if version not in (layout.VERSION, *layout.VERSIONS_2):
        raise DatasetError(
            f"{folder} is a LeRobotDataset of version {version}; {layout.VERSION} and {', '.join(layout.VERSIONS_2)} "
            "are read. Convert it with a script of lerobot."
        )
    info["fps"] = float(info["fps"])
    if not 0 < info["fps"] < math.inf or any("dtype" not in entry for entry in info["features"].values()):
        raise ValueError(f"{layout.INFO} has {info['fps']:g} frames per second, or features without a type")
    return info


def _video_keys(info: Mapping[str, Any]) -> list[str]:
    return [key for key, feature in info["features"].items() if feature["dtype"] == "video"]


def _episodes(folder: Path, info: Mapping[str, Any]) -> Iterator[Episode]:
    rows: list[dict[str, Any]] = []
    for file in sorted((folder / layout.EPISODES_FOLDER).glob("*/*.parquet")):
        try:
            rows += read_table(file).to_pylist()
        except UnfinishedFileError as error:
            total = int(info.get("total_episodes", 0))
            raise explain_unfinished(error, file, max(0, total - len(rows)), total) from error
    paths: dict[tuple[str, int, int], Path] = {}
    keys = _video_keys(info)
    for row in sorted(rows, key=lambda row: row["episode_index"]):
        videos = {}
        for key in keys:
            place = (key, int(row[f"videos/{key}/chunk_index"]), int(row[f"videos/{key}/file_index"]))
            if place not in paths:
                name = str(info["video_path"]).format(
                    video_key=key, chunk_index=place[1], file_index=place[2]
                )
                paths[place] = inside(folder, name, error=DatasetError)
            videos[key] = paths[place], float(row[f"videos/{key}/from_timestamp"])
        yield Episode(row["episode_index"], row["dataset_from_index"], row["dataset_to_index"], videos)


def _episodes_v2(folder: Path, info: Mapping[str, Any], rows: list[dict[str, Any]]) -> Iterator[Episode]:
    """Episodes of version 2, which have files of their own."""
    begin = 0
    for row in rows:
        index, end = int(row["episode_index"]), begin + int(row["length"])
        videos = {key: (_path(folder, info, "video_path", index, key), 0.0) for key in _video_keys(info)}
        yield Episode(index, begin, end, videos)
        begin = end


def _path(folder: Path, info: Mapping[str, Any], template: str, episode: int, key: str = "") -> Path:
    chunk = episode // int(info.get("chunks_size") or layout.FILES_PER_CHUNK)
    name = str(info[template]).format(episode_chunk=chunk, episode_index=episode, video_key=key)
    return inside(folder, name, error=DatasetError)


def _lines(file: Path) -> list[dict[str, Any]]:
    """Objects of a JSONL file."""
    text = read_bytes(file, MAX_LINES_BYTES, error=DatasetError).decode(errors="replace")
    rows = [parse_json(line, str(file), error=DatasetError) for line in text.splitlines() if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise DatasetError(f"{file}: wanted a JSON object in every line.")
    return rows


def _table_of_tasks(file: Path) -> list[dict[str, Any]]:
    try:
        return read_table(file).to_pylist()
    except UnfinishedFileError as error:
        raise DatasetError(f"{error}: its writer was interrupted before finalize() was called.") from error


def _tasks_of(file: Path, rows: list[dict[str, Any]]) -> dict[int, str]:
    """Sentence of every task by its number, whichever column holds it.

    Raises:
      DatasetError: If no column does, a sentence is absent, or a number has two.
    """
    tasks: dict[int, str] = {}
    for row in rows:
        sentence = next((row[name] for name in SENTENCES if isinstance(row.get(name), str)), None)
        number = row.get("task_index")
        if sentence is None or type(number) is not int:
            raise DatasetError(
                f"{file} has no sentence or no task_index in the row {row}. Copy the dataset again."
            )
        if tasks.setdefault(number, sentence) != sentence:
            raise DatasetError(
                f"{file} has two sentences for task {number}: {tasks[number]!r} and {sentence!r}."
            )
    return tasks
