"""Markdown tables of measured times."""

from __future__ import annotations

from collections.abc import Sequence

from simloop.policies.bench.measure import BatchTime, StageTime
from simloop.policies.bench.reference_implementation import Comparison


def times_table(times: Sequence[BatchTime]) -> str:
    """A table of whole batches, and one of their stages if these were measured."""
    batches = {
        "batch": [str(one.rows) for one in times],
        "devices": [str(one.devices) for one in times],
        "queries/s": [f"{one.rows / one.seconds:.1f}" for one in times],
        "p50 ms": [_ms(one.seconds) for one in times],
        "p90 ms": [_ms(one.p90_s) for one in times],
        "calls": [str(one.calls) for one in times],
        "device ms": [_ms(one.device_s) for one in times],
        "outside ms": [_ms(one.outside_s) for one in times],
        "roofline ms": [_ms(one.roofline_s) for one in times],
        "of roofline": [f"{one.roofline_s / one.device_s:.0%}" for one in times],
        **({"guided": [f"{one.guided:.2f} x" for one in times if one.guided]} if times[0].guided else {}),
        "start s": [f"{one.prepare_s:.1f}" for one in times],
    }
    columns = ["batch", "stage", "runs", "ms", "roofline ms", "of roofline", "GFLOP", "XLA GFLOP", "XLA GB"]
    stages = [_stage(one.rows, stage) for one in times for stage in one.stages]
    tables = [_markdown(list(batches), list(zip(*batches.values(), strict=True)))]
    if stages:
        tables.append(_markdown(columns, stages))
    return "\n".join(tables)


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """A table of comparisons with the reference implementation."""
    columns = [
        "batch",
        "ours ms",
        "reference ms",
        "ratio",
        "ours, CPU ms",
        "ratio of CPU time",
        "pairs",
        "difference of answers",
    ]
    rows = [
        [
            str(one.rows),
            f"{1e3 * one.ours_s:.3g}",
            f"{1e3 * one.reference_s:.3g}",
            f"{one.ratio:.2f}",
            f"{1e3 * one.cpu_s:.3g}",
            f"{one.cpu_ratio:.2f}",
            str(one.pairs),
            f"{one.difference:.1g}",
        ]
        for one in comparisons
    ]
    return _markdown(columns, rows)


def _stage(rows: int, stage: StageTime) -> list[str]:
    cells = [str(rows), stage.name, str(stage.times), _ms(stage.seconds)]
    if stage.roofline_s is None or stage.gigaflops is None:
        return [*cells, "", "", "", "", ""]
    share = stage.roofline_s / stage.seconds if stage.seconds > 0 else float("nan")
    counted = stage.counted
    return [
        *cells,
        _ms(stage.roofline_s),
        f"{share:.0%}",
        f"{stage.gigaflops:.4g}",
        "" if counted is None else f"{counted.flops / 1e9:.4g}",
        "" if counted is None else f"{counted.bytes / 1e9:.3g}",
    ]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
