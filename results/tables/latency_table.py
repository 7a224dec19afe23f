"""Query latencies: quantiles of every stage and of the total, in milliseconds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from simloop.results.records.records import QueryRecord, policy_label
from simloop.results.statistics.intervals import Interval, clustered_quantile_intervals, quantile
from simloop.results.tables.grid import NONE, Cell, Grid, Row
from simloop.results.tables.options import DEFAULT_OPTIONS, TableOptions

STAGES = tuple(
    field.name.removesuffix("_ms") for field in dataclasses.fields(QueryRecord) if field.name.endswith("_ms")
)
"""All stages of a query, which add up to the last: the total. Tables show the total without retries."""
COMPACT_STAGES = tuple(stage for stage in STAGES[:-1] if stage != "retry")
"""Stages with a column of their own; the median of retries is 0 except where a run went wrong."""

QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}

COLUMNS = (
    "suite", "protocol", "policy", "weights", "stage", "queries", "episodes", "mean_batch", "batch_fill",
    *(f"{label}{end}_ms" for label in QUANTILES for end in ("", "_low", "_high")),
)  # fmt: skip

MIN_QUERIES_FOR_P99 = 500  # Then five values lie above it; with fewer it rests on one or two.


def latency_grids(
    queries: pd.DataFrame, compile_s: Mapping[str, float], options: TableOptions = DEFAULT_OPTIONS
) -> list[Grid]:
    """A grid for each suite and protocol: a group of rows per policy, a row per stage.

    Args:
      queries: As from `simloop.results.records.frames.load_queries`.
      compile_s: Seconds each policy took to compile and warm up, which no row includes.
    """
    return [
        Grid(
            title=f"Latency in ms, protocol {protocol}",
            columns=("policy", "stage", *QUANTILES, "queries", "batch", "fill"),
            groups=tuple(tuple(_stage_rows(*policy)) for policy in _policies(group)),
            notes=tuple(_notes(group, compile_s)),
            labels=2,
            options=options,
        )
        for protocol, group in _protocols(queries)
    ]


def compact_latency_grids(
    queries: pd.DataFrame, compile_s: Mapping[str, float], options: TableOptions = DEFAULT_OPTIONS
) -> list[Grid]:
    """A grid for each suite and protocol, with a row per policy: the median of every stage, quantiles of the total.

    A stage that a policy does not have shows a dash.
    """
    return [
        Grid(
            title=f"Latency in ms, protocol {protocol}",
            columns=("policy", "queries", "batch", "fill", *COMPACT_STAGES, *QUANTILES),
            groups=(tuple(_compact_row(*policy) for policy in _policies(group)),),
            notes=("Medians of the stages, quantiles of the total.", *_notes(group, compile_s)),
            options=options,
        )
        for protocol, group in _protocols(queries)
    ]


def batch_grids(queries: pd.DataFrame, options: TableOptions = DEFAULT_OPTIONS) -> list[Grid]:
    """A grid of latencies by batch size, for each suite and protocol in which the size varied."""
    grids = []
    for protocol, group in _protocols(queries):
        called = group[group["device_ms"] > 0]
        if called["batch"].nunique() > 1:
            grids.append(
                Grid(
                    f"Latency in ms by batch, protocol {protocol}",
                    (
                        "policy",
                        "batch",
                        "rows",
                        "queries",
                        "device p50",
                        "per query",
                        "p95",
                        "total p50",
                        "p95",
                    ),
                    tuple(tuple(_batch_rows(*policy)) for policy in _policies(called)),
                    (
                        "batch: queries that shared a call; rows: batch rows that the call computed; per query: median "
                        "device time over the batch.",
                    ),
                    options=options,
                )
            )
    return grids


def latency_frame(queries: pd.DataFrame) -> pd.DataFrame:
    """A row per policy and stage: quantiles in ms with 95 % intervals for new episodes of the same kind.

    Intervals allow for correlated queries within an episode. A quantile is missing if there are too few queries
    for it, and an interval if the queries cannot bound one of its ends.
    """
    rows = []
    for (suite, protocol), group in queries.groupby(["suite", "protocol"], sort=True):
        for name, of_policy in _policies(group):
            episodes = of_policy.groupby(["task", "episode"]).ngroup().to_numpy(np.int64)
            mean_batch, fill = batch_fill(of_policy)
            for stage in STAGES:
                values = _values(of_policy, stage)
                row: dict[str, Any] = {
                    "suite": suite,
                    "protocol": protocol,
                    "policy": name,
                    "weights": of_policy["weights"].iloc[0],
                    "stage": stage,
                    "queries": len(values),
                    "episodes": len(set(episodes.tolist())),
                    "mean_batch": round(mean_batch, 3),
                    "batch_fill": round(fill, 4),
                }
                intervals = clustered_quantile_intervals(values, episodes, list(QUANTILES.values()))
                for label, value, interval in zip(QUANTILES, _quantiles(values), intervals, strict=True):
                    row |= _interval_columns(label, value, interval)
                rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def batch_fill(queries: pd.DataFrame) -> tuple[float, float]:
    """Mean number of queries per call, and their share of the batch rows that the calls computed.

    A call with b queries appears in b rows of `queries`, so each row stands for 1/b of a call.
    """
    calls = float((1 / queries["batch"]).sum())
    computed = float((queries["bucket"] / queries["batch"]).sum())
    return len(queries) / calls, len(queries) / computed


def _protocols(queries: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for (_, protocol), group in queries.groupby(["suite", "protocol"], sort=True):
        yield str(protocol), group


def _policies(queries: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for (policy, weights), of_policy in queries.groupby(["policy", "weights"], sort=True):
        yield policy_label(str(policy), str(weights)), of_policy


def _compact_row(name: str, queries: pd.DataFrame) -> Row:
    stages = [_values(queries, stage) for stage in COMPACT_STAGES]
    medians = [_ms(quantile(values, 0.5)) if values.any() else NONE for values in stages]
    totals = _quantiles(_values(queries, STAGES[-1]))
    return (name, str(len(queries)), *_batch_cells(queries), *medians, *map(_ms, totals))


def _stage_rows(name: str, queries: pd.DataFrame) -> Iterator[Row]:
    for stage in STAGES:
        values = _values(queries, stage)
        if values.any():  # A policy in the env actor has no transport, and a scripted one renders nothing.
            yield (name, stage, *map(_ms, _quantiles(values)), str(len(values)), *_batch_cells(queries))


def _batch_rows(name: str, queries: pd.DataFrame) -> Iterator[Row]:
    for _, of_batch in queries.groupby(["batch", "bucket"], sort=True):
        batch, computed = (int(of_batch[column].iloc[0]) for column in ("batch", "bucket"))
        device, total = _values(of_batch, "device"), _values(of_batch, "total")
        median = quantile(device, 0.5)
        times = (median, median / batch, quantile(device, 0.95), quantile(total, 0.5), quantile(total, 0.95))
        yield (name, str(batch), str(computed), str(len(of_batch)), *map(_ms, times))


def _batch_cells(queries: pd.DataFrame) -> tuple[str, str]:
    mean_batch, fill = batch_fill(queries)
    return f"{mean_batch:.2f}", f"{100 * fill:.0f} %"


def _ms(value: float | None) -> Cell:
    return Cell(value, decimals=2)


def _values(queries: pd.DataFrame, stage: str) -> Float[np.ndarray, "v"]:
    values = queries[f"{stage}_ms"].to_numpy(np.float64)
    return values - _values(queries, "retry") if stage == "total" else values


def _quantiles(values: Float[np.ndarray, "v"]) -> list[float | None]:
    few = len(values) < MIN_QUERIES_FOR_P99
    return [None if label == "p99" and few else quantile(values, q) for label, q in QUANTILES.items()]


def _interval_columns(label: str, value: float | None, interval: Interval) -> dict[str, float | None]:
    bounded = value is not None and math.isfinite(interval.low) and math.isfinite(interval.high)
    return {
        f"{label}_ms": value,
        f"{label}_low_ms": interval.low if bounded else None,
        f"{label}_high_ms": interval.high if bounded else None,
    }


def _notes(queries: pd.DataFrame, compile_s: Mapping[str, float]) -> Iterator[str]:
    yield (
        "total: from observation request to executable actions, without retries; device: until results are on the "
        "host; turn: waiting for the env actor, which simulates other environments; batch: mean number of queries per "
        "call; fill: their share of the batch rows that were computed."
    )
    retries = _values(queries, "retry")
    if retries.any():
        yield (
            f"retry: {np.count_nonzero(retries)} of {len(retries)} queries waited for a connection to their policy, "
            f"for the restart of its worker, or were sent again, for up to {retries.max() / 1e3:.1f} s."
        )
    if (queries.groupby("policy").size() < MIN_QUERIES_FOR_P99).any():
        yield f"{NONE}: p99 is not reported for fewer than {MIN_QUERIES_FOR_P99} queries."
    weights = dict(zip(queries["policy"], queries["weights"], strict=True))
    compiled = [
        f"{policy_label(policy, weights[policy])} {compile_s[policy]:.1f} s"
        for policy in sorted(weights)
        if compile_s.get(policy)
    ]
    if compiled:
        yield f"Compilation and warm-up are not included ({', '.join(compiled)})."
