"""Demonstrations as a LeRobotDataset on disk."""

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

from simloop.policies.training import layout
from simloop.policies.training.demonstration import Demonstration, FeatureStats, feature_stats
from simloop.policies.training.layout import DatasetError
from simloop.policies.training.video import CODEC, PIXEL_FORMAT, join_videos


@dataclass(frozen=True)
class DatasetHeader:
    """What holds for every episode of a dataset."""

    robot: str
    fps: int
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    environment_size: int = 0
    """Numbers of the state of the environment that are kept with every frame."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Kept in `meta/simloop.json`: how the data were made, in JSON values."""


def write_dataset(folder: Path, header: DatasetHeader, demonstrations: Iterable[Demonstration]) -> None:
    """Write a dataset of version 3. The folder appears only when it is complete.

    Args:
      folder: Where to; must not exist.
      header: What the episodes share.
      demonstrations: In the order they get. One video file's worth of them is held in memory.

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
    import pandas
    import pyarrow as pa
    import pyarrow.parquet as pq

    task_of: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    tables: list[Any] = []
    seeds: dict[str, list[int]] = {}
    begin = 0
    for video_file, batch in enumerate(_batches(demonstrations, layout.VIDEO_FILE_MB << 20)):
        chunk_index, file_index = divmod(video_file, layout.FILES_PER_CHUNK)
        _write_videos(folder, header, batch, chunk_index, file_index)
        before = 0
        for demonstration in batch:
            _check(demonstration, header)
            task_index = task_of.setdefault(demonstration.instruction, len(task_of))
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
                    "data/chunk_index": 0,
                    "data/file_index": 0,
                    "dataset_from_index": begin,
                    "dataset_to_index": end,
                    **_video_columns(header, chunk_index, file_index, before, demonstration.length),
                    **_stats_columns(demonstration, begin, len(rows), task_index, header),
                    "meta/episodes/chunk_index": 0,
                    "meta/episodes/file_index": 0,
                }
            )
            tables.append(_table(demonstration, header, begin, len(rows) - 1, task_index))
            seeds.setdefault(f"{demonstration.suite}/{demonstration.task}", []).append(demonstration.seed)
            begin, before = end, before + demonstration.length
    if not rows:
        raise DatasetError("There is no demonstration to write; nothing was kept.")

    data = folder / layout.DATA.format(chunk_index=0, file_index=0)
    data.parent.mkdir(parents=True)
    with pq.ParquetWriter(data, tables[0].schema) as writer:
        for table in tables:  # A row group per episode, so that one can be read alone.
            writer.write_table(table)
    episodes = folder / layout.EPISODES.format(chunk_index=0, file_index=0)
    episodes.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), episodes)
    index = pandas.Index(list(task_of), name="task")
    pandas.DataFrame({"task_index": list(task_of.values())}, index=index).to_parquet(folder / layout.TASKS)
    _write_json(folder / layout.STATS, _all_stats(rows, tables, header))
    _write_json(folder / layout.SIMLOOP, {**header.notes, "seeds": seeds})
    _write_json(folder / layout.INFO, _info(header, rows, begin, len(task_of)))


def _batches(demonstrations: Iterable[Demonstration], most_bytes: int) -> Iterator[list[Demonstration]]:
    """Demonstrations that share video files."""
    batch: list[Demonstration] = []
    size = 0
    for demonstration in demonstrations:
        largest = max((len(video) for video in demonstration.videos.values()), default=0)
        if batch and size + largest > most_bytes:
            yield batch
            batch, size = [], 0
        batch.append(demonstration)
        size += largest
    if batch:
        yield batch


def _check(demonstration: Demonstration, header: DatasetHeader) -> None:
    where = f"{demonstration.suite}/{demonstration.task}, seed {demonstration.seed}"
    wanted = {
        "state size": (demonstration.states.shape[1], len(header.state_names)),
        "action size": (demonstration.actions.shape[1], len(header.action_names)),
        "size of the environment's state": (
            demonstration.environment_states.shape[1],
            header.environment_size,
        ),
        "number of actions": (demonstration.actions.shape[0], demonstration.length),
        "cameras": (sorted(demonstration.videos), sorted(header.cameras)),
    }
    for what, (got, want) in wanted.items():
        if got != want:
            raise DatasetError(f"{where}: {what} should be {want} and is {got}. Record it again.")


def _write_videos(
    folder: Path, header: DatasetHeader, batch: Sequence[Demonstration], chunk_index: int, file_index: int
) -> None:
    for camera in header.cameras:
        key = layout.IMAGE_PREFIX + camera
        file = folder / layout.VIDEO.format(video_key=key, chunk_index=chunk_index, file_index=file_index)
        file.parent.mkdir(parents=True, exist_ok=True)
        join_videos([d.videos[camera] for d in batch], [d.length for d in batch], header.fps, file)


def _video_columns(
    header: DatasetHeader, chunk_index: int, file_index: int, before: int, length: int
) -> dict[str, int | float]:
    columns: dict[str, int | float] = {}
    for camera in header.cameras:
        key = f"videos/{layout.IMAGE_PREFIX}{camera}"
        columns[f"{key}/chunk_index"] = chunk_index
        columns[f"{key}/file_index"] = file_index
        columns[f"{key}/from_timestamp"] = before / header.fps
        columns[f"{key}/to_timestamp"] = (before + length) / header.fps
    return columns


def _index_columns(
    length: int, fps: int, begin: int, episode_index: int, task_index: int
) -> dict[str, np.ndarray]:
    steps = np.arange(length)
    return {
        "timestamp": (steps / fps).astype(np.float32),
        "frame_index": steps,
        "episode_index": np.full(length, episode_index),
        "index": begin + steps,
        "task_index": np.full(length, task_index),
    }


def _success_column(demonstration: Demonstration) -> np.ndarray:
    """Whether the task was solved after each step; a successful episode ends with the first such one."""
    column = np.zeros(demonstration.length, np.bool_)
    column[-1] = demonstration.success
    return column


def _table(
    demonstration: Demonstration, header: DatasetHeader, begin: int, episode_index: int, task_index: int
) -> Any:
    import pyarrow as pa

    def vectors(x: np.ndarray) -> Any:
        flat = pa.array(x.astype(np.float32).reshape(-1), pa.float32())
        return pa.FixedSizeListArray.from_arrays(flat, x.shape[1])

    columns = {
        layout.STATE_KEY: vectors(demonstration.states),
        layout.ACTION_KEY: vectors(demonstration.actions),
        **(
            {layout.ENVIRONMENT_KEY: vectors(demonstration.environment_states)}
            if header.environment_size
            else {}
        ),
        layout.SUCCESS_KEY: pa.array(_success_column(demonstration)),
    }
    indices = _index_columns(demonstration.length, header.fps, begin, episode_index, task_index)
    return pa.table({**columns, **{name: pa.array(x) for name, x in indices.items()}})


def _stats_columns(
    demonstration: Demonstration, begin: int, episode_index: int, task_index: int, header: DatasetHeader
) -> dict[str, list]:
    indices = _index_columns(demonstration.length, header.fps, begin, episode_index, task_index)
    stats = {
        layout.STATE_KEY: feature_stats(demonstration.states.astype(np.float64)),
        layout.ACTION_KEY: feature_stats(demonstration.actions.astype(np.float64)),
        **(
            {layout.ENVIRONMENT_KEY: feature_stats(demonstration.environment_states.astype(np.float64))}
            if header.environment_size
            else {}
        ),
        layout.SUCCESS_KEY: feature_stats(_success_column(demonstration)[:, None].astype(np.float64)),
        **{layout.IMAGE_PREFIX + camera: s for camera, s in demonstration.image_stats.items()},
        **{name: feature_stats(x[:, None].astype(np.float64)) for name, x in indices.items()},
    }
    return {f"stats/{key}/{name}": value for key, s in stats.items() for name, value in s.items()}


def _all_stats(
    rows: Sequence[Mapping[str, Any]], tables: Sequence[Any], header: DatasetHeader
) -> dict[str, FeatureStats]:
    """Statistics over all frames; of images over the sampled ones of all episodes."""
    import pyarrow as pa

    data = pa.concat_tables(tables)
    stats: dict[str, FeatureStats] = {}
    for key in data.column_names:
        column = data.column(key)
        if pa.types.is_fixed_size_list(column.type):
            x = np.asarray(column.combine_chunks().flatten()).reshape(-1, column.type.list_size)
        else:
            x = column.to_numpy()[:, None]
        stats[key] = feature_stats(x.astype(np.float64))
    for camera in header.cameras:
        stats[layout.IMAGE_PREFIX + camera] = _pooled(rows, layout.IMAGE_PREFIX + camera)
    return stats


def _pooled(rows: Sequence[Mapping[str, Any]], key: str) -> FeatureStats:
    """Statistics of all episodes from those of each. Quantiles are averaged, which is approximate."""

    def each(name: str) -> np.ndarray:
        return np.array([row[f"stats/{key}/{name}"] for row in rows])

    counts = each("count").reshape(-1, 1, 1, 1)
    weights = counts / counts.sum()
    mean = (each("mean") * weights).sum(axis=0)
    second = ((each("std") ** 2 + each("mean") ** 2) * weights).sum(axis=0)
    quantiles = {
        name: (each(name) * weights).sum(axis=0).tolist() for name in ("q01", "q10", "q50", "q90", "q99")
    }
    return {
        "min": each("min").min(axis=0).tolist(),
        "max": each("max").max(axis=0).tolist(),
        "mean": mean.tolist(),
        "std": np.sqrt(np.maximum(second - mean**2, 0.0)).tolist(),
        "count": [int(counts.sum())],
        **quantiles,
    }


def _info(header: DatasetHeader, rows: Sequence[Any], frames: int, tasks: int) -> dict[str, Any]:
    return {
        "codebase_version": layout.VERSION,
        "robot_type": header.robot,
        "total_episodes": len(rows),
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": layout.FILES_PER_CHUNK,
        "data_files_size_in_mb": layout.DATA_FILE_MB,
        "video_files_size_in_mb": layout.VIDEO_FILE_MB,
        "fps": header.fps,
        "splits": {"train": f"0:{len(rows)}"},
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
