"""Write demonstrations as a LeRobotDataset."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq

from simloop.policies.files.video import CODEC, PIXEL_FORMAT, concatenate_videos
from simloop.policies.training import dataset_layout as layout
from simloop.policies.training.dataset_layout import DatasetError
from simloop.policies.training.demonstration import Demonstration, FeatureStats, feature_stats

QUANTILES = ("q01", "q10", "q50", "q90", "q99")


@dataclass(frozen=True)
class DatasetHeader:
    """Properties that all episodes of a dataset share."""

    robot: str
    fps: int
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    environment_size: int = 0
    """Entries of the environment's state per frame; 0 if it is not recorded."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """How the data were collected, as JSON values; stored in `meta/simloop.json`."""


def write_dataset(folder: Path, header: DatasetHeader, demonstrations: Iterable[Demonstration]) -> None:
    """Write a LeRobotDataset of version 3. The folder appears only when it is complete.

    Args:
      folder: Folder to write; must not exist.
      header: Properties that all episodes share.
      demonstrations: Episodes, in order. The content of one video file is held in memory.

    Raises:
      DatasetError: If the folder exists, there is no demonstration, or one does not match the header.
    """
    if folder.exists():
        raise DatasetError(f"{folder} exists; a dataset is never overwritten. Choose another folder.")
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir(parents=True)
    try:
        _write(partial, header, demonstrations)
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write(folder: Path, header: DatasetHeader, demonstrations: Iterable[Demonstration]) -> None:
    task_of: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    tables: list[pa.Table] = []
    seeds: dict[str, list[int]] = {}
    begin = 0
    for video_file, batch in enumerate(_video_batches(demonstrations, layout.VIDEO_FILE_MB << 20)):
        location = divmod(video_file, layout.FILES_PER_CHUNK)
        _write_videos(folder, header, batch, location)
        before = 0
        for demonstration in batch:
            _check(demonstration, header)
            task = task_of.setdefault(demonstration.instruction, len(task_of))
            columns = _columns(demonstration, header, begin, len(rows), task)
            end = begin + demonstration.length
            rows.append(
                {
                    "episode_index": len(rows),
                    "tasks": [demonstration.instruction],
                    "length": demonstration.length,
                    "suite": demonstration.suite,
                    "suite_task": demonstration.task,
                    "seed": demonstration.seed,
                    "success": demonstration.success,
                    **demonstration.labels,
                    "data/chunk_index": 0,
                    "data/file_index": 0,
                    "dataset_from_index": begin,
                    "dataset_to_index": end,
                    **_video_columns(header, location, before, demonstration.length),
                    **_stats_columns(columns, demonstration),
                    "meta/episodes/chunk_index": 0,
                    "meta/episodes/file_index": 0,
                }
            )
            tables.append(pa.table({name: _arrow(x) for name, x in columns.items()}))
            seeds.setdefault(f"{demonstration.suite}/{demonstration.task}", []).append(demonstration.seed)
            begin, before = end, before + demonstration.length
    if not rows:
        raise DatasetError("There is no demonstration to write; nothing was kept.")

    data = folder / layout.DATA.format(chunk_index=0, file_index=0)
    data.parent.mkdir(parents=True)
    with pq.ParquetWriter(data, tables[0].schema) as writer:
        for table in tables:  # One row group per episode, so that each can be read alone.
            writer.write_table(table)
    episodes = folder / layout.EPISODES.format(chunk_index=0, file_index=0)
    episodes.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), episodes)
    index = pandas.Index(list(task_of), name="task")
    pandas.DataFrame({"task_index": list(task_of.values())}, index=index).to_parquet(folder / layout.TASKS)
    _write_json(folder / layout.STATS, _dataset_stats(rows, tables, header))
    _write_json(folder / layout.SIMLOOP, {**header.notes, "seeds": seeds})
    _write_json(folder / layout.INFO, _info(header, len(rows), begin, len(task_of)))


def _video_batches(demonstrations: Iterable[Demonstration], max_bytes: int) -> Iterator[list[Demonstration]]:
    """Group demonstrations that share video files."""
    batch: list[Demonstration] = []
    size = 0
    for demonstration in demonstrations:
        largest = max((len(video) for video in demonstration.videos.values()), default=0)
        if batch and size + largest > max_bytes:
            yield batch
            batch, size = [], 0
        batch.append(demonstration)
        size += largest
    if batch:
        yield batch


def _check(demonstration: Demonstration, header: DatasetHeader) -> None:
    sizes = {
        "state size": (demonstration.states.shape[1], len(header.state_names)),
        "action size": (demonstration.actions.shape[1], len(header.action_names)),
        "environment state size": (demonstration.environment_states.shape[1], header.environment_size),
        "number of actions": (demonstration.actions.shape[0], demonstration.length),
        "cameras": (sorted(demonstration.videos), sorted(header.cameras)),
    }
    for name, (got, expected) in sizes.items():
        if got != expected:
            episode = f"{demonstration.suite}/{demonstration.task}, seed {demonstration.seed}"
            raise DatasetError(f"{episode}: {name} should be {expected} and is {got}. Record it again.")


