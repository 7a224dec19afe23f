"""Compare a suite with what is known of the training data of a policy, without a model and without rendering.

Axis letters: n samples, d entries of a state, a entries of an action.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from simloop.envs.interface import TaskSpec
from simloop.harness.adapters.base import Adapter
from simloop.harness.gate.causes import cause_of, nearest_unit, outside, usual_range
from simloop.harness.gate.findings import Finding
from simloop.harness.gate.training import Training
from simloop.policies.interface import PolicySpec
from simloop.policies.transforms.normalization import EntryStats, nearly_constant

SMALL = 0.02
"""Displacements that use less of the bounds of the task than this share hardly move the robot."""


def rate_findings(policy: PolicySpec, training: Training, task: TaskSpec) -> Iterator[Finding]:
    """Compare the control rate that the policy states, or its dataset, with that of the task."""
    for said, hz, verdict in (
        ("the policy was made for", policy.control_hz, "FAIL"),
        ("its dataset has", training.fps, "note"),  # Datasets state rates that their simulators did not have.
    ):
        if hz is not None and abs(hz / task.control_hz - 1) > 0.01:
            text = f"{said} {hz:g} control steps per second, {task.suite}/{task.name} has {task.control_hz:g}"
            yield Finding("control rate", verdict, text)  # type: ignore[arg-type]
            return


def prompt_findings(training: Training, instructions: Sequence[str]) -> Iterator[Finding]:
    """Say which instructions the policy was not trained on, and which of the training is nearest."""
    known = set(training.instructions)
    unknown = [text for text in dict.fromkeys(instructions) if known and text not in known]
    if not unknown:
        return
    nearest = difflib.get_close_matches(unknown[0], sorted(known), n=1, cutoff=0.0)[0]
    plain = {" ".join(text.lower().rstrip(".").split()) for text in known}
    spelled = " ".join(unknown[0].lower().rstrip(".").split()) in plain
    why = (
        "is spelled otherwise than in training"
        if spelled
        else f"is none of the {len(known)} training prompts"
    )
    count = f"{len(unknown)} of {len(set(instructions))} prompts; " if len(set(instructions)) > 1 else ""
    yield Finding("prompt", "note", f"{count}{unknown[0]!r} {why}; the nearest is {nearest!r}")


def state_findings(
    training: Training, states: Float[np.ndarray, "n d"], what: str = "state"
) -> Iterator[Finding]:
    """Compare states of the suite, in the convention of the policy, with the statistics of the training data."""
    stats = training.stats.get("state")
    if stats is None:
        return
    if states.shape[1] > len(stats.mean):
        text = f"{states.shape[1]} entries; the statistics of the policy have {len(stats.mean)}"
        yield Finding(what, "FAIL", text)
        return
    away = outside(states, stats)
    if not away.any():
        return
    low, high = usual_range(stats)
    listed = "; ".join(
        f"entry {i} is {np.median(states[:, i]):.3g}, trained on {low[i]:.3g} to {high[i]:.3g}"
        for i in np.flatnonzero(away)[:3].tolist()
    )
    fitting = [name for name, other in training.others.items() if _fits(states, other.get("state"))]
    if fitting:
        cause = f"the wrong statistics are used: those of {fitting[0]!r} fit"
    elif found := cause_of(states, stats):
        cause = found
    else:
        yield Finding(what, "note", listed)
        return
    yield Finding(what, "FAIL", f"{cause} ({listed})")


def action_findings(training: Training, adapter: Adapter, task: TaskSpec) -> Iterator[Finding]:
    """Compare the actions of the training data, as the adapter converts them, with the bounds of the task."""
    stats = training.stats.get("actions")
    if stats is None:
        return
    state, size = training.stats.get("state"), adapter.convention.action_size or task.action_size
    if len(stats.mean) < size:
        return  # The checkpoint is refused when it is opened.
    ends = np.stack(usual_range(stats))[:, :size]
    for entry, relative in enumerate(training.relative[:size]):
        if relative and state is not None and entry < len(state.mean):
            ends[:, entry] += state.mean[entry]
    if found := _absolute_or_relative(stats, state, training.relative, task):
        yield Finding("actions", "FAIL", found)
        return
    converted = adapter.convention.robot_actions(ends)
    yield from range_findings(
        converted.min(axis=0), converted.max(axis=0), task, "actions of the training data"
    )


def variance_findings(policy: PolicySpec, training: Training) -> Iterator[Finding]:
    """Name the entries that hardly varied in the training data."""
    for key, size in (("state", policy.state_size), ("actions", policy.action_size)):
        if key in training.stats and size is not None:
            for sentence in nearly_constant(key, training.stats[key], training.normalization, size):
                yield Finding("variance", "note", sentence)


def _fits(states: np.ndarray, stats: EntryStats | None) -> bool:
    return stats is not None and len(stats.mean) >= states.shape[1] and not outside(states, stats).any()


def range_findings(
    low: Float[np.ndarray, "a"], high: Float[np.ndarray, "a"], task: TaskSpec, whose: str
) -> Iterator[Finding]:
    """Compare usual actions, in units of the task from `low` to `high`, with the bounds of the task."""
    lowest, highest = np.asarray(task.action_low), np.asarray(task.action_high)
    margin = 0.05 * (highest - lowest)
    inside = np.minimum(high, highest + margin) - np.maximum(low, lowest - margin)
    clipped = np.flatnonzero((inside < 0) | (inside < 0.5 * (high - low)))
    if clipped.size:
        i = int(clipped[0])
        ratio = max(abs(low[i]), abs(high[i])) / max(abs(lowest[i]), abs(highest[i]), 1e-9)
        around_zero = abs(low[i] + high[i]) < high[i] - low[i]
        guess = (nearest_unit(ratio) if around_zero else None) or "not normalized, or of another robot"
        yield Finding(
            "actions",
            "FAIL",
            f"{whose} are {guess}: {task.action_names[i]} goes from {low[i]:.3g} to {high[i]:.3g}, the task takes "
            f"{lowest[i]:.3g} to {highest[i]:.3g} ({len(clipped)} of {len(low)} entries are mostly clipped)",
        )
        return
    kinds = task.action_kinds or ()
    moving = [i for i, kind in enumerate(kinds) if kind == "displacement"]
    shares = (high - low) / (highest - lowest)
    if moving and (shares[moving] < SMALL).all():
        yield Finding(
            "actions",
            "FAIL",
            f"displacements in {whose} use {shares[moving].max():.1%} of the bounds of the task: metres or radians "
            "where it takes shares of the largest step?",
        )
    for i, kind in enumerate(kinds):
        if kind == "gripper" and 0.4 < shares[i] < 0.6 and lowest[i] < 0 <= low[i] + 0.05:
            text = f"{task.action_names[i]} goes from {low[i]:.2g} to {high[i]:.2g} where the task takes "
            yield Finding(
                "gripper", "note", f"{text}{lowest[i]:g} to {highest[i]:g}: it never opens or never closes"
            )


def _absolute_or_relative(
    stats: EntryStats, state: EntryStats | None, relative: Sequence[bool], task: TaskSpec
) -> str | None:
    """Say that actions are absolute where the task takes displacements, or the reverse."""
    if state is None or task.action_kinds is None:
        return None
    size = min(len(state.mean), len(stats.mean), len(task.action_kinds))
    kinds = np.array(task.action_kinds[:size])
    made_absolute = np.array([*relative, *[False] * size][:size], bool)
    moving = (kinds == "displacement") & ~made_absolute
    width = np.maximum(state.std[:size], 1e-6)
    same = (np.abs(stats.mean[:size] - state.mean[:size]) < 0.25 * width) & (
        np.abs(np.log(np.maximum(stats.std[:size], 1e-9) / width)) < np.log(2)
    )
    if moving.sum() > 1 and same[moving].all():
        return "absolute targets, distributed as the state, where the task takes displacements"
    targets = (kinds == "target") & ~made_absolute
    low, high = usual_range(state)
    away = targets & ((low[:size] > width) | (high[:size] < -width))  # States that are never near zero.
    near_zero = np.abs(stats.mean[:size]) < 0.2 * np.abs(state.mean[:size])
    if away.sum() > 1 and near_zero[away].all():
        return "displacements around zero where the task takes absolute targets"
    return None
