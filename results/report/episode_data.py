"""Data of the page of an episode, from its row of the ledger and, where there are any, its step records."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from simloop.results.diagnosis import Failure
from simloop.results.records.explanations import StoredExplanation
from simloop.results.records.records import EpisodeRecord, QueryRecord
from simloop.results.records.step_records import RecordedQuery, RecordedStep, StepRecords
from simloop.results.report.page_data import number, numbers, text
from simloop.results.report.sprites import columns_of
from simloop.results.tables.fork_table import ForkPoint

STAGES = tuple(
    field.name.removesuffix("_ms")
    for field in dataclasses.fields(QueryRecord)
    if field.name.endswith("_ms") and field.name != "total_ms"
)
"""Stages of a query's latency in the order in which they are drawn."""


def ledger_data(record: EpisodeRecord, policy: str) -> dict[str, Any]:
    """What the ledger says of an episode; `policy` is its name on the page."""
    return {
        "policy": text(policy),
        "suite": text(record.suite),
        "protocol": text(record.protocol),
        "task": text(record.task),
        "number": record.episode,
        "seed": record.seed,
        "outcome": record.outcome,
        "ended_by": record.ended_by,
        "steps": record.steps,
        "max_steps": record.max_steps,
        "queries": record.queries,
        "undecodable": record.undecodable,
        "reward": number(record.reward),
        "attempts": record.attempts,
        "error": text(record.error),
        "wall_s": number(record.wall_s),
        "stages": list(STAGES),
    }


def latency_data(queries: Iterable[QueryRecord]) -> list[list[float | None]]:
    """Milliseconds of every query by stage."""
    return [_stages(query) for query in queries]


def failure_data(failure: Failure) -> dict[str, Any]:
    """The ending of a failed episode."""
    return {"name": text(failure.ending), "step": failure.step, "query": failure.query}


def fork_data(points: Sequence[ForkPoint]) -> list[dict[str, Any]]:
    """Success of the continuations of an episode, by variant and query."""
    return [
        {
            "variant": text(variant),
            "points": [
                {
                    "query": point.query,
                    "rate": number(point.rate),
                    "low": number(point.interval.low),
                    "high": number(point.interval.high),
                    "count": len(point.outcomes),
                }
                for point in points
                if point.variant == variant
            ],
        }
        for variant in dict.fromkeys(point.variant for point in points)
    ]


def explanation_data(explanations: Mapping[int, StoredExplanation]) -> dict[str, Any]:
    """By number of the query, what is drawn of its explanation: attention, spread, and distances of images."""
    return {
        str(query): {
            "cameras": {
                text(camera.camera): {"side": camera.side, "weights": numbers(camera.weights)}
                for camera in one.cameras
            },
            "shares": {text(name): number(share) for name, share in one.shares.items()},
            "words": [[text(word), number(share)] for word, share in one.words],
            "draws": one.draws,
            "spread": [numbers(step) for step in one.spread],
            "images": {
                text(image.camera): {
                    "distance": number(image.distance),
                    "percentile": number(image.percentile),
                    "largest": number(image.largest),
                }
                for image in one.images
            },
        }
        for query, one in explanations.items()
    }


def step_data(records: StepRecords) -> dict[str, Any]:
    """Everything drawn of step records: queries, chunks, actions, rewards, states, contacts and poses."""
    header, steps = records.header, records.steps
    actions, executed = ([getattr(step, name) for step in steps] for name in ("action", "executed"))
    perturbed = any(not np.array_equal(a, b) for a, b in zip(actions, executed, strict=True))
    return {
        "control_hz": number(header.control_hz),
        "level": header.level,
        "source": text(header.source),
        "renderer": text(header.renderer),
        "cameras": [text(camera) for camera in header.cameras],
        "sheet_columns": columns_of(len(records.queries)),
        "action_names": [text(name) for name in header.action_names],
        "state_names": [text(name) for name in header.state_names],
        "queries": [_query(query) for query in records.queries],
        "actions": [numbers(action) for action in actions],
        "executed": [numbers(action) for action in executed] if perturbed else None,
        "rewards": numbers([step.reward for step in steps]),
        "success_step": next((step.step for step in steps if step.success), None),
        "states": [numbers(s.state) for s in steps if s.state is not None] or None,
        "contacts": _spans(steps, lambda step: [other for _, other, _ in step.contacts or ()]),
        "held": _spans(steps, lambda step: step.held or ()),
        "heights": _heights(steps),
    }


def _query(query: RecordedQuery) -> dict[str, Any]:
    return {
        "step": query.step,
        "instruction": text(query.instruction),
        "state": numbers(query.state),
        "chunk": numbers(query.chunk),
        "undecodable": query.undecodable is not None,
        "latency": None if query.latency is None else _stages(query.latency),
    }


def _stages(latency: QueryRecord) -> list[float | None]:
    return [number(getattr(latency, f"{stage}_ms"), 4) for stage in STAGES]


def _spans(
    steps: Sequence[RecordedStep], names: Callable[[RecordedStep], Iterable[str]]
) -> dict[str, list[list[int]]]:
    """By name, the ranges of steps `[first, last]` at which it is among the names."""
    spans: dict[str, list[list[int]]] = {}
    for step in steps:
        for name in sorted(set(names(step))):
            of_name = spans.setdefault(text(name), [])
            if of_name and of_name[-1][1] == step.step - 1:
                of_name[-1][1] = step.step
            else:
                of_name.append([step.step, step.step])
    return spans


def _heights(steps: Sequence[RecordedStep]) -> dict[str, list[float | None]]:
    """By thing, its height in metres after every step."""
    names = sorted({name for step in steps for name in step.poses or ()})
    return {
        text(name): [
            number(step.poses[name][2]) if step.poses and name in step.poses else None for step in steps
        ]
        for name in names
    }
