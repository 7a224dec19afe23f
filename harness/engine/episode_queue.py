"""Queue of episodes that have not been started. Pure: neither Ray nor a clock.

Episodes are started in the order of the plan. When few are left, those with the longest expected duration come
first, so that the run does not end with a single busy env actor.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from simloop.harness.planning.plan import EpisodeSpec


@dataclass(frozen=True)
class Attempt:
    """One try of an episode."""

    spec: EpisodeSpec
    number: int = 1
    """1 for the first; only attempts that have failed themselves raise it."""
    isolated: bool = False
    """Whether it must run alone in its env actor, because an actor died while it was one of several attempts."""

    def again(self) -> Attempt:
        """Return the next attempt, after this one has failed."""
        return replace(self, number=self.number + 1)


class ExpectedDurations:
    """Mean durations of the episodes finished so far, by policy and task."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], tuple[float, int]] = {}

    def learn(self, spec: EpisodeSpec, seconds: float) -> None:
        """Take in the duration of a finished episode."""
        for key in ((spec.policy, spec.task), (spec.task,)):
            total, count = self._sums.get(key, (0.0, 0))
            self._sums[key] = (total + seconds, count + 1)

    def seconds(self, spec: EpisodeSpec) -> float:
        """Return the mean duration of episodes with the same policy and task, else with the same task.

        `inf` if no such episode has finished.
        """
        for key in ((spec.policy, spec.task), (spec.task,)):
            if key in self._sums:
                total, count = self._sums[key]
                return total / count
        return float("inf")


class EpisodeQueue:
    """Waiting episodes, by policy and task.

    Args:
      in_order: Whether to hand out episodes strictly in the given order, so that one whose policy is not ready
        holds up all behind it. Otherwise task by task, in the order of the plan.
    """

    def __init__(self, specs: Sequence[EpisodeSpec], *, in_order: bool = False):
        self._in_order = in_order
        self._waiting: dict[tuple[str, str], deque[Attempt]] = {}
        self._count = 0
        self.expected = ExpectedDurations()
        for spec in specs:
            self._queue(spec).append(Attempt(spec))
            self._count += 1

    def __len__(self) -> int:
        """Return the number of waiting episodes."""
        return self._count

    def _queue(self, spec: EpisodeSpec) -> deque[Attempt]:
        key = ("", "") if self._in_order else (spec.policy, spec.task)
        return self._waiting.setdefault(key, deque())

    def next(self, playable: Callable[[str], bool], *, few: int = 0) -> Attempt | None:
        """Remove and return the next episode whose policy is ready; None if there is none at the moment.

        Args:
          playable: Whether a policy, by name, is ready.
          few: While at most so many episodes are waiting, the longest is returned first.
        """
        ready = (key for key, queue in self._waiting.items() if playable(queue[0].spec.policy))
        if self._in_order or self._count > few:
            key = next(ready, None)
        else:
            key = max(ready, key=lambda key: self.expected.seconds(self._waiting[key][0].spec), default=None)
        if key is None:
            return None
        queue = self._waiting[key]
        attempt = queue.popleft()
        self._count -= 1
        if not queue:
            del self._waiting[key]
        return attempt

    def put_back(self, attempt: Attempt) -> None:
        """Insert an attempt before all others of its policy and task."""
        self._queue(attempt.spec).appendleft(attempt)
        self._count += 1

    def policies(self) -> Iterator[str]:
        """Iterate over the policies of waiting episodes, in the order in which they will be needed."""
        heads = (queue if self._in_order else itertools.islice(queue, 1) for queue in self._waiting.values())
        yield from dict.fromkeys(attempt.spec.policy for queue in heads for attempt in queue)

    def clear(self) -> None:
        """Remove all waiting episodes."""
        self._waiting.clear()
        self._count = 0
