"""Transfer of checkpoints from the driver's machine to the nodes of a cluster where their policies run.

driver's machine                              node of a policy worker
list of files, sizes, times  ──────────────>  the same files at the same path, as on a shared disk: used in place
Sender  <── request for a part of a file ───  otherwise copied once into the cache folder, and kept
        ─── 32 MiB at a time, by Ray ──────>
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

from simloop.cache_folder import simloop_home
from simloop.harness.actors.factories import Factories
from simloop.harness.errors import SimloopError
from simloop.harness.planning.policy_names import PolicyLoader
from simloop.policies.interface import BatchedPolicy
from simloop.policies.models.inference_plan import InferencePlan

PART_BYTES = 32 * 2**20
AHEAD = 3
"""Parts requested at once, so that reading, sending and writing overlap."""

Read = Callable[[int, int], Any]
"""Returns Ray's reference to a part of a file: `read(index of the file, offset)`."""


class TransferError(SimloopError):
    """A checkpoint changed while it was transferred."""


@dataclass(frozen=True)
class File:
    """One file of a checkpoint."""

    path: str
    """Relative to the folder."""
    size: int
    changed_ns: int
    """Time of the last modification, which is the same on all machines of a shared disk."""


@dataclass(frozen=True)
class Listing:
    """The files of a checkpoint."""

    folder: Path
    """Absolute."""
    files: tuple[File, ...]

    @classmethod
    def of(cls, folder: Path) -> Listing:
        """List a folder; one that does not exist has no files."""
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
        """Name of the copy in the cache folder; a modification of the checkpoint changes it."""
        return hashlib.sha256(repr((str(self.folder), self.files)).encode()).hexdigest()[:16]


class Sender:
    """Ray actor on the driver's machine that reads parts of a checkpoint."""

    def __init__(self, listing: Listing):
        self._listing = listing

    def read(self, index: int, offset: int) -> bytes:
        """Return up to `PART_BYTES` of a file.

        Raises:
          TransferError: If the file has changed since it was listed.
        """
        file = self._listing.files[index]
        path = self._listing.folder / file.path
        with path.open("rb") as content:
            stat = os.fstat(content.fileno())
            if (stat.st_size, stat.st_mtime_ns) != (file.size, file.changed_ns):
                raise TransferError(
                    f"{path} has changed since the run began. Start again once the checkpoint is complete."
                )
            content.seek(offset)
            return content.read(PART_BYTES)


def start_sender(listing: Listing) -> Any:
    """Start a sender on this machine and return its Ray handle."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_concurrency": AHEAD, "scheduling_strategy": here}
    return ray.remote(Sender).options(**options).remote(listing)


@dataclass(frozen=True)
class TransferringLoader:
    """Load policies as a `PolicyLoader` does, with checkpoints of the driver's machine."""

    loader: PolicyLoader
    checkpoints: Mapping[str, tuple[Listing, Any]]
    """Listing and sender of each policy's checkpoint, by policy name."""

    def __call__(self, name: str, plan: InferencePlan | None = None) -> BatchedPolicy:
        """Load a policy by its name in the experiment."""
        if name not in self.checkpoints:
            return self.loader(name, plan)
        listing, sender = self.checkpoints[name]
        folder = local_copy(listing, sender.read.remote, simloop_home() / "checkpoints")
        return replace(self.loader, folders={name: folder})(name, plan)


def with_transfer(factories: Factories, policies: Mapping[str, Any]) -> tuple[Factories, list[Any]]:
    """Return factories for the nodes of a cluster, and the senders that must live until the end of the run."""
    loader = factories.policy
    if not isinstance(loader, PolicyLoader):
        return factories, []
    checkpoints = {}
    for name in policies:
        if "@" in loader.written.get(name, name) and (folder := loader.parse(name).checkpoint) is not None:
            listing = Listing.of(folder)
            checkpoints[name] = (listing, start_sender(listing))
    transferring = TransferringLoader(loader, checkpoints)
    return replace(factories, policy=transferring), [sender for _, sender in checkpoints.values()]


def local_copy(listing: Listing, read: Read, cache: Path) -> Path:
    """Return the folder of a checkpoint on this machine, after copying it into `cache` if necessary.

    Raises:
      TransferError: If it has changed since it was listed.
    """
    if Listing.of(listing.folder).files == listing.files:
        return listing.folder
    folder = cache / listing.digest
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{listing.digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # The workers of a node copy it once.
        if folder.is_dir():
            return folder
        partial = cache / f"{listing.digest}.part"
        shutil.rmtree(partial, ignore_errors=True)  # Left over from a process that was killed.
        for file, parts in _contents(listing, read):
            target = partial / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as content:
                content.writelines(parts)
        partial.mkdir(exist_ok=True)
        partial.rename(folder)
    return folder


def _contents(listing: Listing, read: Read) -> Iterator[tuple[File, Iterator[bytes]]]:
    """Yield each file with its parts, which are requested ahead of time across files."""
    wanted = (
        (index, offset)
        for index, file in enumerate(listing.files)
        for offset in range(0, file.size, PART_BYTES)
    )
    requested: deque[Any] = deque()

    def parts(file: File) -> Iterator[bytes]:
        for _ in range(0, file.size, PART_BYTES):
            while len(requested) < AHEAD and (part := next(wanted, None)) is not None:
                requested.append(read(*part))
            yield ray.get(requested.popleft())

    for file in listing.files:
        yield file, parts(file)
