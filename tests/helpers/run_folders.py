"""Folders of runs as the harness writes them, from chosen episodes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from simloop.results.records.ledger import encode_line
from simloop.results.records.records import EpisodeRecord, QueryRecord, queries_to_dict

EPISODE = EpisodeRecord(
    policy="expert",
    weights="scripted",
    suite="metaworld",
    protocol="metaworld/default-v1",
    task="reach-v3",
    episode=0,
    seed=7,
    outcome="success",
    ended_by="success",
    steps=42,
    queries=0,
    undecodable=0,
    reward=1.5,
    attempts=1,
    error="",
    actions_sha256="ab" * 32,
    final_state_sha256="cd" * 32,
    wall_s=0.25,
    video="",
)

QUERY = QueryRecord(
    index=0,
    render_ms=4.0,
    adapt_ms=0.5,
    retry_ms=0.0,
    transport_ms=1.0,
    queue_ms=1.5,
    host_ms=0.5,
    device_ms=16.0,
    post_ms=1.0,
    turn_ms=0.5,
    total_ms=25.0,
    batch=3,
    bucket=4,
)


def failed(episode: EpisodeRecord) -> EpisodeRecord:
    """The same episode, had it run into the step limit."""
    return dataclasses.replace(episode, outcome="failure", ended_by="step_limit", steps=500)


def broken(episode: EpisodeRecord, error: str = "RuntimeError: the simulator diverged") -> EpisodeRecord:
    """The same episode, had it ended in an error."""
    return dataclasses.replace(
        episode, outcome="error", ended_by="error", error=error, steps=0, queries=0, attempts=3
    )


def episodes(successes: int, failures: int = 0, errors: int = 0, **fields: Any) -> list[EpisodeRecord]:
    """As many episodes of one policy and task: successes first, then failures, then errors."""
    base = dataclasses.replace(EPISODE, **fields)
    numbered = [
        dataclasses.replace(base, episode=i, seed=1000 + i) for i in range(successes + failures + errors)
    ]
    return [
        *numbered[:successes],
        *map(failed, numbered[successes : successes + failures]),
        *map(broken, numbered[successes + failures :]),
    ]


def with_queries(
    record: EpisodeRecord, totals_ms: Sequence[float]
) -> tuple[EpisodeRecord, list[QueryRecord]]:
    """An episode that made a query of each duration; what differs is spent on the device."""
    rest_ms = QUERY.total_ms - QUERY.device_ms
    queries = [
        dataclasses.replace(QUERY, index=i, total_ms=total, device_ms=total - rest_ms)
        for i, total in enumerate(totals_ms)
    ]
    return dataclasses.replace(record, queries=len(queries)), queries


def write_run(
    folder: Path,
    records: Iterable[EpisodeRecord],
    queries: Iterable[tuple[EpisodeRecord, Sequence[QueryRecord]]] = (),
    config: dict[str, Any] | None = None,
    provenance: dict[str, Any] | None = None,
) -> Path:
    """Write a run folder; `queries` holds the queries of some of the episodes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or {}))
    (folder / "provenance.json").write_text(json.dumps(provenance or {}))
    (folder / "episodes.jsonl").write_text("".join(encode_line(record.to_dict()) for record in records))
    (folder / "queries.jsonl").write_text(
        "".join(encode_line(queries_to_dict(record.key, made)) for record, made in queries)
    )
    return folder
