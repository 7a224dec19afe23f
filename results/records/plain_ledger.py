"""Read ledgers of episodes at once, as data frames, where nothing in them is out of the ordinary.

Large runs are read ten times as fast as line by line. Whatever is unusual, be it damaged, of an older version or merely
rare, is left to `simloop.results.records.records.read_episodes`, which explains what is wrong.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from simloop.results.records.ledger import CHECKSUM_DIGITS, LedgerError
from simloop.results.records.records import FIELD_TYPES, EpisodeRecord
from simloop.untrusted import open_regular

if TYPE_CHECKING:  # Importing pandas costs a second and 50 MB.
    import pandas as pd

_TYPES = FIELD_TYPES[EpisodeRecord]
_BEFORE, _AFTER = b', "checksum": "', b'"}\n'
_TAIL = len(_BEFORE) + CHECKSUM_DIGITS + len(_AFTER)
_KEY = ["policy", "suite", "protocol", "task", "episode"]


def plain_ledger(path: Path) -> pd.DataFrame | None:
    """Read `episodes.jsonl` into a frame with a row per line; None if it is empty or anything in it is unusual.

    The frame equals that of `read_episodes`; checksums, types and contradictions are checked by the same rules.

    Raises:
      LedgerError: If the file is no regular file or cannot be read.
    """
    import pyarrow
    from pyarrow import json

    with open_regular(path, error=LedgerError) as file:
        content = file.read()
    if not content.isascii() or b"[" in content or not _has_checksums(content):
        return None
    kinds: dict[Any, Any] = {int: pyarrow.int64(), float: pyarrow.float64()}
    schema = pyarrow.schema(
        [(name, kinds.get(kind, pyarrow.string())) for name, kind in _TYPES.items()]
        + [("checksum", pyarrow.string())]
    )
    how = json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    try:
        table = json.read_json(io.BytesIO(content), parse_options=how).drop(["checksum"])
    except pyarrow.ArrowException:
        return None
    if any(column.null_count for column in table.columns):
        return None
    frame: pd.DataFrame = table.to_pandas()
    return None if _odd(frame) else frame


def _has_checksums(content: bytes) -> bool:
    """Whether the content is lines of one flat object each, with the checksum of what is before it."""
    return bool(content) and all(
        line.endswith(_AFTER)
        and line[-_TAIL : -_TAIL + len(_BEFORE)] == _BEFORE
        and line.count(b"{") == 1
        and hashlib.sha256(line[:-_TAIL]).hexdigest()[:CHECKSUM_DIGITS].encode()
        == line[-_TAIL + len(_BEFORE) : -len(_AFTER)]
        for line in io.BytesIO(content)
    )


def _odd(frame: pd.DataFrame) -> bool:
    """Whether `EpisodeRecord.from_dict` might refuse or change a row, or an episode is there twice."""
    literals = {name: get_args(kind) for name, kind in _TYPES.items() if get_args(kind)}
    least = {"episode": 0, "steps": 0, "queries": 0, "undecodable": 0, "attempts": 1, "max_steps": 1}
    outcome, ended_by = frame["outcome"], frame["ended_by"]
    return bool(
        any(not set(frame[name].unique()) <= set(known) for name, known in literals.items())
        or any((frame[name] < value).any() for name, value in least.items())
        or (frame["undecodable"] > frame["queries"]).any()
        or any(((outcome == end) != (ended_by == end)).any() for end in ("success", "error"))
        or ((frame["error"] != "") & (outcome != "error")).any()
        or frame.duplicated(_KEY).any()
    )
