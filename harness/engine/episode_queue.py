"""Which episode is played next. Pure: no Ray, no clock.

Episodes are played in the order of the plan. Where few are left, those that are expected to take longest
go first, so that no simulator plays on alone when all others have finished.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from simloop.harness.planning.plan import EpisodeSpec


@dataclass(frozen=True)
class Attempt:
    """One try at an episode."""

    spec: EpisodeSpec
    number: int = 1
    """Counts this one and the earlier ones that the episode itself brought to an end."""
    alone: bool = False
    """Whether it is to be played without neighbours, because its process died while it had some."""

    def again(self) -> Attempt:
        """The next try, after a fault of this one."""
        return replace(self, number=self.number + 1)


class Expected:
    """How long episodes take, from those that have been played."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], tuple[float, int]] = {}

    def learn(self, spec: EpisodeSpec, seconds: float) -> None:
        """An episode took so long."""
        for key in ((spec.policy, spec.task), (spec.task,)):
            total, count = self._sums.get(key, (0.0, 0))
            self._sums[key] = (total + seconds, count + 1)

    def seconds(self, spec: EpisodeSpec) -> float:
        """The mean of its like; what nobody has played yet may take for ever."""
        for key in ((spec.policy, spec.task), (spec.task,)):
            if key in self._sums:
                total, count = self._sums[key]
                return total / count
        return float("inf")


class EpisodeQueue:
    """Episodes that wait to be played, by policy and task.

    Args:
      in_order: Whether they are handed out strictly in their order: an episode whose policy is not ready
        then holds up all behind it. Otherwise task by task, as plans are.
    """

    def __init__(self, specs: Sequence[EpisodeSpec], *, in_order: bool = False):
        self._in_order = in_order
        self._waiting: dict[tuple[str, str], deque[Attempt]] = {}
        self._count = 0
        self.expected = Expected()
        for spec in specs:
            self._queue(spec).append(Attempt(spec))
            self._count += 1

    def __len__(self) -> int:
        """How many episodes wait."""
        return self._count

    def _queue(self, spec: EpisodeSpec) -> deque[Attempt]:
        key = ("", "") if self._in_order else (spec.policy, spec.task)
        return self._waiting.setdefault(key, deque())

    def next(self, playable: Callable[[str], bool], *, few: int = 0) -> Attempt | None:
        """Take the next episode whose policy is playable; None where there is none at this moment.

        Args:
          few: With so many left or fewer, the longest goes first.
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
        """Have an attempt made, before all others of its policy and task."""
        self._queue(attempt.spec).appendleft(attempt)
        self._count += 1

    def policies(self) -> Iterator[str]:
        """Policies of waiting episodes, in the order in which they will be asked for."""
        seen: set[str] = set()
        for queue in self._waiting.values():
            for attempt in queue if self._in_order else itertools.islice(queue, 1):
                if attempt.spec.policy not in seen:
                    seen.add(attempt.spec.policy)
                    yield attempt.spec.policy

    def clear(self) -> None:
        """Forget what has not been begun."""
        self._waiting.clear()
        self._count = 0
