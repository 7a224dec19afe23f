"""Append-only JSON-lines files with a checksum per line.

A line is one JSON object in ASCII. Its last member is the checksum of the text before it:

    {"policy": "expert", "task": "reach-v3", "episode": 0, "checksum": "5f0c1d6a9b3e7724"}

Reading detects lines that were altered, merged, split or cut, and the lines stay readable as text. The last line
of a file may be incomplete if its writer was killed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simloop.untrusted import open_regular, parse_json

CHECKSUM_DIGITS = 16  # 64 bits detect accidents, and lines stay readable.

MAX_LINE_BYTES = 64 << 20
"""More than the queries of an episode of 100 000 steps take."""

_LINE = re.compile(rf'(\{{.+), "checksum": "([0-9a-f]{{{CHECKSUM_DIGITS}}})"\}}')


class LedgerError(ValueError):
    """A ledger holds something other than what its writer wrote; the text states where and what."""

    user_facing = True


class TornTail(UserWarning):
    """The last line of a ledger is incomplete: it is being written, or its writer was killed."""


def encode_line(payload: Mapping[str, Any]) -> str:
    """Encode a payload and its checksum as one line, newline included.

    Members keep their order, and equal payloads give equal lines.

    Raises:
      ValueError: If the payload is empty, has a member `checksum`, or holds a number that JSON
        cannot represent (nan, inf).
    """
    if not payload or "checksum" in payload:
        raise ValueError(f"A ledger line needs members, none of them 'checksum'; got {sorted(payload)}.")
    text = json.dumps(payload, allow_nan=False)[:-1]
    return f'{text}, "checksum": "{_checksum(text)}"}}\n'


def decode_line(line: str, where: str) -> dict[str, Any]:
    """Decode the payload of a line. `where` names the line in errors.

    Raises:
      LedgerError: If the line is not exactly one that `encode_line` wrote.
    """
    match = _LINE.fullmatch(line.removesuffix("\n"))
    if match is None:
        raise LedgerError(
            f"{where}: wanted a JSON object that ends in its checksum; got {_shortened(line)}. {_WHAT_TO_DO}"
        )
    text, checksum = match.groups()
    if _checksum(text) != checksum:
        raise LedgerError(
            f"{where}: wanted the checksum {_checksum(text)}; the line has {checksum}, so it was altered after it had "
            f"been written. {_WHAT_TO_DO}"
        )
    payload: dict[str, Any] = parse_json(text + "}", where, remedy=_WHAT_TO_DO, error=LedgerError)
    return payload


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """Read the payloads of all lines of a file; entry i is line i + 1.

    An incomplete last line is left out with a `TornTail` warning.

    Raises:
      LedgerError: If any other line was altered.
    """
    payloads = []
    with open_regular(Path(path), error=LedgerError) as file:
        for number in itertools.count(1):
            line = file.readline(MAX_LINE_BYTES)
            if line and not line.endswith(b"\n"):
                if len(line) == MAX_LINE_BYTES:
                    raise LedgerError(
                        f"{path}, line {number} is longer than {MAX_LINE_BYTES} bytes. {_WHAT_TO_DO}"
                    )
                warnings.warn(
                    f"{path}: line {number} is incomplete and left out. It is being written, or the run was killed "
                    "while writing it and plays the episode again when it is resumed.",
                    TornTail,
                    stacklevel=2,
                )
                break
            if not line:
                break
            # Bytes that are not ASCII were not written by `encode_line`: their replacement fails the checksum.
            payloads.append(decode_line(line.decode("ascii", "replace"), f"{path}, line {number}"))
    return payloads


def repair_tail(path: str | Path) -> str | None:
    """Cut off an incomplete last line, so that lines can be appended.

    Only the writer of a file may call this, before it appends. Returns the text that was cut off, or None if the
    last line was complete or there is no file yet.
    """
    path = Path(path)
    if not path.exists():
        return None
    with path.open("r+b") as file:
        content = file.read()
        complete = content.rfind(b"\n") + 1
        if complete == len(content):
            return None
        file.truncate(complete)
        file.flush()
        os.fsync(file.fileno())
    return content[complete:].decode("ascii", "replace")


_WHAT_TO_DO = (
    "Restore the file from a copy; or remove the line and resume the run, which plays the episode again."
)


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:CHECKSUM_DIGITS]


def _shortened(text: str, limit: int = 60) -> str:
    return repr(text) if len(text) <= limit else f"{text[:limit]!r}... ({len(text)} characters)"
