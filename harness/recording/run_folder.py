"""Run folder on disk: one writer, append-only records, every episode once."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from simloop.harness.errors import SimloopError
from simloop.harness.planning.experiment import Experiment, experiment_from_json
from simloop.harness.planning.plan import Plan
from simloop.results.records.compatibility import RunIdentity, refusal
from simloop.results.records.ledger import encode_line, read_lines, repair_tail
from simloop.results.records.paths import video_glob
from simloop.results.records.records import (
    CONFIG,
    EPISODES,
    QUERIES,
    EpisodeKey,
    EpisodeRecord,
    QueryRecord,
    episode_name,
    load_json,
    queries_from_dict,
    queries_to_dict,
    read_episodes,
)
from simloop.untrusted import inside, require_links_inside


class RunFolderError(SimloopError):
    """A run folder cannot be used for the requested run."""


def with_batch_size(experiment: Experiment, folder: Path, default: int) -> Experiment:
    """Fill in a batch size that is left open: that of the run in the folder, or the default of a new one.

    Raises:
      LedgerError, ExperimentError: If the `config.json` of the folder cannot be read.
    """
    if experiment.batch_size is not None:
        return experiment
    config = folder / CONFIG
    found = load_json(folder, CONFIG).get("experiment") if config.exists() else None
    theirs = experiment_from_json(json.dumps(found), str(config)).batch_size if found else None
    return dataclasses.replace(experiment, batch_size=theirs or default)


class RunFolder:
    """Run folder opened for writing; a context manager that holds a lock against other processes.

    Raises:
      RunFolderError: If the folder cannot be written to, is in use, or belongs to another experiment.
      LedgerError: If its records were altered.
    """

    def __init__(self, path: Path, experiment: Experiment, plan: Plan):
        self.path = path
        self._seeds = {spec.id: spec.seed for spec in plan.episodes}
        self.notes: list[str] = []
        """Repairs made when the folder was opened, in sentences."""
        require_links_inside(path, error=RunFolderError)
        _make_writable(path)
        self._lock = _FolderLock(path)
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
            self.require_planned(self.done.values(), path)
            self._note_lost_queries()
            self._ledger = (path / EPISODES).open("a", encoding="utf-8")
            self._queries = (path / QUERIES).open("a", encoding="utf-8")
        except BaseException:
            self._lock.close()
            raise

    def require_planned(self, records: Iterable[EpisodeRecord], source: Path) -> None:
        """Raise `RunFolderError` if records of a ledger are not in the plan, or have another seed than planned."""
        for record in records:
            if record.key not in self._seeds:
                raise RunFolderError(
                    f"{source / EPISODES} holds {episode_name(record.key)}, which is not in the plan. Use another "
                    "--out folder."
                )
            if record.seed != (planned := self._seeds[record.key]):
                raise RunFolderError(
                    f"{source / EPISODES}: {episode_name(record.key)} has the seed {record.seed}, by the plan "
                    f"{planned}. Restore the file from a copy, or use another --out folder."
                )

    def _note_lost_queries(self) -> None:
        file = self.path / QUERIES
        lines = enumerate(read_lines(file) if file.exists() else [], start=1)
        made = {
            key: len(queries)
            for key, queries in (queries_from_dict(p, f"{file}, line {n}") for n, p in lines)
        }
        lost = [key for key, r in self.done.items() if r.outcome != "error" and made.get(key, 0) != r.queries]
        if lost:
            self.notes.append(
                f"{QUERIES} lacks the queries of {len(lost)} episodes, which are not played again: there will be no "
                "latency table. Restore the file from a copy to have one."
            )

    def require_shard(self, planned: Collection[EpisodeKey]) -> None:
        """Raise `RunFolderError` if the folder holds episodes of another shard than these."""
        if others := self.done.keys() - set(planned):
            raise RunFolderError(
                f"{self.path} holds {len(others)} episodes of another shard, e.g. {episode_name(sorted(others)[0])}. "
                "Give each --shard an --out folder of its own; simloop merge joins them."
            )

    def _claim(self, experiment: Experiment, plan: Plan) -> None:
        config = self.path / CONFIG
        tasks = list(dict.fromkeys(spec.task for spec in plan.episodes))
        ours: dict[str, Any] = {
            "experiment": experiment.to_dict(),
            "tasks": tasks,
            "max_steps": {task: plan.max_steps[task] for task in tasks if task in plan.max_steps},
            "plan_sha256": plan.sha256,
        }
        if experiment.variants:
            ours["protocols"] = list(dict.fromkeys(spec.protocol for spec in plan.episodes))
        if experiment.stopping is not None:
            ours["pairs"] = [list(pair) for pair in plan.pairs]
        if config.exists():
            found = load_json(self.path, CONFIG)
            theirs = experiment_from_json(json.dumps(found.get("experiment")), str(config)).to_dict()
            earlier = RunIdentity(theirs, found.get("plan_sha256", ""))
            if differing := refusal(earlier, RunIdentity(ours["experiment"], plan.sha256), "resume"):
                raise RunFolderError(
                    f"{self.path} cannot be resumed: {differing}. Give the same options to resume it, or another "
                    "--out folder."
                )
        elif any(self.path.glob("*.jsonl")):
            raise RunFolderError(f"{self.path} holds records but no {CONFIG}. Use another --out folder.")
        else:
            write_atomically(config, json.dumps(ours, indent=2) + "\n")

    def append(
        self, record: EpisodeRecord, queries: list[QueryRecord], files: Mapping[str, bytes] | None = None
    ) -> None:
        """Add a finished episode; it counts once its ledger line, which is written last, is on the disk.

        Args:
          files: Video and step records of the episode, by path (`simloop.results.records.paths`).
        """
        if record.key in self.done:
            raise RunFolderError(f"Episode {record.key} is in the ledger already.")
        try:
            self._write(record, queries, files or {})
        except OSError as error:
            raise RunFolderError(
                f"{self.path} cannot take {episode_name(record.key)}: {error.strerror or error}. Earlier episodes are "
                "kept; make room and repeat the command to resume."
            ) from None
        self.done[record.key] = record

    def _write(self, record: EpisodeRecord, queries: list[QueryRecord], files: Mapping[str, bytes]) -> None:
        if record.video:
            videos = inside(self.path, record.video, error=RunFolderError).parent
            for stale in videos.glob(video_glob(record.task, record.episode)):
                stale.unlink()
        for path, content in files.items():
            file = inside(self.path, path, error=RunFolderError)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, content)
        _append(self._queries, queries_to_dict(record.key, queries))
        _append(self._ledger, record.to_dict())

    def close(self) -> None:
        """Release the folder."""
        for stream in (self._ledger, self._queries):
            with contextlib.suppress(OSError):  # What a full disk did not take was reported by `append`.
                stream.close()
        self._lock.close()

    def __enter__(self) -> RunFolder:
        """Return the folder; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_atomically(file: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a file so that readers see either the old content or the new.

    Args:
      durable: Flush the content and the name to the disk, so that they survive a power loss.
    """
    part = file.with_name(f".{file.name}.part")
    try:
        with part.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
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


class _FolderLock:
    """Exclusive lock of a run folder.

    The folder itself is locked, so that removing files does not let a second writer in, and the file `.lock`, for file
    systems such as NFS that lock no folders.

    Raises:
      RunFolderError: If another process holds it.
    """

    def __init__(self, path: Path):
        self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._file = os.open(path / ".lock", os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            for descriptor in (self._folder, self._file):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    if descriptor == self._folder and not isinstance(error, BlockingIOError):
                        continue
                    raise RunFolderError(
                        f"Another process is writing to {path}. Wait for it, or choose another --out folder."
                    ) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the lock."""
        os.close(self._folder)
        os.close(self._file)
