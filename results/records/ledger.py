"""Files that only grow, by lines that carry their own checksum.

A line is one JSON object in ASCII. Its last member is the checksum of all that stands before it:

    {"policy": "expert", "task": "reach-v3", "episode": 0, "checksum": "5f0c1d6a9b3e7724"}

A line that was altered, merged, split or cut is thereby noticed when it is read, and a person can
read it too. Only the end of a file may be incomplete, namely where its writer was killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHECKSUM_DIGITS = 16  # 64 bits: accidents are what is looked for, and lines stay readable.

_LINE = re.compile(rf'(\{{.+), "checksum": "([0-9a-f]{{{CHECKSUM_DIGITS}}})"\}}')


class LedgerError(ValueError):
    """A ledger holds something other than what its writer wrote; the text says where and what."""

    user_facing = True


class TornTail(UserWarning):
    """The last line of a ledger has no end: it is being written, or its writer was killed."""


def encode_line(payload: Mapping[str, Any]) -> str:
    """One line, newline included, that says `payload` and its checksum.

    Members keep their order. The same payload always gives the same line.

    Raises:
      ValueError: If the payload is empty, has a member `checksum`, or holds a number that JSON
        does not have (nan, inf).
    """
    if not payload or "checksum" in payload:
        raise ValueError(f"A ledger line needs members, none of them 'checksum'; got {sorted(payload)}.")
    text = json.dumps(payload, allow_nan=False)[:-1]
    return f'{text}, "checksum": "{_checksum(text)}"}}\n'


def decode_line(line: str, where: str) -> dict[str, Any]:
    """What a line says, without its checksum. `where` names the line in errors.

    Raises:
      LedgerError: If the line is not exactly one that `encode_line` wrote.
    """
    match = _LINE.fullmatch(line.removesuffix("\n"))
    if match is None:
        raise LedgerError(
            f"{where}: wanted a JSON object that ends in its checksum; got {_shortened(line)}. {_WHAT_TO_DO}"
        )
    text, said = match.groups()
    if _checksum(text) != said:
        raise LedgerError(
            f"{where}: the checksum of the line is {_checksum(text)} but the line says {said}, so it was "
            f"altered after it had been written. {_WHAT_TO_DO}"
        )
    payload: dict[str, Any] = json.loads(text + "}")
    return payload


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """What the lines of a file say, in their order; entry i is line i + 1.

    A last line without an end is left out with a `TornTail` warning.

    Raises:
      LedgerError: If any other line is not what was written.
    """
    *lines, tail = Path(path).read_bytes().split(b"\n")
    if tail:
        warnings.warn(
            f"{path}: line {len(lines) + 1} has no end and is left out: it is being written at this "
            "moment, or the run was killed while writing it and will play its episode again when resumed.",
            TornTail,
            stacklevel=2,
        )
    # What is not ASCII cannot have been written: its replacement fails the checksum.
    return [
        decode_line(line.decode("ascii", "replace"), f"{path}, line {number}")
        for number, line in enumerate(lines, start=1)
    ]


def repair_tail(path: str | Path) -> str | None:
    """Cut off a last line that has no end, so that lines can be appended; returns what was cut off.

    Only the one writer of a file may call this, before it appends. None where nothing was torn or
    there is no file yet.
    """
    path = Path(path)
    if not path.exists():
        return None
    with path.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole == len(content):
            return None
        file.truncate(whole)
        file.flush()
        os.fsync(file.fileno())
    return content[whole:].decode("ascii", "replace")


_WHAT_TO_DO = (
    "Restore the file from a copy; or, if the run may be resumed, remove the line and resume, which plays "
    "its episode again."
)


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:CHECKSUM_DIGITS]


def _shortened(text: str, limit: int = 60) -> str:
    return repr(text) if len(text) <= limit else f"{text[:limit]!r}... ({len(text)} characters)"
