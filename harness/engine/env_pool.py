"""Pool of env actors: assignment of attempts, liveness, and rescheduling when an actor dies.

What becomes of the attempts that an env actor was running when it died:

| cause of death                               | attempt         | becomes  |
|----------------------------------------------|-----------------|----------|
| one attempt exceeded a timeout               | the culprit     | charged  |
|                                              | its neighbors   | released |
| unknown, and a single attempt was running    | that attempt    | charged  |
| unknown, and several attempts were running   | all of them     | suspects |
| the node of the cluster was lost             | all of them     | released |

charged:  has failed; the episode is tried again until its attempts are used up.
released: goes back into the episode queue at no cost.
suspects: run again on the replacement, isolated from each other and from all other attempts. The one that kills
          the actor again was running alone and is charged.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import RayError

from simloop.harness.actors.heartbeat import EnvActorHeartbeat
from simloop.harness.engine.episode_queue import Attempt
from simloop.harness.engine.processes import Post, Process, first_line, kill_process, node_is_lost
from simloop.harness.engine.resources import EngineError
from simloop.harness.engine.timeouts import Timeouts
from simloop.policies.interface import PolicySpec

PATIENCE_S = 30.0
"""Seconds after which an env actor that is not ready, for want of a free core, passes its suspects on."""
STILLBORN = 3
"""Env actors in a row that die before they are ready, after which the run ends: others would die as well."""


@dataclass(eq=False, kw_only=True)
class EnvActorHandle(Process[EnvActorHeartbeat]):
    """An env actor. It is starting until its first heartbeat, then ready, and may be leaving."""

    started_at: float
    running: dict[int, Attempt] = field(default_factory=dict)
    """Attempts under way, by attempt id."""
    suspects: deque[Attempt] = field(default_factory=deque)
    """Attempts to run here in isolation, before all others."""
    policies: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Handles of the workers of each policy that the actor knows."""
    leaving: bool = False
    """Whether it is ended, and replaced if still wanted, once its attempts have ended."""

    @property
    def ready(self) -> bool:
        """Whether it has sent a heartbeat."""
        return self.heartbeat is not None

    @property
    def load(self) -> int:
        """Attempts that it is running or has to run."""
        return len(self.running) + len(self.suspects)

    def room(self, envs_per_actor: int) -> int:
        """Return how many more attempts may be started here now."""
        if not self.ready or (self.leaving and not self.suspects):
            return 0
        if self.suspects or any(attempt.isolated for attempt in self.running.values()):
            return 1 if self.suspects and not self.running else 0
        return max(0, envs_per_actor - len(self.running))


@dataclass(frozen=True)
class Death:
    """The end of an env actor, and what becomes of its attempts; the module's docstring has the rules."""

    reason: str
    charged: tuple[Attempt, ...] = ()
    released: tuple[Attempt, ...] = ()
    suspects: tuple[Attempt, ...] = ()


def _death(actor: EnvActorHandle, reason: str, culprit: int | None) -> Death:
    """Apply the rules to the attempts of an actor, among them those that were suspects before."""
    running, suspects = tuple(actor.running.values()), tuple(actor.suspects)
    if actor.heartbeat is not None and node_is_lost(actor.heartbeat.process.node):
        return Death(f"{reason} (its node was lost)", released=(*running, *suspects))
    if culprit is not None:
        neighbors = tuple(attempt for number, attempt in actor.running.items() if number != culprit)
        return Death(reason, (actor.running[culprit],), neighbors, suspects)
    if len(running) > 1:
        isolated = tuple(replace(attempt, isolated=True) for attempt in running)
        return Death(reason, suspects=(*isolated, *suspects))
    return Death(reason, charged=running, suspects=suspects)


