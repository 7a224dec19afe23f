"""Plain tables of episodes, queries, steps, poses and contacts as Parquet files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from simloop.harness.errors import SimloopError
from simloop.harness.export.exported_episode import ExportedEpisode
from simloop.results.records.step_records import RecordedStep, StepHeader

Row = dict[str, Any]
TABLES = ("episodes", "queries", "steps", "poses", "contacts")
POSE = ("x_m", "y_m", "z_m", "quat_w", "quat_x", "quat_y", "quat_z")


class TableError(SimloopError):
    """Episodes that do not fit into one table."""


def write_tables(episodes: Iterable[ExportedEpisode], out: Path) -> list[Path]:
    """Write a file for each table, with a row group for each episode.

    Rows name their episode by `policy`, `suite`, `protocol`, `task` and `episode`, and their step by `step`.

    Raises:
      TableError: If two episodes have states or actions of different names.
    """
    files = {table: out / f"{table}.parquet" for table in TABLES}
    writers: dict[str, pq.ParquetWriter] = {}
    with contextlib.ExitStack() as stack:
        for episode in episodes:
            schemas = _schemas(episode.records.header)
            for table, rows in _rows(episode).items():
                if table not in writers:
                    writers[table] = stack.enter_context(pq.ParquetWriter(files[table], schemas[table]))
                if writers[table].schema != schemas[table]:
                    raise TableError(
                        f"{episode.name} has other entries of states or actions than the episodes before it. Export "
                        "the episodes of each task on their own."
                    )
                writers[table].write_table(pa.Table.from_pylist(rows, schemas[table]))
    return list(files.values())


def _schemas(header: StepHeader) -> dict[str, pa.Schema]:
    key = {"policy": pa.string(), "suite": pa.string(), "protocol": pa.string(), "task": pa.string()}
    key["episode"] = pa.int64()
    numbers, doubles = pa.list_(pa.float32()), pa.float64()
    episodes = {"seed": pa.int64(), "outcome": pa.string(), "success": pa.bool_(), "ended_by": pa.string()}
    episodes |= {"steps": pa.int64(), "queries": pa.int64(), "reward": doubles, "instruction": pa.string()}
    episodes |= {"control_hz": doubles}
    queries = {"query": pa.int64(), "step": pa.int64(), "instruction": pa.string(), "key": pa.uint64()}
    queries |= {"state": numbers, "chunk": pa.list_(numbers), "undecodable": pa.bool_(), "total_ms": doubles}
    steps = {
        "query": pa.int64(),
        "step": pa.int64(),
        "time_s": doubles,
        "reward": doubles,
        "success": pa.bool_(),
    }
    steps |= {"chunk_index": pa.int64(), "index_in_chunk": pa.int64()}
    steps |= {f"action.{name}": pa.float32() for name in header.action_names}
    steps |= {f"executed.{name}": pa.float32() for name in header.action_names}
    steps |= {f"state.{name}": pa.float32() for name in header.state_names}
    poses = {"step": pa.int64(), "thing": pa.string(), **dict.fromkeys(POSE, doubles), "held": pa.bool_()}
    contacts = {"step": pa.int64(), "gripper": pa.string(), "other": pa.string(), "force_n": doubles}
    columns = zip(TABLES, (episodes, queries, steps, poses, contacts), strict=True)
    return {table: pa.schema(key | of_table) for table, of_table in columns}


def _rows(episode: ExportedEpisode) -> dict[str, list[Row]]:
    header, records = episode.records.header, episode.records
    key = dict(zip(("policy", "suite", "protocol", "task", "episode"), header.key, strict=True))
    queries = [
        {
            **{name: getattr(query, name) for name in ("query", "step", "instruction", "key", "state")},
            "chunk": list(query.chunk),
            "undecodable": query.undecodable is not None,
            "total_ms": query.latency and query.latency.total_ms,
        }
        for query in records.queries
    ]
    steps = [_step(header, query.query, step) for query in records.queries for step in query.steps]
    poses = [
        {
            "step": step.step,
            "thing": thing,
            **dict(zip(POSE, pose, strict=True)),
            "held": thing in (step.held or ()),
        }
        for step in records.steps
        for thing, pose in (step.poses or {}).items()
    ]
    contacts = [
        {"step": step.step, "gripper": gripper, "other": other, "force_n": force_n}
        for step in records.steps
        for gripper, other, force_n in step.contacts or ()
    ]
    of_tables: tuple[list[Row], ...] = (
        [{**episode.metadata, "control_hz": header.control_hz}],
        queries,
        steps,
        poses,
        contacts,
    )
    return {table: [key | row for row in rows] for table, rows in zip(TABLES, of_tables, strict=True)}


def _step(header: StepHeader, query: int, step: RecordedStep) -> Row:
    plain = ("step", "reward", "success", "chunk_index", "index_in_chunk")
    return {
        "query": query,
        **{name: getattr(step, name) for name in plain},
        "time_s": (step.step + 1) / header.control_hz,
        **_entries("action", header.action_names, step.action),
        **_entries("executed", header.action_names, step.executed),
        **_entries("state", header.state_names, step.state),
    }


def _entries(prefix: str, names: Sequence[str], values: np.ndarray | None) -> Row:
    return (
        {}
        if values is None
        else {f"{prefix}.{name}": value for name, value in zip(names, values, strict=True)}
    )
