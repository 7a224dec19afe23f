"""A checkpoint that lies on the driver's machine, on the machine of the cluster where its policy runs.

driver's machine                              machine of a policy worker
list of files, sizes, times  ──────────────>  the same files under the same path, as on a shared disk: used there
Sender  <── a piece of a file, please ──      else fetched once into the cache folder, and kept
        ── 32 MiB at a time, by Ray ──>
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from simloop.harness.actors.factories import Factories
from simloop.harness.errors import SimloopError
from simloop.harness.planning.policy_names import PolicyLoader
from simloop.policies.files.cache_folder import simloop_home
from simloop.policies.interface import BatchedPolicy
from simloop.policies.models.inference_plan import InferencePlan

PIECE_BYTES = 32 * 2**20
AHEAD = 3  # Pieces under way at once, so that reading, sending and writing go on together.

Read = Callable[[int, int], Any]
"""Ray's reference to the piece of a file: `read(number of the file, offset)`."""


class TransferError(SimloopError):
    """A checkpoint that changed while it was sent."""


@dataclass(frozen=True)
class File:
    """One file of a checkpoint."""

    path: str
    """Within the folder."""
    size: int
    changed_ns: int
    """When its content last changed: the same on all machines of a shared disk."""


@dataclass(frozen=True)
class Listing:
    """What is in a checkpoint's folder."""

    folder: Path
    """Absolute."""
    files: tuple[File, ...]

    @classmethod
    def of(cls, folder: Path) -> Listing:
        """Look into a folder, which may not be there."""
        folder = folder.absolute()
        files = []
        for parent, _, names in os.walk(folder, followlinks=True):
            for name in names:
                path = Path(parent, name)
                stat = path.stat()
                files.append(File(path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns))
        return cls(folder, tuple(sorted(files, key=lambda file: file.path)))

    @property
    def digest(self) -> str:
        """By which what was fetched is found again: another time of change is another checkpoint."""
        return hashlib.sha256(repr((str(self.folder), self.files)).encode()).hexdigest()[:16]


class Sender:
    """Reads pieces of a checkpoint; a Ray actor on the driver's machine."""

    def __init__(self, listing: Listing):
        self._listing = listing

    def read(self, number: int, offset: int) -> bytes:
        """A piece of one of the files.

        Raises:
          TransferError: If it is not the file that was listed any more.
        """
        file = self._listing.files[number]
        path = self._listing.folder / file.path
        with path.open("rb") as content:
            stat = os.fstat(content.fileno())
            if (stat.st_size, stat.st_mtime_ns) != (file.size, file.changed_ns):
                raise TransferError(
                    f"{path} has changed since the run began. Start again when nobody writes to the checkpoint."
                )
            content.seek(offset)
            return content.read(PIECE_BYTES)


def start_sender(listing: Listing) -> Any:
    """A sender on this machine."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_concurrency": AHEAD, "scheduling_strategy": here}
    return ray.remote(Sender).options(**options).remote(listing)


@dataclass(frozen=True)
class FetchedPolicies:
    """Load policies as a `PolicyLoader` does, with checkpoints fetched from the driver's machine."""

    loader: PolicyLoader
    checkpoints: Mapping[str, tuple[Listing, Any]]
    """Content of each policy's checkpoint folder, and the Ray actor that sends it."""

    def __call__(self, name: str, plan: InferencePlan | None = None) -> BatchedPolicy:
        """The policy of that name in the experiment."""
        if name not in self.checkpoints:
            return self.loader(name, plan)
        listing, sender = self.checkpoints[name]
        folder = fetched(listing, sender.read.remote, simloop_home() / "checkpoints")
        return replace(self.loader, folders={name: folder})(name, plan)


def travelling(sources: Factories, policies: Mapping[str, Any]) -> tuple[Factories, list[Any]]:
    """Sources for the machines of a cluster, and the senders that they need until the run has ended."""
    loader = sources.policy
    if not isinstance(loader, PolicyLoader):
        return sources, []
    found = {}
    for name in policies:
        if "@" in loader.written.get(name, name) and (folder := loader.parse(name).checkpoint) is not None:
            listing = Listing.of(folder)
            found[name] = (listing, start_sender(listing))
    return replace(sources, policy=FetchedPolicies(loader, found)), [sender for _, sender in found.values()]


def fetched(listing: Listing, read: Read, kept: Path) -> Path:
    """The folder of a checkpoint on this machine, after fetching it into `kept` if need be.

    Raises:
      TransferError: If it has changed since it was listed.
    """
    if Listing.of(listing.folder).files == listing.files:
        return listing.folder
    folder = kept / listing.digest
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / f"{listing.digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Workers of one machine fetch once.
        if folder.is_dir():
            return folder
        part = kept / f"{listing.digest}.part"
        shutil.rmtree(part, ignore_errors=True)  # Of one that was killed.
        for file, pieces in _pieces(listing, read):
            target = part / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as content:
                for piece in pieces:
                    content.write(piece)
        part.mkdir(exist_ok=True)
        part.rename(folder)
    return folder


def _pieces(listing: Listing, read: Read) -> Iterator[tuple[File, Iterator[bytes]]]:
    """Each file with its content; pieces are asked for ahead, across files."""
    wanted = (
        (number, offset)
        for number, file in enumerate(listing.files)
        for offset in range(0, file.size, PIECE_BYTES)
    )
    asked: deque[Any] = deque()

    def content(file: File) -> Iterator[bytes]:
        for _ in range(0, file.size, PIECE_BYTES):
            while len(asked) < AHEAD and (piece := next(wanted, None)) is not None:
                asked.append(read(*piece))
            yield ray.get(asked.popleft())

    for file in listing.files:
        yield file, content(file)