class EnvPool:
    """Starts env actors, runs attempts on them, and replaces those that hang or die.

    Args:
      start: Starts an env actor and returns its Ray handle.
      post: Puts outcomes into the engine's event queue, of the kinds `played` and `env_actor`.
    """

    def __init__(self, start: Callable[[], Any], post: Post, timeouts: Timeouts):
        self._start = start
        self._post = post
        self._timeouts = timeouts
        self._actors: dict[int, EnvActorHandle] = {}
        self._attempt_ids = itertools.count()
        self._stillborn = 0
        self._without_shared_memory = False
        self._notes: list[str] = []
        self._wanted = 0
        self.all: list[EnvActorHandle] = []

    @property
    def running(self) -> int:
        """Attempts that are under way or waiting as suspects."""
        return sum(actor.load for actor in self.all)

    def attempts(self) -> Iterator[Attempt]:
        """Iterate over attempts that are under way or waiting as suspects."""
        for actor in self.all:
            yield from actor.running.values()
            yield from actor.suspects

    def scale_to(self, count: int) -> None:
        """Start missing env actors; let surplus ones leave once their attempts have ended."""
        self._wanted = count
        staying = [actor for actor in self.all if not actor.leaving]
        for _ in range(count - len(staying)):
            self._add(())
        surplus = max(0, len(staying) - count)
        for actor in sorted(staying, key=lambda actor: actor.load)[:surplus]:
            if not actor.suspects:
                self.replace(actor, "fewer env actors are wanted")

    def _add(self, suspects: Iterable[Attempt]) -> None:
        now = time.monotonic()
        actor = EnvActorHandle(handle=self._start(), started_at=now, heard_at=now, suspects=deque(suspects))
        self.all.append(actor)
        actor.poll(self._post, "env_actor")

    def play(
        self, actor: EnvActorHandle, attempt: Attempt, policy: PolicySpec, workers: tuple[Any, ...]
    ) -> None:
        """Start an attempt on an actor; a `played` event follows."""
        name = attempt.spec.policy
        if actor.policies.get(name) != workers:
            actor.policies[name] = workers
            actor.handle.meet.remote(name, policy, workers)
        attempt_id = next(self._attempt_ids)
        actor.running[attempt_id] = attempt
        self._actors[attempt_id] = actor
        reference = actor.handle.play.remote(attempt.spec, attempt_id)
        self._post("played", attempt_id, reference.future())

    def actor_of(self, attempt_id: int) -> EnvActorHandle | None:
        """Return the actor that runs an attempt; None if the attempt has ended."""
        return self._actors.get(attempt_id)

    def end(self, attempt_id: int) -> Attempt:
        """Remove an attempt that has ended and return it."""
        return self._actors.pop(attempt_id).running.pop(attempt_id)

    def poll(self, now: float, every_s: float) -> None:
        """Request heartbeats from actors whose latest is older than `every_s` seconds."""
        for actor in self.all:
            actor.poll_if_due(self._post, "env_actor", now, every_s)

    def on_heartbeat(self, actor: EnvActorHandle, future: Future[EnvActorHeartbeat]) -> Death | None:
        """Take in a heartbeat; returns the death of the actor if the request failed."""
        if actor not in self.all:
            return None
        try:
            heartbeat = future.result()
        except RayError as error:
            return self.died(actor, first_line(error))
        self._stillborn = 0
        actor.take(heartbeat, time.monotonic())
        self._timeouts.learn(heartbeat.totals)
        if (why := heartbeat.without_shared_memory) and not self._without_shared_memory:
            self._without_shared_memory = True
            self._notes.append(
                f"Queries go through Ray, which is slower: shared memory cannot be used here ({why}). In a container, "
                "give /dev/shm more room (--shm-size)."
            )
        return None

    def take_notes(self) -> list[str]:
        """Return notes for the user that have not been returned before."""
        notes, self._notes = self._notes, []
        return notes

    def judge(self, now: float, oldest_query_s: Callable[[str], float]) -> list[Death]:
        """End actors that hang.

        Args:
          oldest_query_s: Age of the oldest query that a policy, by name, has not answered.

        Raises:
          EngineError: If no env actor becomes ready.
        """
        waited_s = now - min((actor.started_at for actor in self.all), default=now)
        if waited_s > self._timeouts.start_s and not any(actor.ready for actor in self.all):
            raise EngineError(
                f"No env actor became ready in {waited_s:.0f} s. Check whether the cluster has a free core "
                "(`ray status`) and whether other runs occupy them."
            )
        deaths = []
        for actor in list(self.all):
            if actor.ready:
                deaths += self._judge_ready(actor, now, oldest_query_s)
            elif now - actor.started_at > PATIENCE_S:  # It may be waiting for a free core, which is no fault.
                self._pass_on_suspects(actor)
        return deaths

    def _judge_ready(
        self, actor: EnvActorHandle, now: float, oldest_query_s: Callable[[str], float]
    ) -> list[Death]:
        def answering_s(attempt_id: int) -> float:
            known = attempt_id in actor.running
            return oldest_query_s(actor.running[attempt_id].spec.policy) if known else math.inf

        assert actor.heartbeat is not None
        overdue = self._timeouts.overdue(actor.heartbeat, answering_s=answering_s)
        if overdue is not None and overdue.phase == "query":
            # Its reply may have waited for a long step; then it is gone at the next heartbeat.
            before = actor.previous and self._timeouts.overdue(actor.previous, answering_s=answering_s)
            overdue = overdue if before and before.attempt_id == overdue.attempt_id else None
        if overdue is not None and overdue.attempt_id in actor.running:
            return [self._kill(actor, str(overdue), overdue.attempt_id)]
        silent_s = actor.silent_s(now)
        if silent_s <= self._timeouts.silence_s:
            return []
        reason = f"the process has sent no heartbeat for {silent_s:.0f} s"
        stuck = self._timeouts.overdue(actor.heartbeat, silent_s, answering_s=answering_s)
        if stuck is not None and stuck.attempt_id in actor.running:
            return [self._kill(actor, f"{reason}, and {stuck}", stuck.attempt_id)]
        return [self._kill(actor, reason, None)]

    def replace(self, actor: EnvActorHandle, reason: str, *, at_once: bool = False) -> Death | None:
        """End an actor once its attempts have ended, or at once; another is started if still wanted."""
        actor.leaving = True
        return self._kill(actor, reason, None) if at_once or not actor.running else None

    def _kill(self, actor: EnvActorHandle, reason: str, culprit: int | None) -> Death:
        if actor.heartbeat is not None:
            kill_process(actor.heartbeat.process)
        ray.kill(actor.handle)
        return self.died(actor, reason, culprit)

    def died(self, actor: EnvActorHandle, reason: str, culprit: int | None = None) -> Death:
        """Remove a dead actor, start another if one is wanted, and decide what becomes of its attempts.

        Args:
          culprit: Id of the attempt that exceeded a timeout, if that is why the actor was ended.

        Raises:
          EngineError: If env actors die one after the other before they are ready.
        """
        self.all.remove(actor)
        for attempt_id in actor.running:
            del self._actors[attempt_id]
        if not actor.ready:
            self._stillborn += 1
            if self._stillborn >= STILLBORN:
                raise EngineError(f"Env actors die before they are ready: {reason}")
        death = _death(actor, reason, culprit)
        if death.suspects or sum(not other.leaving for other in self.all) < self._wanted:
            self._add(death.suspects)
        return death

    def _pass_on_suspects(self, waiting: EnvActorHandle) -> None:
        """Let a ready actor run the suspects of one that is still starting."""
        others = [actor for actor in self.all if actor.ready and not actor.leaving]
        if waiting.suspects and others:
            min(others, key=lambda actor: len(actor.suspects)).suspects.extend(waiting.suspects)
            waiting.suspects.clear()

    def stop(self) -> None:
        """End all env actors."""
        for actor in self.all:
            ray.kill(actor.handle)
        self.all.clear()
        self._actors.clear()
