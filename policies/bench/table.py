"""Measured times as Markdown, ready for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Sequence

from simloop.policies.bench.measure import BatchTime, StageTime


def markdown(measured: Sequence[BatchTime]) -> str:
    """Whole batches, and the stages of each in a table of their own, where they were measured."""
    whole = [
        "batch",
        "devices",
        "queries/s",
        "p50 ms",
        "p90 ms",
        "calls",
        "device ms",
        "outside ms",
        "floor ms",
        "of the floor",
        "start s",
    ]
    rows = [
        [
            str(one.rows),
            str(one.devices),
            f"{one.rows / one.seconds:.1f}",
            _ms(one.seconds),
            _ms(one.p90_s),
            str(one.calls),
            _ms(one.device_s),
            _ms(one.outside_s),
            _ms(one.floor_s),
            f"{one.floor_s / one.device_s:.0%}",
            f"{one.prepared_s:.1f}",
        ]
        for one in measured
    ]
    parts = ["batch", "stage", "runs", "ms", "floor ms", "of the floor", "GFLOP", "XLA GFLOP", "XLA GB"]
    staged = [_stage(one.rows, stage) for one in measured for stage in one.stages]
    return grid(whole, rows) + ("\n" + grid(parts, staged) if staged else "")


def _stage(rows: int, stage: StageTime) -> list[str]:
    cells = [str(rows), stage.name, str(stage.times), _ms(stage.seconds)]
    if stage.floor_s is None or stage.gigaflops is None:
        return [*cells, "", "", "", "", ""]
    share = stage.floor_s / stage.seconds if stage.seconds > 0 else float("nan")
    counted = stage.counted
    return [
        *cells,
        _ms(stage.floor_s),
        f"{share:.0%}",
        f"{stage.gigaflops:.4g}",
        "" if counted is None else f"{counted.flops / 1e9:.4g}",
        "" if counted is None else f"{counted.bytes / 1e9:.3g}",
    ]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
