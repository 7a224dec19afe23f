"""The records of a run as data frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from simloop.results.records.ledger import LedgerError, read_lines
from simloop.results.records.plain_ledger import plain_ledger
from simloop.results.records.records import (
    EPISODES,
    FIELD_TYPES,
    QUERIES,
    EpisodeRecord,
    QueryRecord,
    episode_name,
    file_of,
    query_columns,
    read_episodes,
    run_folder,
)

if TYPE_CHECKING:  # Importing pandas costs a second and 50 MB.
    import pandas as pd


def load(run: str | Path) -> pd.DataFrame:
    """Read the finished episodes of a run: one row each, one column per field of `EpisodeRecord`.

    Rows are sorted by suite, protocol, policy, task and episode, so that they do not depend on the order in which
    episodes finished. May be called during the run.

    Raises:
      LedgerError: If the folder is no run folder, or the ledger was altered or holds an episode twice.
    """
    path = file_of(run_folder(run), EPISODES)
    if path.exists() and (frame := plain_ledger(path)) is not None:
        return _sorted(frame, [])
    episodes = read_episodes(run)
    types = FIELD_TYPES[EpisodeRecord]
    return _frame({name: [getattr(e, name) for e in episodes] for name in types}, types, [])


def load_queries(run: str | Path, episodes: pd.DataFrame | None = None) -> pd.DataFrame:
    """The queries of the finished episodes of a run: a row each, sorted as in `load`.

    Columns: policy, weights, suite, protocol, task, episode, outcome; and the fields of `QueryRecord`.
    Lines of queries without an episode in the ledger are left out, for their episode never
    finished. Where it was played again after such a line, its last line counts.

    Args:
      episodes: As from `load`; read if None.

    Raises:
      LedgerError: If a file was altered, or the two do not tell of the same queries.
    """
    if episodes is None:  # Read them first: an episode's queries are on the disk before the episode is.
        episodes = load(run)
    path = file_of(Path(run), QUERIES)
    lines = enumerate(read_lines(path) if path.exists() else [], start=1)
    made = dict(query_columns(payload, f"{path}, line {number}") for number, payload in lines)

    names = ("policy", "weights", "suite", "protocol", "task", "episode", "outcome")
    types = {name: FIELD_TYPES[EpisodeRecord][name] for name in names} | FIELD_TYPES[QueryRecord]
    table: dict[str, list[Any]] = {name: [] for name in types}
    asked = episodes if made else episodes[episodes["queries"] > 0]
    episode: Any
    for episode in asked[[*names, "queries"]].itertuples(index=False):
        key = (episode.policy, episode.suite, episode.protocol, episode.task, episode.episode)
        columns = made.get(key, {})
        count = len(columns.get("index", ()))
        # How many queries of an episode that broke off were kept depends on where it broke off.
        if count != episode.queries and episode.outcome != "error":
            raise LedgerError(
                f"{path}: wanted the {episode.queries} queries that {EPISODES} says "
                f"{episode_name(key)} made; got {count}. Restore the file from a copy."
            )
        if count:
            for name in names:
                table[name] += [getattr(episode, name)] * count
            for name, column in columns.items():
                table[name] += column
    return _frame(table, types, ["index"])


def _frame(table: dict[str, list[Any]], types: dict[str, Any], last: list[str]) -> pd.DataFrame:
    import pandas as pd

    dtypes = {name: kind if kind in (int, float) else str for name, kind in types.items()}
    frame = pd.DataFrame({name: pd.Series(table[name], dtype=dtype) for name, dtype in dtypes.items()})
    return _sorted(frame, last)


def _sorted(frame: pd.DataFrame, last: list[str]) -> pd.DataFrame:
    return frame.sort_values(["suite", "protocol", "policy", "task", "episode", *last], ignore_index=True)
