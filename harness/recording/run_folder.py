"""Run folder on disk: one writer, append-only records, every episode once."""

from __future__ import annotations

import fcntl
import json
import os
import re
from pathlib import Path
from typing import IO, Any

from simloop.harness.errors import SimloopError
from simloop.harness.planning.experiment import Experiment, experiment_from_json
from simloop.harness.planning.plan import Plan
from simloop.results.records.compatibility import RunIdentity, refusal
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
    """A run folder cannot be used for the requested run."""


class RunFolder:
    """Run folder opened for writing; a context manager that holds a lock against other processes.

    Raises:
      RunFolderError: If the folder cannot be written to, is in use, or belongs to another experiment.
      LedgerError: If its records were altered.
    """

    def __init__(self, path: Path, experiment: Experiment, plan: Plan):
        self.path = path
        self.notes: list[str] = []
        """Repairs made when the folder was opened, in sentences."""
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
            unplanned = self.done.keys() - {spec.id for spec in plan.episodes}
            if unplanned:
                raise RunFolderError(
                    f"{path / EPISODES} holds {len(unplanned)} episodes that are not in the plan, e.g. "
                    f"{sorted(unplanned)[0]}. Use another --out folder."
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
            "max_steps": {task: plan.max_steps[task] for task in tasks if task in plan.max_steps},
            "plan_sha256": plan.sha256,
        }
        if experiment.stopping is not None:
            ours["pairs"] = [list(pair) for pair in plan.pairs]
        if config.exists():
            found = json.loads(config.read_text())
            theirs = experiment_from_json(json.dumps(found.get("experiment")), str(config)).to_dict()
            earlier = RunIdentity(theirs, found.get("plan_sha256", ""))
            if differing := refusal(earlier, RunIdentity(ours["experiment"], plan.sha256), "resume"):
                raise RunFolderError(
                    f"{self.path} cannot be resumed: {differing}. Give the same options to resume it, or another --out "
                    "folder."
                )
        elif any(self.path.glob("*.jsonl")):
            raise RunFolderError(f"{self.path} holds records but no {CONFIG}. Use another --out folder.")
        else:
            write_atomically(config, json.dumps(ours, indent=2) + "\n")

    def append(self, record: EpisodeRecord, queries: list[QueryRecord], video: bytes | None = None) -> None:
        """Add a finished episode; it counts once its ledger line, which is written last, is on the disk."""
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
        """Release the folder."""
        self._ledger.close()
        self._queries.close()
        self._lock.close()

    def __enter__(self) -> RunFolder:
        """Return the folder; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def video_path(policy: str, task: str, episode: int, ending: str) -> str:
    """Return the path of an episode's video within the run folder, unique per episode."""
    return f"{VIDEOS}/{file_name(policy)}/{file_name(task)}-{episode:04d}-{ending}.mp4"


def glob_of_episode(record: EpisodeRecord) -> str:
    """Return the pattern of the file name of an episode's video, for all endings."""
    return f"{file_name(record.task)}-{record.episode:04d}-*.mp4"


def file_name(name: str) -> str:
    """Turn a name into a safe file name; distinct names stay distinct.

    Characters other than letters, digits, `.`, `_` and `-` are replaced by their code points.
    """
    return re.sub(r"[^A-Za-z0-9._-]", lambda match: f"~{ord(match[0]):x}~", name)


def write_atomically(file: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a file so that readers see either the old content or the new.

    Args:
      durable: Flush the content and the name to the disk, so that they survive a power loss.
    """
    part = file.with_name(f".{file.name}.part")
    with part.open("wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        if durable:
            os.fsync(stream.fileno())
    part.replace(file)
    if durable:
        directory = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


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
