"""The env actors of a run: who plays what, who is well, and what becomes of the episodes of one that is not."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from simloop.harness.actors.heartbeat import EnvActorHeartbeat, ProcessHeartbeat
from simloop.harness.engine.episode_queue import Attempt
from simloop.harness.engine.resources import EngineError
from simloop.harness.engine.timeouts import Timeouts
from simloop.policies.interface import PolicySpec

Post = Callable[..., None]
"""Has a message put into the engine's queue: `post(kind, tag, future)`."""

CALL_S = 2.0  # For a machine to take a call.
PATIENCE_S = 30.0
"""For a new simulator to be ready, which may find no core; then others play what it was to play."""
STILLBORN = 3  # Processes in a row that die before they are ready: no other one will do better.


@dataclass(eq=False)
class EnvActorHandle:
    """One env actor."""

    handle: Any
    born: float
    running: dict[int, Attempt] = field(default_factory=dict)
    """Attempts under way, by their tickets."""
    alone: deque[Attempt] = field(default_factory=deque)
    """Attempts that are played here one by one before anything else, because one of them may be deadly."""
    met: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Policies that it has been told of, with their workers."""
    leaving: bool = False
    """Whether it is to be replaced once it has nothing under way."""
    heartbeat: EnvActorHeartbeat | None = None
    before: EnvActorHeartbeat | None = None
    """The reading before that."""
    asked: float | None = None
    """Since when an answer about its health has been awaited."""
    heard: float = 0.0

    @property
    def ready(self) -> bool:
        """Whether it has shown that it lives."""
        return self.heartbeat is not None

    def room(self, places: int) -> int:
        """How many more attempts it may be given now."""
        if not self.ready or (self.leaving and not self.alone):
            return 0
        if self.alone or any(attempt.alone for attempt in self.running.values()):
            return 1 if self.alone and not self.running else 0
        return max(0, places - len(self.running))


@dataclass(frozen=True)
class Death:
    """What the end of a simulator means for its attempts."""

    reason: str
    charged: tuple[Attempt, ...] = ()
    """Those that brought it about, or were alone with it."""
    uncharged: tuple[Attempt, ...] = ()
    """Those that had no part in it."""


class EnvPool:
    """Starts, feeds, watches and replaces env actors."""

    def __init__(self, start: Callable[[], Any], post: Post, timeouts: Timeouts):
        self._start = start
        self._post = post
        self._timeouts = timeouts
        self._tickets: dict[int, EnvActorHandle] = {}
        self._numbers = itertools.count()
        self._stillborn = 0
        self._wanted = 0
        self.all: list[EnvActorHandle] = []

    @property
    def running(self) -> int:
        """Attempts under way, and those that must be played alone."""
        return len(self._tickets) + sum(len(simulator.alone) for simulator in self.all)

    def attempts(self) -> Iterator[Attempt]:
        """All of these."""
        for simulator in self.all:
            yield from simulator.running.values()
            yield from simulator.alone

    def have(self, count: int) -> None:
        """Start as many as are missing; have those that are too many leave when their episodes have ended."""
        self._wanted = count
        staying = [simulator for simulator in self.all if not simulator.leaving]
        for _ in range(count - len(staying)):
            self._add(())
        for simulator in sorted(staying, key=lambda s: len(s.running) + len(s.alone))[: len(staying) - count]:
            if not simulator.alone:
                self.replace(simulator, "it is one too many")

    def _add(self, alone: Sequence[Attempt]) -> None:
        now = time.monotonic()
        simulator = EnvActorHandle(self._start(), now, alone=deque(alone), heard=now)
        self.all.append(simulator)
        self._ask(simulator)

    def play(
        self, simulator: EnvActorHandle, attempt: Attempt, policy: PolicySpec, workers: tuple[Any, ...]
    ) -> None:
        """Have an attempt made; `played` comes in."""
        name = attempt.spec.policy
        if simulator.met.get(name) != workers:
            simulator.met[name] = workers
            simulator.handle.meet.remote(name, policy, workers)
        attempt_id = next(self._numbers)
        simulator.running[attempt_id] = attempt
        self._tickets[attempt_id] = simulator
        reference = simulator.handle.play.remote(attempt.spec, attempt_id)
        self._post("played", attempt_id, reference.future())

    def ended(self, attempt_id: int) -> tuple[EnvActorHandle, Attempt] | None:
        """Take an attempt off; None if its end is known already."""
        simulator = self._tickets.pop(attempt_id, None)
        return None if simulator is None else (simulator, simulator.running.pop(attempt_id))

    def simulator_of(self, attempt_id: int) -> EnvActorHandle | None:
        """Who makes the attempt."""
        return self._tickets.get(attempt_id)

    def ask_all(self, now: float, every_s: float) -> None:
        """Ask those after their health that have not been asked for a while."""
        for simulator in self.all:
            if simulator.asked is None and now - simulator.heard >= every_s:
                self._ask(simulator)

    def _ask(self, simulator: EnvActorHandle) -> None:
        simulator.asked = time.monotonic()
        self._post("simulator", simulator, simulator.handle.heartbeat.remote().future())

    def heard(self, simulator: EnvActorHandle, future: Future[EnvActorHeartbeat]) -> Death | None:
        """Take in what a simulator says of itself; its death, if that is all that came."""
        if simulator not in self.all:
            return None
        try:
            heartbeat = future.result()
        except RayError as error:
            return self.died(simulator, first_line(error))
        self._stillborn = 0
        simulator.asked, simulator.heard = None, time.monotonic()
        simulator.before, simulator.heartbeat = simulator.heartbeat, heartbeat
        self._timeouts.learn(heartbeat.totals)
        return None

    def judge(self, now: float, *, answers_due: bool) -> list[Death]:
        """End those that hang; what that means for their attempts. `answers_due` as in `Timeouts.overdue`."""
        deaths = []
        waited_s = now - min((s.born for s in self.all), default=now)
        if waited_s > self._timeouts.start_s and not any(s.ready for s in self.all):
            raise EngineError(
                f"No simulator could be started in {waited_s:.0f} s. Look whether the cluster has a free core "
                "(ray status) and whether other runs hold them."
            )
        for simulator in list(self.all):
            unheard_s = now - simulator.heard
            if not simulator.ready:
                # One that waits for a free core of a cluster is not late; what it was to play is played elsewhere.
                if now - simulator.born > PATIENCE_S:
                    self._hand_over(simulator)
                continue
            assert simulator.heartbeat is not None
            overdue = self._timeouts.overdue(simulator.heartbeat, answers_due=answers_due)
            if overdue is not None and overdue.attempt_id in simulator.running:
                deaths.append(self._end(simulator, str(overdue), overdue.attempt_id))
            elif simulator.asked is not None and unheard_s > self._timeouts.silence_s:
                stuck = self._timeouts.overdue(simulator.heartbeat, unheard_s, answers_due=answers_due)
                reason = f"the process has not answered for {unheard_s:.0f} s"
                if stuck is not None and stuck.attempt_id in simulator.running:
                    deaths.append(self._end(simulator, f"{reason}, while {stuck}", stuck.attempt_id))
                else:
                    deaths.append(self._end(simulator, reason, None))
        return deaths

    def replace(self, simulator: EnvActorHandle, reason: str, *, now: bool = False) -> Death | None:
        """Have another in its place: once its episodes have ended, or now."""
        simulator.leaving = True
        return self._end(simulator, reason, None) if now or not simulator.running else None

    def _end(self, simulator: EnvActorHandle, reason: str, guilty: int | None) -> Death:
        if simulator.heartbeat is not None:
            kill_process(simulator.heartbeat.process)
        ray.kill(simulator.handle)
        return self.died(simulator, reason, guilty)

    def died(self, simulator: EnvActorHandle, reason: str, guilty: int | None = None) -> Death:
        """A simulator is no more: start another where one is wanted, and say which attempts are to be made again.

        Where nobody knows which of several attempts brought the process down, the new one makes each of
        them alone. Attempts on a machine that was lost have no part in that.
        """
        self.all.remove(simulator)
        for attempt_id in simulator.running:
            self._tickets.pop(attempt_id, None)
        attempts = tuple(simulator.running.values())
        if not simulator.ready:
            self._stillborn += 1
            if self._stillborn >= STILLBORN:
                raise EngineError(f"Simulators die before they are ready: {reason}")
        if simulator.heartbeat is not None and _node_is_lost(simulator.heartbeat.process.node):
            self._follow(())
            return Death(f"{reason} (its machine was lost)", uncharged=(*attempts, *simulator.alone))
        if guilty is not None:
            charged = (simulator.running[guilty],)
            innocent = tuple(a for attempt_id, a in simulator.running.items() if attempt_id != guilty)
            self._follow(simulator.alone)
            return Death(reason, charged, innocent)
        if len(attempts) > 1:
            suspects = [Attempt(a.spec, a.number, alone=True) for a in attempts]
            self._follow([*suspects, *simulator.alone])
            return Death(reason)
        self._follow(simulator.alone)
        return Death(reason, charged=attempts)

    def _follow(self, alone: Sequence[Attempt]) -> None:
        """Start one in the place of another, which plays these first."""
        if alone or sum(not simulator.leaving for simulator in self.all) < self._wanted:
            self._add(alone)

    def _hand_over(self, waiting: EnvActorHandle) -> None:
        """Have another simulator play, alone, what one was to play that is not ready."""
        others = [simulator for simulator in self.all if simulator.ready and not simulator.leaving]
        if waiting.alone and others:
            min(others, key=lambda simulator: len(simulator.alone)).alone.extend(waiting.alone)
            waiting.alone.clear()

    def stop(self) -> None:
        """End all of them."""
        for simulator in self.all:
            ray.kill(simulator.handle)
        self.all.clear()
        self._tickets.clear()


def kill_process(process: ProcessHeartbeat) -> None:
    """End a process at once, whatever it is doing, on whichever machine it is."""
    if process.node == ray.get_runtime_context().get_node_id():
        _kill(process.pid)
        return
    if _node_is_lost(process.node):
        return
    there = NodeAffinitySchedulingStrategy(process.node, soft=False)
    with contextlib.suppress(RayError, GetTimeoutError):  # The machine is gone, and the process with it.
        remote = ray.remote(_kill).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        ray.get(remote.remote(process.pid), timeout=30)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _node_is_lost(node: str) -> bool:
    """Whether a machine of the cluster is no more.

    Ray says so only after half a minute without a sign of life; what was its port refuses calls at once.
    """
    for known in ray.nodes():
        if known["NodeID"] == node and known["Alive"]:
            address = (known["NodeManagerAddress"], known["NodeManagerPort"])
            try:
                socket.create_connection(address, CALL_S).close()
            except OSError:
                return True
            return False
    return True


def first_line(error: BaseException) -> str:
    """The first line of an error that says anything."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
