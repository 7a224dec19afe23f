"""LeRobotDatasets as programs other than simloop write them. Frame r has state [r, 0, 0, 0] and one grey level."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

from simloop.policies.files.video import VideoEncoder

CAMERAS = ("observation.images.base_0_rgb", "observation.images.left_wrist_0_rgb")
TASKS = ("open the drawer", "press the button")
FPS, SIZE = 10, 32
DATA, EPISODES = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"


def grey(row: int) -> int:
    return 40 + 3 * row


def image(row: int) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), grey(row), np.uint8)


def png(row: int) -> bytes:
    out = io.BytesIO()
    PIL.Image.fromarray(image(row)).save(out, "PNG")
    return out.getvalue()


def video(rows: Sequence[int], fps: int = FPS) -> bytes:
    encoder = VideoEncoder(fps, crf=10)
    for row in rows:
        encoder.add(image(row))
    return encoder.finish()


def write_v3(folder: Path, *, lengths: Sequence[int] = (5, 4, 3), images: str = "image") -> Path:
    """A dataset of version 3 with two tasks in turn; `images` is the dtype of both cameras."""
    frames, ends = sum(lengths), np.cumsum(lengths)
    begins = ends - lengths
    features: dict[str, Any] = {
        key: {"dtype": "float32", "shape": [4]} for key in ("observation.state", "action")
    }
    features |= {camera: {"dtype": images, "shape": [SIZE, SIZE, 3]} for camera in CAMERAS}
    info = {
        "codebase_version": "v3.0", "robot_type": "sawyer", "fps": FPS, "total_episodes": len(lengths),
        "chunks_size": 1000, "features": features,
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }  # fmt: skip
    for part in ("meta/episodes/chunk-000", "data/chunk-000"):
        (folder / part).mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps(info))
    index = pandas.Index(TASKS, name="task")
    pandas.DataFrame({"task_index": range(len(TASKS))}, index=index).to_parquet(folder / "meta/tasks.parquet")
    rows = []
    for i, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
        row = {
            "episode_index": i,
            "length": end - begin,
            "dataset_from_index": begin,
            "dataset_to_index": end,
        }
        for camera in CAMERAS if images == "video" else ():
            row |= {f"videos/{camera}/chunk_index": 0, f"videos/{camera}/file_index": 0}
            row |= {f"videos/{camera}/from_timestamp": begin / FPS}
        rows.append(row)
    pq.write_table(pa.Table.from_pylist(rows), folder / EPISODES)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    states = np.zeros((frames, 4), np.float32)
    states[:, 0] = np.arange(frames)
    within = np.arange(frames) - np.repeat(begins, lengths)
    columns: dict[str, Any] = {
        "observation.state": list(states),
        "action": list(states / 100),
        "timestamp": (within / FPS).astype(np.float32),
        "frame_index": within,
        "episode_index": episode,
        "index": np.arange(frames),
        "task_index": episode % 2,
    }
    for camera in CAMERAS:
        if images == "image":
            columns[camera] = [{"bytes": png(row), "path": None} for row in range(frames)]
        else:
            file = folder / "videos" / camera / "chunk-000/file-000.mp4"
            file.parent.mkdir(parents=True)
            file.write_bytes(video(range(frames)))
    pq.write_table(pa.table(columns), folder / DATA)
    return folder


def write_v21(folder: Path, *, lengths: Sequence[int] = (5, 4)) -> Path:
    """A dataset of version 2.1: a parquet file and a video per camera for every episode."""
    whole = write_v3(folder.with_name(f"{folder.name}-v3"), lengths=lengths, images="video")
    table, info = pq.read_table(whole / DATA), json.loads((whole / "meta/info.json").read_text())
    info |= {
        "codebase_version": "v2.1",
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    for part in ("meta", "data/chunk-000", *(f"videos/chunk-000/{camera}" for camera in CAMERAS)):
        (folder / part).mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps(info))
    tasks = [{"task_index": i, "task": task} for i, task in enumerate(TASKS)]
    (folder / "meta/tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tasks))
    begin, rows = 0, []
    for i, length in enumerate(lengths):
        name = f"episode_{i:06d}"
        pq.write_table(table.slice(begin, length), folder / f"data/chunk-000/{name}.parquet")
        for camera in CAMERAS:
            (folder / f"videos/chunk-000/{camera}/{name}.mp4").write_bytes(
                video(range(begin, begin + length))
            )
        rows.append({"episode_index": i, "tasks": [TASKS[i % 2]], "length": length})
        begin += length
    (folder / "meta/episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def change_column(folder: Path, key: str, change: Callable[[list[Any]], Any], file: str = DATA) -> Path:
    """Replace a column by `change` of its values."""
    table = pq.read_table(folder / file)
    values = pa.array(change(table[key].to_pylist()))
    pq.write_table(table.set_column(table.column_names.index(key), key, values), folder / file)
    return folder


def change_info(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    file = folder / "meta/info.json"
    info = json.loads(file.read_text())
    change(info)
    file.write_text(json.dumps(info))
    return folder
