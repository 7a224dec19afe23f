"""Read what others wrote: names that stay inside a folder, bounded sizes, plain text for terminals.

Run folders, datasets and checkpoints travel between machines. Every name, file and text that comes from one passes
through this module before it is opened, parsed or printed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

MAX_JSON_BYTES = 64 << 20
MAX_TOML_BYTES = 1 << 20
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""Beginning of the text that Git keeps in place of a large file."""
MAX_JSON_DEPTH = 100
"""Nested lists and objects; files of simloop, openpi and LeRobot have about ten."""


class UntrustedInputError(ValueError):
    """A file or name from elsewhere that is refused; the text states which and why."""

    user_facing = True


def inside(folder: Path, name: str, *, error: type[Exception] = UntrustedInputError) -> Path:
    """Return the path of a name below a folder.

    Args:
      folder: May itself be a link.
      name: Relative path with slashes, as files of the folder state it; need not exist.
      error: Type of the exception.

    Raises:
      UntrustedInputError: If the name is empty, absolute or contains `..`, or a link on its way leaves the folder.
    """
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
        raise error(
            f"{folder} names the file {name!r}: wanted a relative path inside the folder, without '..'. Do not trust "
            "this folder."
        )
    path = folder / name
    try:
        stays = path.resolve().is_relative_to(folder.resolve())
        if stays:
            path.exists()  # Raises if there can be no such file.
    except (OSError, RuntimeError) as problem:  # Links in a circle, or a name that is too long.
        raise error(f"{folder} names the file {name!r}, which cannot be found: {problem}.") from problem
    if not stays:
        raise error(_leaves(path))
    return path


def require_links_inside(folder: Path, *, error: type[Exception] = UntrustedInputError) -> None:
    """Check that no symbolic link below a folder leaves it.

    In a snapshot of a Hugging Face cache, whose files are links, they may point to the `blobs` beside the snapshots.

    Raises:
      UntrustedInputError: If one does.
    """
    roots = [folder.resolve()]
    if roots[0].parent.name == "snapshots":
        roots.append(roots[0].parent.parent / "blobs")
    for link in _links(folder):
        try:
            target = link.resolve()
        except (OSError, RuntimeError) as problem:
            raise error(f"{link} is a link that leads nowhere: {problem}.") from problem
        if not any(target.is_relative_to(root) for root in roots):
            raise error(_leaves(link))


def _links(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        yield from (path for name in (*folders, *files) if (path := Path(place, name)).is_symlink())


def _leaves(path: Path) -> str:
    return (
        f"{path} is, or lies behind, a symbolic link that leaves its folder. Copy the file to its place if you trust "
        "it."
    )


def open_regular(path: Path, *, error: type[Exception] = UntrustedInputError) -> io.BufferedReader:
    """Open a regular file for reading.

    Raises:
      UntrustedInputError: If it is a folder, a device, a pipe or the pointer of Git LFS, or cannot be opened.
    """
    try:
        stream = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 -- returned open
    except (OSError, ValueError) as problem:
        raise error(f"{path} cannot be read: {getattr(problem, 'strerror', None) or problem}.") from problem
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise error(f"{path} cannot be read: it is no regular file.")
    if stream.peek(len(LFS_POINTER)).startswith(LFS_POINTER):
        stream.close()
        raise error(
            f"{path} is a Git LFS pointer in place of the file itself. Run 'git lfs pull' in its repository, or "
            "download the file."
        )
    return stream


def read_bytes(path: Path, limit: int, *, error: type[Exception] = UntrustedInputError) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises:
      UntrustedInputError: If it is larger, or as `open_regular`.
    """
    with open_regular(path, error=error) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise error(f"{path} is larger than {limit} bytes, the most that is read of such a file.")
    return content


def file_sha256(path: Path, *, error: type[Exception] = UntrustedInputError) -> str:
    """Hash of a regular file of any size.

    Raises:
      UntrustedInputError: As `open_regular`.
    """
    with open_regular(path, error=error) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # Opening a pipe would wait for its writer.


def parse_json(
    text: str | bytes, where: str, *, remedy: str = "", error: type[Exception] = UntrustedInputError
) -> Any:
    """Parse JSON that is nested at most `MAX_JSON_DEPTH` times.

    Args:
      where: Name of the text in errors.
      remedy: Sentence that ends the message of the error.

    Raises:
      UntrustedInputError: If it is anything else.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
        if _depth(text) > MAX_JSON_DEPTH:
            raise ValueError(f"it is nested more than {MAX_JSON_DEPTH} times")
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise error(f"{where} is not JSON: {problem}. {remedy}".rstrip()) from problem


def _depth(text: str) -> int:
    """Upper bound of the nesting of a JSON text; exact where it has many brackets."""
    brackets = text.count("[") + text.count("{")
    if brackets <= MAX_JSON_DEPTH:
        return brackets
    depth = deepest = 0
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text):
        if token[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token[0] in "]}":
            depth -= 1
    return deepest


def read_json_object(
    path: Path,
    *,
    limit: int = MAX_JSON_BYTES,
    remedy: str = "",
    error: type[Exception] = UntrustedInputError,
) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
      UntrustedInputError: As `read_bytes` and `parse_json`, and if it is JSON of another type.
    """
    content = parse_json(read_bytes(path, limit, error=error), str(path), remedy=remedy, error=error)
    if not isinstance(content, dict):
        raise error(f"{path}: wanted a JSON object; got a {type(content).__name__}. {remedy}".rstrip())
    return content


def parse_toml(text: str, where: str, *, error: type[Exception] = UntrustedInputError) -> dict[str, Any]:
    """Parse TOML. `where` names the text in errors.

    Raises:
      UntrustedInputError: If it is anything else, or nested too deeply.
    """
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as problem:
        raise error(f"{where} is no TOML: {problem}.") from problem


def read_toml(path: Path, *, error: type[Exception] = UntrustedInputError) -> dict[str, Any]:
    """Read a TOML file of at most `MAX_TOML_BYTES`.

    Raises:
      UntrustedInputError: As `read_bytes` and `parse_toml`.
    """
    content = read_bytes(path, MAX_TOML_BYTES, error=error)
    try:
        text = content.decode()
    except UnicodeDecodeError as problem:
        raise error(f"{path} is no TOML: {problem}.") from problem
    return parse_toml(text, str(path), error=error)


def arrays_from_npz(content: bytes, *, limit: int | None = None) -> dict[str, np.ndarray]:
    """Read a NumPy archive without pickles.

    Args:
      limit: Most bytes of its arrays together; None if they are not compressed, so that they have the size of the
        archive.

    Raises:
      ValueError: If it is anything else.
    """
    import numpy as np

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
        if limit is None and any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("an entry is compressed")
        most = len(content) if limit is None else limit
        if sum(entry.file_size for entry in entries) > most:
            raise ValueError(f"its entries have more than {most} bytes")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as problem:  # zipfile and NumPy fail in many ways on damaged bytes.
        raise ValueError(
            f"not {'an uncompressed' if limit is None else 'a'} NumPy archive ({type(problem).__name__}: {problem})"
        ) from problem


_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # All but tab and newline.
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # Marks that reorder the text around them.
    "\u2028\u2029\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Replace characters that control a terminal, reorder text or cannot be encoded by their codes, as in `\\x1b`."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)
