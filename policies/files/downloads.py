"""Published files: fetched once, kept in the cache folder, and checked for changes.

Their publishers state no hashes, so the hash at the first use is recorded and compared at every later use.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from simloop.cache_folder import simloop_home

TIMEOUT_S = 60.0  # Without a byte received.
_BLOCK_BYTES = 1 << 20


class DownloadError(RuntimeError):
    """A published file that cannot be fetched or has changed since its first use."""

    user_facing = True


@dataclass(frozen=True)
class PublishedFile:
    """Address of a published file, and its path below the cache folder."""

    url: str
    cache_path: str

    @property
    def path(self) -> Path:
        """Path of the file on this machine."""
        return simloop_home() / self.cache_path

    def fetch(self) -> Path:
        """Download the file if it is absent, and compare its hash with that of its first use.

        Raises:
          DownloadError: If the file is absent and cannot be fetched, or has changed.
        """
        if not self.path.exists():
            self._download()
        self._compare_with_first_use()
        return self.path

    def _download(self) -> None:
        # Renamed when complete, so that a killed process leaves no partial file under the final name.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name, suffix=".part")
        try:
            with (
                os.fdopen(descriptor, "wb") as file,
                urllib.request.urlopen(self.url, timeout=TIMEOUT_S) as response,
            ):
                while block := response.read(_BLOCK_BYTES):
                    file.write(block)
            os.replace(part, self.path)
        except (urllib.error.URLError, OSError) as error:
            raise DownloadError(
                f"{self.path} does not exist and cannot be fetched from {self.url} ({error}). Copy it there "
                f"from a machine with network access, or set SIMLOOP_HOME to a folder with {self.cache_path}."
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
