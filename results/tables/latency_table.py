"""The table of latencies: quantiles of every stage of a query, in milliseconds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from simloop.results.records.records import policy_label
from simloop.results.statistics.intervals import Interval, clustered_quantile_intervals, quantile
from simloop.results.tables.typesetting import NONE, Grid

STAGES = ("render", "adapt", "transport", "queue", "host", "device", "post", "total")
QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}

COLUMNS = (
    "suite", "protocol", "policy", "weights", "stage", "queries", "episodes", "mean_batch", "batch_fill",
    *(f"{label}{end}_ms" for label in QUANTILES for end in ("", "_low", "_high")),
)  # fmt: skip

MIN_QUERIES_FOR_P99 = 500  # Five values lie above it then; with fewer it is the luck of one or two.


def latency_grids(queries: pd.DataFrame, compile_s: Mapping[str, float]) -> list[Grid]:
    """A grid for each suite and protocol: a group of rows for each policy, a row for each stage it has.

    Args:
      queries: As from `simloop.results.records.records.load_queries`.
      compile_s: Seconds each policy took to compile and warm up. They are in no row.
    """
    grids = []
    for (_, protocol), group in queries.groupby(["suite", "protocol"], sort=True):
        grids.append(
            Grid(
                title=f"Latency in ms, protocol {protocol}",
                columns=("policy", "stage", *QUANTILES, "queries", "batch", "fill"),
                groups=tuple(tuple(_rows(name, of_policy)) for name, of_policy in _policies(group)),
                notes=tuple(_notes(group, compile_s)),
                labels=2,
            )
        )
    return grids


def compact_latency_grids(queries: pd.DataFrame, compile_s: Mapping[str, float]) -> list[Grid]:
    """A grid for each suite and protocol to read at a glance: a row per policy.

    The median of every stage, then quantiles of the total; a stage that a policy does not have shows a dash.
    """
    grids = []
    for (_, protocol), group in queries.groupby(["suite", "protocol"], sort=True):
        rows = tuple(_compact_row(name, of_policy) for name, of_policy in _policies(group))
        notes = ["Medians of the stages, then quantiles of the total.", *_notes(group, compile_s)]
        grids.append(
            Grid(
                title=f"Latency in ms, protocol {protocol}",
                columns=("policy", "queries", "batch", "fill", *STAGES[:-1], *QUANTILES),
                groups=(rows,),
                notes=tuple(notes),
            )
        )
    return grids


def batch_grids(queries: pd.DataFrame) -> list[Grid]:
    """For each suite and protocol the latencies by how many queries shared a call, where that varied."""
    grids = []
    for (_, protocol), group in queries.groupby(["suite", "protocol"], sort=True):
        called = group[group["device_ms"] > 0]
        if called["batch"].nunique() < 2:
            continue
        groups = []
        for name, of_policy in _policies(called):
            rows = []
            for (batch, batch_size), of_batch in of_policy.groupby(["batch", "bucket"], sort=True):
                shared_by = int(of_batch["batch"].iloc[0])
                device, total = (
                    of_batch[f"{stage}_ms"].to_numpy(np.float64) for stage in ("device", "total")
                )
                p50 = quantile(device, 0.5)
                quantiles = (
                    p50,
                    p50 / shared_by,
                    quantile(device, 0.95),
                    quantile(total, 0.5),
                    quantile(total, 0.95),
                )
                rows.append(
                    (
                        name,
                        str(batch),
                        str(batch_size),
                        str(len(of_batch)),
                        *(f"{ms:.2f}" for ms in quantiles),
                    )
                )
            groups.append(tuple(rows))
        columns = ("policy", "batch", "rows", "queries", "device p50", "per query", "p95", "total p50", "p95")
        note = (
            "Batch: queries that shared a call; rows: that it computed; per query: the device's median share."
        )
        grids.append(Grid(f"Latency in ms by batch, protocol {protocol}", columns, tuple(groups), (note,)))
    return grids


def latency_frame(queries: pd.DataFrame) -> pd.DataFrame:
    """A row per policy and stage: quantiles in ms with 95 % intervals for episodes like these.

    Intervals take the queries of an episode for alike. A quantile that the queries are too few for is
    missing, as are intervals with an end that they cannot bound.
    """
    rows = []
    for (suite, protocol), group in queries.groupby(["suite", "protocol"], sort=True):
        for name, of_policy in _policies(group):
            episodes = of_policy.groupby(["task", "episode"]).ngroup().to_numpy(np.int64)
            mean_batch, fill = batch_fill(of_policy)
            for stage in STAGES:
                values = of_policy[f"{stage}_ms"].to_numpy(np.float64)
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
                for (label, probability), interval in zip(QUANTILES.items(), intervals, strict=True):
                    row |= _columns(label, _quantile(values, label, probability), interval)
                rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def batch_fill(queries: pd.DataFrame) -> tuple[float, float]:
    """Mean number of queries per call, and their share of the rows that the calls computed.

    A call of b queries shows up in b rows of `queries`, so each row stands for 1/b of a call.
    """
    calls = float((1 / queries["batch"]).sum())
    computed = float((queries["bucket"] / queries["batch"]).sum())
    return len(queries) / calls, len(queries) / computed


def _policies(queries: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for (policy, weights), of_policy in queries.groupby(["policy", "weights"], sort=True):
        yield policy_label(str(policy), str(weights)), of_policy


def _compact_row(name: str, queries: pd.DataFrame) -> tuple[str, ...]:
    mean_batch, fill = batch_fill(queries)
    stages = {stage: queries[f"{stage}_ms"].to_numpy(np.float64) for stage in STAGES}
    medians = [
        NONE if not values.any() else f"{quantile(values, 0.5):.2f}"
        for stage, values in stages.items()
        if stage != "total"
    ]
    found = [_quantile(stages["total"], label, probability) for label, probability in QUANTILES.items()]
    totals = [NONE if value is None else f"{value:.2f}" for value in found]
    return (name, str(len(queries)), f"{mean_batch:.2f}", f"{100 * fill:.0f} %", *medians, *totals)


def _rows(name: str, queries: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    mean_batch, fill = batch_fill(queries)
    for stage in STAGES:
        values = queries[f"{stage}_ms"].to_numpy(np.float64)
        if not values.any():  # Policies that run beside the simulator do not travel, and some do not look.
            continue
        found = [_quantile(values, label, probability) for label, probability in QUANTILES.items()]
        yield (
            name,
            stage,
            *(NONE if value is None else f"{value:.2f}" for value in found),
            str(len(values)),
            f"{mean_batch:.2f}",
            f"{100 * fill:.0f} %",
        )


def _quantile(values: np.ndarray, label: str, probability: float) -> float | None:
    if label == "p99" and len(values) < MIN_QUERIES_FOR_P99:
        return None
    return quantile(values, probability)


def _columns(label: str, value: float | None, interval: Interval) -> dict[str, float | None]:
    bounded = value is not None and math.isfinite(interval.low) and math.isfinite(interval.high)
    return {
        f"{label}_ms": value,
        f"{label}_low_ms": interval.low if bounded else None,
        f"{label}_high_ms": interval.high if bounded else None,
    }


def _notes(queries: pd.DataFrame, compile_s: Mapping[str, float]) -> Iterator[str]:
    yield (
        "Total is from the wish to act to actions in hand; device ends when results have arrived. "
        "Batch: queries per call; fill: their share of the rows computed."
    )
    if (queries.groupby("policy").size() < MIN_QUERIES_FOR_P99).any():
        yield f"{NONE}: fewer than {MIN_QUERIES_FOR_P99} queries do not tell a p99."
    weights = dict(zip(queries["policy"], queries["weights"], strict=True))
    compiled = [
        f"{policy_label(policy, weights[policy])} {compile_s[policy]:.1f} s"
        for policy in sorted(weights)
        if compile_s.get(policy)
    ]
    if compiled:
        yield f"Compilation and warm-up came before and are in no row: {', '.join(compiled)}."