def _write_videos(
    folder: Path, header: DatasetHeader, batch: Sequence[Demonstration], location: tuple[int, int]
) -> None:
    for camera in header.cameras:
        key = layout.IMAGE_PREFIX + camera
        file = folder / layout.VIDEO.format(video_key=key, chunk_index=location[0], file_index=location[1])
        file.parent.mkdir(parents=True, exist_ok=True)
        concatenate_videos([d.videos[camera] for d in batch], [d.length for d in batch], header.fps, file)


def _video_columns(
    header: DatasetHeader, location: tuple[int, int], before: int, length: int
) -> dict[str, int | float]:
    columns: dict[str, int | float] = {}
    for camera in header.cameras:
        key = f"videos/{layout.IMAGE_PREFIX}{camera}"
        columns[f"{key}/chunk_index"], columns[f"{key}/file_index"] = location
        columns[f"{key}/from_timestamp"] = before / header.fps
        columns[f"{key}/to_timestamp"] = (before + length) / header.fps
    return columns


def _columns(
    demonstration: Demonstration, header: DatasetHeader, begin: int, episode_index: int, task_index: int
) -> dict[str, np.ndarray]:
    """Columns of one episode: vectors [length, size] in float32, and scalars [length]."""
    length = demonstration.length
    steps = np.arange(length)
    vectors = {layout.STATE_KEY: demonstration.states, layout.ACTION_KEY: demonstration.actions}
    if header.environment_size:
        vectors[layout.ENVIRONMENT_KEY] = demonstration.environment_states
    success = np.zeros(length, np.bool_)
    success[-1] = demonstration.success  # An episode ends with the first step that solves the task.
    return {
        **{name: x.astype(np.float32) for name, x in vectors.items()},
        layout.SUCCESS_KEY: success,
        "timestamp": (steps / header.fps).astype(np.float32),
        "frame_index": steps,
        "episode_index": np.full(length, episode_index),
        "index": begin + steps,
        "task_index": np.full(length, task_index),
    }


def _arrow(x: np.ndarray) -> pa.Array:
    if x.ndim == 1:
        return pa.array(x)
    return pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1), pa.float32()), x.shape[1])


def _stats_columns(columns: Mapping[str, np.ndarray], demonstration: Demonstration) -> dict[str, list]:
    stats = {
        **{key: feature_stats(_as_vectors(x)) for key, x in columns.items()},
        **{layout.IMAGE_PREFIX + camera: s for camera, s in demonstration.image_stats.items()},
    }
    return {f"stats/{key}/{name}": value for key, s in stats.items() for name, value in s.items()}


def _dataset_stats(
    rows: Sequence[Mapping[str, Any]], tables: Sequence[pa.Table], header: DatasetHeader
) -> dict[str, FeatureStats]:
    """Statistics of all frames; for images, of the sampled frames of all episodes."""
    data = pa.concat_tables(tables)
    stats: dict[str, FeatureStats] = {}
    for key in data.column_names:
        column = data.column(key).combine_chunks()
        vectors = pa.types.is_fixed_size_list(column.type)
        x = np.asarray(column.flatten()) if vectors else column.to_numpy(zero_copy_only=False)
        stats[key] = feature_stats(_as_vectors(x.reshape(len(column), -1)))
    for camera in header.cameras:
        stats[layout.IMAGE_PREFIX + camera] = _pooled(rows, layout.IMAGE_PREFIX + camera)
    return stats


def _as_vectors(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).astype(np.float64)


def _pooled(rows: Sequence[Mapping[str, Any]], key: str) -> FeatureStats:
    """Pool the statistics of all episodes. Quantiles are averaged, which is approximate."""

    def each(name: str) -> np.ndarray:
        return np.array([row[f"stats/{key}/{name}"] for row in rows])

    counts = each("count").reshape(-1, 1, 1, 1)
    weights = counts / counts.sum()
    mean = (each("mean") * weights).sum(axis=0)
    second = ((each("std") ** 2 + each("mean") ** 2) * weights).sum(axis=0)
    return {
        "min": each("min").min(axis=0).tolist(),
        "max": each("max").max(axis=0).tolist(),
        "mean": mean.tolist(),
        "std": np.sqrt(np.maximum(second - mean**2, 0.0)).tolist(),
        "count": [int(counts.sum())],
        **{name: (each(name) * weights).sum(axis=0).tolist() for name in QUANTILES},
    }


def _info(header: DatasetHeader, episodes: int, frames: int, tasks: int) -> dict[str, Any]:
    return {
        "codebase_version": layout.VERSION,
        "robot_type": header.robot,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": layout.FILES_PER_CHUNK,
        "data_files_size_in_mb": layout.DATA_FILE_MB,
        "video_files_size_in_mb": layout.VIDEO_FILE_MB,
        "fps": header.fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": layout.DATA,
        "video_path": layout.VIDEO,
        "features": layout.features(
            header.state_names,
            header.action_names,
            header.environment_size,
            header.cameras,
            header.image_hw,
            header.fps,
            {"codec": CODEC, "pix_fmt": PIXEL_FORMAT},
        ),
    }


def _write_json(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=2) + "\n")
