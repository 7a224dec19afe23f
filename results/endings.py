"""How failed episodes end: named rules over the ledger and step records. Pure; no rule looks at a clock or a file.

Axis letters: n steps, k things, a action size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Float64

from simloop.results.records.records import EpisodeRecord
from simloop.results.records.step_records import RecordedStep, StepRecords

LIFT_M = 0.02
"""Height above its first position from which a touched thing counts as lifted."""
FALL_M = 0.10
"""Depth below its first position from which a thing counts as fallen."""
AWAY_M = 0.50
"""Horizontal distance from its first position from which a thing counts as pushed away."""
SATURATED_SHARE = 0.9
"""Share of the steps of the second half at which one entry of the action is at the same bound."""
UNDECODABLE_SHARE = 0.5
"""Share of the queries whose tokens decode to no chunk."""

INVALID, UNDECODABLE = "invalid action", "undecodable tokens"
NO_RECORDS, NO_SCENES, OTHER = "no step records", "no scenes recorded", "other"
"""Endings that the ledger tells, and those that no rule names."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the rules look at: the step records of an episode, as arrays."""

    records: StepRecords

    @cached_property
    def steps(self) -> tuple[RecordedStep, ...]:
        """The steps whose scene is known."""
        return tuple(step for step in self.records.steps if step.poses and step.contacts is not None)

    @cached_property
    def things(self) -> tuple[str, ...]:
        """Names of the things whose poses all of these steps have."""
        names = [frozenset(step.poses or ()) for step in self.steps]
        return tuple(sorted(frozenset.intersection(*names))) if names else ()

    @cached_property
    def positions(self) -> Float64[np.ndarray, "n k 3"]:
        """Positions of the things in metres."""
        found = [(step.poses or {})[name][:3] for step in self.steps for name in self.things]
        return np.array(found, np.float64).reshape(len(self.steps), len(self.things), 3)

    @cached_property
    def touched(self) -> Bool[np.ndarray, "n k"]:
        """Whether a gripper touches the thing."""
        return self._told({other for _, other, _ in step.contacts or ()} for step in self.steps)

    @cached_property
    def held(self) -> Bool[np.ndarray, "n k"]:
        """Whether the thing presses against both fingers of a gripper."""
        return self._told(set(step.held or ()) for step in self.steps)

    @cached_property
    def lifted(self) -> Bool[np.ndarray, "n k"]:
        """Whether the thing is touched and at least `LIFT_M` above its first position."""
        height = self.positions[..., 2]
        return self.touched & (height >= height[:1] + LIFT_M)

    @cached_property
    def actions(self) -> Float32[np.ndarray, "n a"]:
        """The policy's actions."""
        return np.array([step.action for step in self.records.steps], np.float32)

    def _told(self, names: Iterable[set[str]]) -> Bool[np.ndarray, "n k"]:
        found = [name in of_step for of_step in names for name in self.things]
        return np.array(found, bool).reshape(len(self.steps), len(self.things))

    def step(self, index: int) -> int:
        """Number in the episode of a step whose scene is known."""
        return self.steps[index].step


Rule = Callable[[Evidence], int | None]
"""Returns the step at which it happens, or from which on it holds; None if the rule does not hold."""


def saturated(evidence: Evidence) -> int | None:
    """In the second half, an entry of the action other than a gripper's is at the same bound."""
    steps, queries = evidence.records.steps, evidence.records.queries
    if not steps or queries[0].action_low is None or queries[0].action_high is None:
        return None
    names = evidence.records.header.action_names
    motion = [entry for entry, name in enumerate(names) if "gripper" not in name]
    half = len(steps) // 2
    later = evidence.actions[half:][:, motion]
    low, high = (
        np.asarray(bound, np.float32)[motion] for bound in (queries[0].action_low, queries[0].action_high)
    )
    share = np.concatenate([(later <= low).mean(0), (later >= high).mean(0)])
    return steps[half].step if (share >= SATURATED_SHARE).any() else None


def out_of_reach(evidence: Evidence) -> int | None:
    """At the end, a thing that is not held has fallen, or is pushed away; the step is the first at which it has."""
    if not evidence.things:
        return None
    moved = evidence.positions - evidence.positions[:1]
    gone = (moved[..., 2] <= -FALL_M) | (np.linalg.norm(moved[..., :2], axis=-1) >= AWAY_M)
    lost = gone & ~evidence.held
    thing = int(lost[-1].argmax())
    return evidence.step(int(gone[:, thing].argmax())) if lost[-1, thing] else None


def never_touched(evidence: Evidence) -> int | None:
    """No gripper touches any thing."""
    return evidence.step(0) if evidence.things and not evidence.touched.any() else None


def not_lifted(evidence: Evidence) -> int | None:
    """A thing is touched, and none is lifted; the step is that of the first touch."""
    touched = evidence.touched.any(axis=1)
    return evidence.step(int(touched.argmax())) if touched.any() and not evidence.lifted.any() else None


def dropped(evidence: Evidence) -> int | None:
    """A thing is lifted, and none is held at the end; the step is the last at which one is lifted."""
    lifted = evidence.lifted.any(axis=1)
    if not lifted.any() or evidence.held[-1].any():
        return None
    return evidence.step(int(np.flatnonzero(lifted)[-1]))


def not_placed(evidence: Evidence) -> int | None:
    """A thing has been lifted and is held at the end; the step is that from which on it is held."""
    if not evidence.lifted.any() or not evidence.held[-1].any():
        return None
    free = np.flatnonzero(~evidence.held.any(axis=1))
    return evidence.step(int(free[-1]) + 1 if len(free) else 0)


@dataclass(frozen=True)
class Ending:
    """A named rule."""

    name: str
    rule: Rule
    waived: bool = True
    """Left out for a task of which a recorded success shows the same."""


ENDINGS = (
    Ending("saturated actions", saturated),
    Ending("out of reach", out_of_reach),
    Ending("never touched", never_touched),
    Ending("touched, not lifted", not_lifted),
    Ending("lifted, dropped", dropped, waived=False),
    Ending("held, not placed", not_placed, waived=False),
)
"""The rules over step records; the first that holds names the ending."""


def by_ledger(record: EpisodeRecord) -> str:
    """Name of the ending that the ledger alone tells: the policy's action was refused, or its tokens decode to none.

    Empty for others.

    Args:
      record: An episode that did not succeed.
    """
    if record.outcome == "error":
        return INVALID if record.error.startswith(("ActionError", "PolicyError")) else ""
    mostly = record.queries and record.undecodable >= UNDECODABLE_SHARE * record.queries
    return UNDECODABLE if record.ended_by == "undecodable" or mostly else ""


def by_steps(evidence: Evidence, endings: Sequence[Ending] = ENDINGS) -> tuple[str, int | None]:
    """Name of the ending of a failed episode, and its step.

    Args:
      endings: The rules that apply to its task, as from `endings_for`.
    """
    for ending in endings:
        if (step := ending.rule(evidence)) is not None:
            return ending.name, step
    return (OTHER if evidence.things else NO_SCENES), None


def endings_for(successes: Iterable[Evidence]) -> tuple[Ending, ...]:
    """The rules that tell a failure from these successes of the same task.

    A drawer is opened without being lifted: there, `touched, not lifted` explains nothing.
    """
    shown = list(successes)
    return tuple(
        ending
        for ending in ENDINGS
        if not ending.waived or all(ending.rule(success) is None for success in shown)
    )
