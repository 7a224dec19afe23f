"""Published files that are fetched once, kept in the cache folder, and never change unnoticed.

The publishers of these files name no hashes. So the hash is recorded when a file is first used, and
compared at every later use.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from simloop.policies.files.cache_folder import simloop_home

SILENCE_S = 60.0  # On the wire, after which a download is given up.
_BLOCK_BYTES = 1 << 20


class DownloadError(RuntimeError):
    """A published file that cannot be had, or is no longer what it was."""


@dataclass(frozen=True)
class PublishedFile:
    """Where a file is published, and where it lies under the cache folder once it has been fetched."""

    url: str
    place: str

    @property
    def path(self) -> Path:
        """Where the file lies on this machine."""
        return simloop_home() / self.place

    def fetch(self) -> Path:
        """The file, downloaded if it is absent, and compared with its first use.

        Raises:
          DownloadError: If it can neither be found nor fetched, or has changed.
        """
        if not self.path.exists():
            self._download()
        self._compare_with_first_use()
        return self.path

    def _download(self) -> None:
        """Fetch into a file beside the place and move it there whole: a killed run leaves no half."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name, suffix=".part")
        try:
            with (
                os.fdopen(descriptor, "wb") as file,
                urllib.request.urlopen(self.url, timeout=SILENCE_S) as answer,
            ):
                while block := answer.read(_BLOCK_BYTES):
                    file.write(block)
            os.replace(part, self.path)
        except (urllib.error.URLError, OSError) as error:
            raise DownloadError(
                f"{self.path} does not exist and cannot be fetched from {self.url} ({error}). Fetch it on a "
                f"machine with network and put it there, or set SIMLOOP_HOME to a folder with {self.place}."
            ) from error
        finally:
            Path(part).unlink(missing_ok=True)

    def _compare_with_first_use(self) -> None:
        record = self.path.with_name(self.path.name + ".sha256")
        found = hashlib.sha256(self.path.read_bytes()).hexdigest()
        try:
            first = record.read_text().strip()
        except FileNotFoundError:
            record.write_text(found + "\n")
            return
        if first != found:
            raise DownloadError(
                f"{self.path} has changed: its sha256 was {first} at its first use and is {found} now. "
                f"Delete it and {record.name} to fetch it again; results from before and after may differ."
            )
