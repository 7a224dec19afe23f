"""The command `simloop parity`: every recorded array, what is computed for it, and the verdict."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from simloop.harness.parity import (
    checkpoints,
    image_encoder,
    models,
    policies_whole,
    robots,
    tokenizers,
    transforms,
    units,
    vit,
)
from simloop.harness.parity.comparison import ArrayComparison
from simloop.harness.parity.xla_flags import use_recorded_rounding


def families(golden: Path) -> dict[str, Iterator[ArrayComparison]]:
    """The checks by name. Nothing is computed before a family is iterated."""
    cases = {name: models.case_checks(golden, name) for name in models.case_names(golden)}
    return {
        "units": units.checks(golden),
        "image_encoder": image_encoder.checks(golden),
        "checkpoints": checkpoints.checks(golden),
        "tokenizers": tokenizers.checks(golden),
        "transforms": transforms.checks(golden),
        "robots": robots.checks(golden),
        "vit": vit.checks(golden),
        "policies": policies_whole.checks(golden),
        **cases,
    }


def main(golden_dir: Path, only: str | None = None) -> int:
    """Print a line per array, and how many are beyond their limit.

    Args:
      golden_dir: Folder of recordings.
      only: One family, such as `units` or the name of a case; None means all.

    Returns:
      The exit status: 0 if at least one array was compared and all are within their limits, 1 if some
      are not, 2 if there is nothing to compare.
    """
    if not golden_dir.is_dir():
        print(f"Recordings are read from a folder; {golden_dir} is none.", file=sys.stderr)
        return 2
    selected = families(golden_dir)
    if only is not None:
        if only not in selected:
            print(f"Families of arrays are {', '.join(selected)}; got {only!r}.", file=sys.stderr)
            return 2
        selected = {only: selected[only]}

    use_recorded_rounding()  # Before the first family is iterated, which starts JAX's backend.
    arrays = beyond = alone = 0
    say = partial(print, flush=True)
    say(f"{'array':<72} {'shape':<18} {'max':>9} {'rms rel':>9} {'limit':>9}")
    for family in selected.values():
        for comparison in family:
            say(line(comparison))
            arrays += 1
            beyond += not comparison.passed
            alone += comparison.passed and not comparison.passed_alone
    if alone:
        say(
            f"{alone} beyond the limit of their own few numbers, within that of all recorded inputs of the case"
        )
    say(f"{arrays} arrays, {beyond} beyond their limit")
    if arrays == 0:
        print(f"{golden_dir} holds no recordings that are known here.", file=sys.stderr)
        return 2
    return 1 if beyond else 0


def line(comparison: ArrayComparison) -> str:
    """One line of the list: name, shape, largest and relative rms difference, limit and verdict."""
    shape = "x".join(map(str, comparison.wanted.shape)) or "scalar"
    measure = "" if comparison.measure == "rms" else f" {comparison.measure}"
    pooled = ""
    if comparison.pool:
        alone = "" if comparison.passed_alone else "beyond alone, "
        pooled = f" ({alone}pooled {comparison.pooled_value:.2e} of {comparison.pooled_limit:.2e})"
    return (
        f"{comparison.name:<72} {shape:<18} {comparison.max_absolute:9.2e} {comparison.rms_relative:9.2e} "
        f"{comparison.limit:9.2e} {'ok' if comparison.passed else 'BEYOND'}{measure}{pooled}"
    )
