"""Files and features of a LeRobotDataset, version 3.

    meta/info.json                                 sizes, features, paths of the other files
    meta/stats.json                                statistics of every feature
    meta/tasks.parquet                             instruction -> task_index
    meta/episodes/chunk-000/file-000.parquet       a row per episode: length, location of its frames
    data/chunk-000/file-000.parquet                a row per frame: state, action, indices
    videos/<camera key>/chunk-000/file-000.mp4     frames of many episodes, one after the other

Source of the format: `lerobot.datasets` of Hugging Face's lerobot, codebase version "v3.0". simloop's additions
(seeds, protocol, noise) are in `meta/simloop.json`, which other readers ignore.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

VERSION = "v3.0"
VERSIONS_2 = ("v2.1", "v2.0")
"""Read but not written: one parquet file and one video per episode, `tasks.jsonl`, `episodes.jsonl`."""
INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
SIMLOOP = "meta/simloop.json"
TASKS_V2 = "meta/tasks.jsonl"
EPISODES_V2 = "meta/episodes.jsonl"
EPISODES_FOLDER = "meta/episodes"
EPISODES = EPISODES_FOLDER + "/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

FILES_PER_CHUNK = 1000
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200

STATE_KEY = "observation.state"
ACTION_KEY = "action"
ENVIRONMENT_KEY = "observation.environment_state"
SUCCESS_KEY = "next.success"
IMAGE_PREFIX = "observation.images."

INDEX_FEATURES: dict[str, dict[str, Any]] = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    **{
        name: {"dtype": "int64", "shape": [1], "names": None}
        for name in ("frame_index", "episode_index", "index", "task_index")
    },
}
"""Columns of every dataset."""


class DatasetError(ValueError):
    """A dataset that cannot be read or written."""

    user_facing = True


def features(
    state_names: Sequence[str],
    action_names: Sequence[str],
    environment_size: int,
    cameras: Sequence[str],
    image_hw: tuple[int, int],
    fps: int,
    video: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """Descriptions of columns and cameras in `info.json`.

    Args:
      state_names: Names, with units, of the entries of the state.
      action_names: Names of the entries of an action.
      environment_size: Entries of the environment's state; 0 if it is not recorded.
      cameras: Names after `observation.images.`.
      image_hw: Size of the frames.
      fps: Frames per second.
      video: Codec and pixel format, as `video.<name>`.
    """
    height, width = image_hw
    camera_info = {
        "video.height": height,
        "video.width": width,
        "video.fps": fps,
        "video.channels": 3,
        "video.is_depth_map": False,
        "has_audio": False,
        **{f"video.{name}": value for name, value in video.items()},
    }
    return {
        STATE_KEY: {"dtype": "float32", "shape": [len(state_names)], "names": list(state_names)},
        ACTION_KEY: {"dtype": "float32", "shape": [len(action_names)], "names": list(action_names)},
        **(
            {ENVIRONMENT_KEY: {"dtype": "float32", "shape": [environment_size], "names": None}}
            if environment_size
            else {}
        ),
        SUCCESS_KEY: {"dtype": "bool", "shape": [1], "names": None},
        **{
            IMAGE_PREFIX + camera: {
                "dtype": "video",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
                "info": camera_info,
            }
            for camera in cameras
        },
        **INDEX_FEATURES,
    }
