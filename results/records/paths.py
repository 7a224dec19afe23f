"""Names of the files of an episode within its run folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from simloop.results.records.fork_labels import parse_fork_label
from simloop.results.records.records import VIDEOS, EpisodeKey, EpisodeRecord

STEPS = "steps"

VIDEO, STEP_RECORDS, IMAGES = "video", "step records", "images of "
"""Names of what recorders attach to the result of an episode; that of a camera follows `IMAGES`."""

MAX_NAME = 180
"""Characters of a name before it is shortened; file systems take 255, and numbers and endings follow."""


def video_path(policy: str, task: str, episode: int, ending: str) -> str:
    """Path of an episode's video."""
    return f"{VIDEOS}/{file_name(policy)}/{file_name(task)}-{episode:04d}-{ending}.mp4"


def video_glob(task: str, episode: int) -> str:
    """Pattern of the file name of an episode's video, for all endings."""
    return f"{file_name(task)}-{episode:04d}-*.mp4"


def step_records_path(key: EpisodeKey) -> str:
    """Path of the step records of an episode."""
    return f"{images_folder(key)}.parquet"


def trajectories_path(key: EpisodeKey) -> str:
    """Path of the trajectories of an episode, which are computed from its step records."""
    return f"{images_folder(key)}.trajectories.json"


def images_folder(key: EpisodeKey) -> str:
    """Folder of the lossless videos of an episode's step records. The name of a fork tells its query and changes."""
    policy, _, protocol, task, episode = key
    if fork := parse_fork_label(protocol):
        task = "-".join(filter(None, (task, f"query-{fork.query}", fork.changes)))
    return f"{STEPS}/{file_name(policy)}/{file_name(task)}-{episode:04d}"


def images_path(key: EpisodeKey, camera: str) -> str:
    """Path of the lossless video of a camera's images, one frame per query."""
    return f"{images_folder(key)}/{file_name(camera)}.mp4"


def attached_files(record: EpisodeRecord, attachments: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files of an episode by path, from what its recorders attached, without a video that `record` does not name."""
    files = {}
    for name, content in attachments.items():
        if name == STEP_RECORDS:
            files[step_records_path(record.key)] = content
        elif name.startswith(IMAGES):
            files[images_path(record.key, name.removeprefix(IMAGES))] = content
        elif record.video:
            files[record.video] = content
    return files


def step_files(run: Path, record: EpisodeRecord) -> list[str]:
    """Paths of the step records, trajectories and images of an episode that a run folder holds."""
    tables = [step_records_path(record.key), trajectories_path(record.key)]
    images = (run / images_folder(record.key)).glob("*.mp4")
    return [path for path in tables if (run / path).is_file()] + [
        str(file.relative_to(run)) for file in images
    ]


def file_name(name: str) -> str:
    """Turn a name into a safe file name; distinct names stay distinct.

    Characters other than letters, digits, `.`, `_` and `-`, and a dot at the start, are replaced by their code points.
    Long names end in a hash.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]|^\.", lambda match: f"~{ord(match[0]):x}~", name)
    if len(safe) <= MAX_NAME:
        return safe
    return f"{safe[:MAX_NAME]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
