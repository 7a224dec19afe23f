"""`simloop parity`: compare every recorded array with the one computed here, and print the results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jax

from simloop.harness.parity import (
    checkpoints,
    flow_models,
    policies_whole,
    robots,
    token_models,
    tokenizers,
    transforms,
    units,
    vision,
)
from simloop.harness.parity.comparison import ArrayComparison
from simloop.harness.parity.models import PRECISIONS, Case, case_names
from simloop.harness.parity.xla_flags import use_recorded_rounding

Checks = Callable[[Path], Iterator[ArrayComparison]]

FAMILIES: dict[str, Checks] = {
    "units": units.checks,
    "image_encoder": vision.image_encoder_checks,
    "checkpoints": checkpoints.checks,
    "tokenizers": tokenizers.checks,
    "transforms": transforms.checks,
    "robots": robots.checks,
    "vit": vision.vit_checks,
    "policies": policies_whole.checks,
}
"""Comparisons that need no case of `cases.json`, by name."""


def families(golden: Path) -> dict[str, Checks]:
    """Return all comparisons by name: `FAMILIES`, and one per recorded case."""
    return {**FAMILIES, **{name: partial(case_checks, name=name) for name in case_names(golden)}}


def case_checks(golden: Path, name: str) -> Iterator[ArrayComparison]:
    """Compare every recorded array of one case, in every precision that was recorded."""
    for precision in PRECISIONS:
        case = Case(golden, name, precision)
        if not case.recorded:
            continue
        model = token_models if case.config.action_expert is None else flow_models
        yield from model.checks(case)
        # Each case compiles its own functions; the memory maps of all of them would exceed vm.max_map_count.
        jax.clear_caches()


def main(golden_dir: Path, only: str | None = None) -> int:
    """Print a line per array, and the number of arrays beyond their limits.

    Args:
      golden_dir: Folder of recordings.
      only: One family, such as `units` or the name of a case; None means all.

    Returns:
      The exit status: 0 if at least one array was compared and all are within their limits, 1 if some
      are not, 2 if there is nothing to compare.
    """
    if not golden_dir.is_dir():
        print(f"Recordings are read from a folder; {golden_dir} is not one.", file=sys.stderr)
        return 2
    selected = families(golden_dir)
    if only is not None:
        if only not in selected:
            print(f"Families of arrays are {', '.join(selected)}; got {only!r}.", file=sys.stderr)
            return 2
        selected = {only: selected[only]}

    use_recorded_rounding()  # Before the first comparison, which starts JAX's backend.
    arrays = beyond = pooled = 0
    say = partial(print, flush=True)
    say(f"{'array':<72} {'shape':<18} {'max':>9} {'rms rel':>9} {'limit':>9}")
    for checks in selected.values():
        for comparison in checks(golden_dir):
            say(line(comparison))
            arrays += 1
            beyond += not comparison.passed
            pooled += comparison.passed and not comparison.passed_alone
    if pooled:
        say(
            f"{pooled} beyond the limit of their own few entries, within that of all recorded inputs of the case"
        )
    say(f"{arrays} arrays, {beyond} beyond their limit")
    if arrays == 0:
        print(f"{golden_dir} holds no recordings that are known here.", file=sys.stderr)
        return 2
    return 1 if beyond else 0


def line(comparison: ArrayComparison) -> str:
    """Format a comparison: name, shape, largest and relative rms difference, limit and verdict."""
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
