"""The folder of a run on disk: one writer, append-only, nothing lost and nothing counted twice."""

from __future__ import annotations

import fcntl
import json
import os
import re
from pathlib import Path
from typing import IO, Any

from simloop.harness.errors import SimloopError
from simloop.harness.planning.experiment import Experiment, differences, experiment_from_json
from simloop.harness.planning.plan import Plan
from simloop.results.records.ledger import encode_line, repair_tail
from simloop.results.records.records import (
    CONFIG,
    EPISODES,
    QUERIES,
    EpisodeKey,
    EpisodeRecord,
    QueryRecord,
    queries_to_dict,
    read_episodes,
)

VIDEOS = "videos"


class RunFolderError(SimloopError):
    """A run folder that cannot be used for what was asked."""


class RunFolder:
    """A run folder opened for writing. Only one process at a time may hold it."""

    def __init__(self, path: Path, experiment: Experiment, plan: Plan):
        self.path = path
        self.notes: list[str] = []
        """What was mended when the folder was opened, in sentences."""
        _make_writable(path)
        self._lock = _lock(path)
        try:
            self._claim(experiment, plan)
            self.notes += [
                f"{file}: cut off a half-written last line (the last writer was killed); its episode runs again."
                for file in (EPISODES, QUERIES)
                if repair_tail(path / file)
            ]
            self.done: dict[EpisodeKey, EpisodeRecord] = {
                record.key: record for record in read_episodes(path)
            }
            strangers = self.done.keys() - {spec.id for spec in plan.episodes}
            if strangers:
                raise RunFolderError(
                    f"{path / EPISODES} holds {len(strangers)} episodes that are not in the plan, e.g. "
                    f"{sorted(strangers)[0]}. Use another --out folder."
                )
            self._ledger = (path / EPISODES).open("a", encoding="utf-8")
            self._queries = (path / QUERIES).open("a", encoding="utf-8")
        except BaseException:
            self._lock.close()
            raise

    def _claim(self, experiment: Experiment, plan: Plan) -> None:
        config = self.path / CONFIG
        tasks = list(dict.fromkeys(spec.task for spec in plan.episodes))
        ours: dict[str, Any] = {
            "experiment": experiment.to_dict(),
            "tasks": tasks,
            "plan_sha256": plan.sha256,
        }
        if experiment.stopping is not None:
            ours["pairs"] = [list(pair) for pair in plan.pairs]
        if config.exists():
            found = json.loads(config.read_text())
            theirs = experiment_from_json(json.dumps(found.get("experiment")), str(config))
            differing = differences(theirs.identity(), experiment.identity())
            if not differing and found.get("plan_sha256") != plan.sha256:
                differing = ["the tasks or seeds that this version derives from the same experiment"]
            if differing:
                raise RunFolderError(
                    f"{self.path} belongs to another experiment: {'; '.join(differing)}. Give the same options to go "
                    "on with it, or another --out folder."
                )
        elif any(self.path.glob("*.jsonl")):
            raise RunFolderError(f"{self.path} holds records but no {CONFIG}. Use another --out folder.")
        else:
            write_atomically(config, json.dumps(ours, indent=2) + "\n")

    def append(self, record: EpisodeRecord, queries: list[QueryRecord], video: bytes | None = None) -> None:
        """Add a finished episode. It counts once its ledger line is on the disk, which comes last."""
        if record.key in self.done:
            raise RunFolderError(f"Episode {record.key} is in the ledger already.")
        if video is not None and record.video:
            file = self.path / record.video
            file.parent.mkdir(parents=True, exist_ok=True)
            for stale in file.parent.glob(glob_of_episode(record)):
                stale.unlink()
            write_atomically(file, video)
        _append(self._queries, queries_to_dict(record.key, queries))
        _append(self._ledger, record.to_dict())
        self.done[record.key] = record

    def close(self) -> None:
        """Let another process have the folder."""
        self._ledger.close()
        self._queries.close()
        self._lock.close()

    def __enter__(self) -> RunFolder:
        """The folder itself, closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def video_path(policy: str, task: str, episode: int, ending: str) -> str:
    """Where an episode's video lies within the run folder; different for any two episodes."""
    return f"{VIDEOS}/{file_name(policy)}/{file_name(task)}-{episode:04d}-{ending}.mp4"


def glob_of_episode(record: EpisodeRecord) -> str:
    """Pattern of an episode's video in its folder, whatever its ending."""
    return f"{file_name(record.task)}-{record.episode:04d}-*.mp4"


def file_name(name: str) -> str:
    """A name that is safe as a single file name; different names stay different.

    Anything but letters, digits, `.`, `_` and `-` is written as its code point.
    """
    return re.sub(r"[^A-Za-z0-9._-]", lambda match: f"~{ord(match[0]):x}~", name)


def write_atomically(file: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a file so that readers see the old content or the new, never a part.

    Args:
      durable: Whether the new content is to be there after the machine has lost power.
    """
    part = file.with_name(f".{file.name}.part")
    with part.open("wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        if durable:
            os.fsync(stream.fileno())
    part.replace(file)


def _append(stream: IO[str], payload: dict[str, Any]) -> None:
    stream.write(encode_line(payload))
    stream.flush()
    os.fsync(stream.fileno())


def _make_writable(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RunFolderError(
            f"Cannot write to the run folder {path}: {error.strerror or error}. Choose another with --out."
        ) from error


def _lock(path: Path) -> IO[str]:
    stream = (path / ".lock").open("w")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.close()
        raise RunFolderError(
            f"Another process is writing to {path}. Wait for it, or choose another --out folder."
        ) from error
    return stream
