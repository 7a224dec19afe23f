"""Published files: fetched once, kept in the cache folder, and compared with their known hash at every use."""

from __future__ import annotations

import os
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from simloop.cache_folder import simloop_home
from simloop.untrusted import file_sha256

TIMEOUT_S = 60.0  # Without a byte received.


class DownloadError(RuntimeError):
    """A published file that cannot be fetched, or has another content than the known one."""

    user_facing = True


@dataclass(frozen=True)
class PublishedFile:
    """A published file and its place below the cache folder."""

    url: str
    cache_path: str
    sha256: str
    size: int
    """Bytes."""

    @property
    def path(self) -> Path:
        """Path of the file on this machine."""
        return simloop_home() / self.cache_path

    def fetch(self) -> Path:
        """Download the file if it is absent, and check its content.

        Raises:
          DownloadError: If the file is absent and cannot be fetched, or has another content than the known one.
        """
        if not self.path.exists():
            self._download()
        self._require_known(self.path)
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
                file.write(response.read(self.size + 1))
            self._require_known(Path(part))
            os.replace(part, self.path)
        except (urllib.error.URLError, OSError) as error:
            raise DownloadError(
                f"{self.path} does not exist and cannot be fetched from {self.url} ({error}). Copy it there "
                f"from a machine with network access, or set SIMLOOP_HOME to a folder with {self.cache_path}."
            ) from error
        finally:
            Path(part).unlink(missing_ok=True)

    def _require_known(self, file: Path) -> None:
        size, sha256 = file.stat().st_size, file_sha256(file, error=DownloadError)
        if (size, sha256) != (self.size, self.sha256):
            found = file if file == self.path else self.url
            raise DownloadError(
                f"Wanted the published {self.path.name} of {self.size} bytes with sha256 {self.sha256}; got {size} "
                f"bytes with {sha256} from {found}. Delete {self.path} to fetch it again."
            )
