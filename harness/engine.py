"""Hands episodes to simulators and keeps policy workers ready for them, until all are done.

    Agenda ──> Simulators ──> results        a thread of its own, so that no simulator waits for a disk
                   │  ask
                Workforce

Ray starts, places, connects and restarts the processes. What is here decides who plays what next, and
whether a process that is silent or late is still to be waited for.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import psutil
from ray.exceptions import RayError, RayTaskError

from harness.agenda import Agenda, Attempt
from harness.deadlines import Deadlines
from harness.env_actor import EpisodeResult, VideoSettings, start_env_actor
from harness.figures import Figures, phase_text, simulator_figures, worker_figures
from harness.health import SimulatorHealth, WorkerHealth
from harness.plan import EpisodeSpec
from harness.policy_worker import WorkerReport, start_policy_worker
from harness.protocol import Protocol
from harness.ray_connection import RayConnection
from harness.resources import Resources
from harness.simulators import Death, Simulator, Simulators, first_line
from harness.sizing import Sizing
from harness.sources import REGISTERED, Sources
from harness.workforce import Workforce
from policies.interface import PolicySpec

WORKERS_AHEAD = 1  # While one policy plays, the next compiles; more would compete for memory.
POLL_S = 0.5
HEALTH_S = 1.0
"""Between two questions after the health of a process; of many processes each is asked more rarely."""
HEALTHS_PER_S = 200.0
UNREAD = 256  # Results that may wait to be written down before no other episode is begun.

Event = tuple[str, Any, "Future[Any] | None"]


@dataclass(frozen=True)
class Listener:
    """Who wants to know what happens beside the results."""

    ready: Callable[[WorkerReport], None] = lambda report: None
    """A policy can answer."""
    retry: Callable[[Attempt, str], None] = lambda attempt, error: None
    """An attempt broke, by this error, and is made again."""
    note: Callable[[str], None] = lambda note: None
    """Something else happened, in a sentence."""
    figures: Callable[[Figures], None] = lambda figures: None
    """About once a second."""


class Engine:
    """Ray actors for one run. A context manager: leaving it stops every actor.

    Uses the Ray that this process is connected to; otherwise the one at `resources.ray_address`; otherwise
    starts one on this machine, and stops it.

    Args:
      buckets: Rows of a call of a policy worker. One number alone keeps answers independent of their company.
      listener: Is called in the thread that reads `results`.
    """

    def __init__(
        self,
        protocol: Protocol,
        policies: Mapping[str, PolicySpec],
        buckets: int | Sequence[int],
        resources: Resources,
        video: VideoSettings | None,
        listener: Listener | None = None,
        sources: Sources = REGISTERED,
    ):
        self._protocol = protocol
        self._policies = policies
        self._buckets = (buckets,) if isinstance(buckets, int) else tuple(buckets)
        self._resources = resources
        self._video = video
        self._listener = listener or Listener()
        self._sources = sources
        self._ray = RayConnection(resources)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._deadlines = Deadlines(resources.deadlines)
        self._simulators = Simulators(
            lambda: start_env_actor(protocol, video, sources), self._post, self._deadlines
        )
        self._workforce = Workforce(self._start_workers, self._post, self._deadlines)
        asked = any(policy.runs_in == "worker" for policy in policies.values())
        self._sizing = Sizing(
            resources.envs_per_actor, asked_elsewhere=asked, total_bytes=psutil.virtual_memory().total
        )
        self._agenda = Agenda(())
        self._under_way: set[str] = set()
        self._stopping = threading.Event()
        self._leaving = threading.Event()
        self.figures = Figures()
        """The last seconds."""

    def __enter__(self) -> Engine:
        """Have a Ray to work with."""
        self._ray.open()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything, also episodes under way."""
        self._leaving.set()
        self._simulators.stop()
        self._workforce.stop()
        self._ray.close()

    @property
    def env_actors(self) -> int:
        """How many simulators run at once."""
        return self._resources.env_actors or self._ray.cores()

    def healths(self) -> tuple[list[SimulatorHealth], list[WorkerHealth]]:
        """What simulators and policy workers last said of themselves."""
        simulators = [s.health for s in list(self._simulators.all) if s.health is not None]
        return simulators, [w.health for w in self._workforce.all if w.health is not None]

    def stop_asking(self) -> None:
        """Start no episode any more; those under way are still played and yielded."""
        self._stopping.set()

    def results(
        self, todo: Sequence[EpisodeSpec], *, in_order: bool = False
    ) -> Iterator[tuple[Attempt, EpisodeResult]]:
        """Play all episodes; yields each once, when it is played or has failed for the last time.

        Args:
          in_order: Whether to start them strictly in their order, waiting for a policy that is not ready,
            rather than to play later episodes of others meanwhile; and none before the results so far
            have been looked at.

        Raises:
          EngineError: If a policy cannot be loaded or compiled, or nothing can be simulated.
        """
        self._agenda = Agenda(todo, in_order=in_order)
        self._stopping.clear()
        outbox: queue.Queue[tuple[Any, ...]] = queue.Queue()
        thread = threading.Thread(
            target=self._play_all, args=(outbox, 0 if in_order else UNREAD), name="engine", daemon=True
        )
        thread.start()
        try:
            while True:
                kind, *content = outbox.get()
                if kind == "end":
                    break
                if kind == "result":
                    yield content[0], content[1]
                else:
                    getattr(self._listener, kind)(*content)
                outbox.task_done()
                self._events.put(("read", None, None))
        finally:
            self._leaving.set()
            thread.join()
            self._leaving.clear()
        if content[0] is not None:
            raise content[0]

    # What follows runs in the engine's own thread.

    def _post(self, kind: str, tag: Any, future: Future[Any]) -> None:
        future.add_done_callback(lambda done: self._events.put((kind, tag, done)))

    def _play_all(self, outbox: queue.Queue[tuple[Any, ...]], most_unread: int) -> None:
        failure: BaseException | None = None
        try:
            self._simulators.have(min(self.env_actors, len(self._agenda)))
            looked = time.monotonic()
            while not self._leaving.is_set() and (len(self._agenda) or self._simulators.running):
                if self._stopping.is_set():
                    self._agenda.clear()
                self._workforce.have(self._policies_wanted())
                if outbox.unfinished_tasks <= most_unread:
                    self._dispatch()
                self._take_events(outbox)
                now = time.monotonic()
                if now - looked >= HEALTH_S / 2:
                    looked = now
                    self._look_after(now, outbox)
                self._workforce.keep(self._policies_needed())
        except BaseException as error:
            failure = error
        outbox.put(("end", failure))

    def _take_events(self, outbox: queue.Queue[tuple[Any, ...]]) -> None:
        """What has happened since the last look; waits for something to happen."""
        try:
            events = [self._events.get(timeout=POLL_S)]
            while not self._events.empty():
                events.append(self._events.get_nowait())
        except queue.Empty:
            return
        for kind, tag, future in events:
            if future is None:  # Somebody has read a result: there may be room for more.
                continue
            if kind == "played":
                self._played(tag, future, outbox)
            elif kind == "prepared":
                if report := self._workforce.prepared(tag, future):
                    outbox.put(("ready", report))
            elif kind == "worker":
                if note := self._workforce.heard(tag, future):
                    self._replaced(note, outbox)
            elif death := self._simulators.heard(tag, future):
                self._bury(death, outbox)

    def _played(self, ticket: int, future: Future[EpisodeResult], outbox: queue.Queue[Any]) -> None:
        simulator = self._simulators.simulator_of(ticket)
        if simulator is None:
            return
        try:
            result = future.result()
        except RayTaskError as error:
            _, attempt = self._simulators.ended(ticket) or (None, None)
            assert attempt is not None
            result = EpisodeResult(attempt.spec, None, error=first_line(error.cause), trace=str(error))
        except RayError as error:
            self._bury(self._simulators.died(simulator, first_line(error)), outbox)
            return
        else:
            _, attempt = self._simulators.ended(ticket) or (None, None)
            assert attempt is not None
        if result.played is not None:
            self._agenda.expected.learn(attempt.spec, result.played.wall_s)
        self._settle(attempt, result, outbox)
        if result.unfit:
            self._retire(simulator, result.error, outbox)
        elif simulator.leaving and not simulator.running:
            self._retire(simulator, "as announced", outbox)

    def _settle(self, attempt: Attempt, result: EpisodeResult, outbox: queue.Queue[Any]) -> None:
        """Have an attempt made again, or hand out what came of it."""
        if result.played is None and attempt.number < self._resources.max_attempts:
            outbox.put(("retry", attempt, result.error))
            self._count("retried")
            self._agenda.put_back(attempt.again())
        else:
            outbox.put(("result", attempt, result))

    def _bury(self, death: Death, outbox: queue.Queue[Any]) -> None:
        """What becomes of the attempts of a simulator that is no more."""
        self._replaced(f"A simulator process is replaced: {death.reason}", outbox)
        for attempt in death.uncharged:
            self._agenda.put_back(attempt)
        for attempt in death.charged:
            error = f"The simulator process died: {death.reason}"
            self._settle(attempt, EpisodeResult(attempt.spec, None, error=error), outbox)

    def _retire(self, simulator: Simulator, reason: str, outbox: queue.Queue[Any]) -> None:
        if death := self._simulators.replace(simulator, reason):
            self._bury(death, outbox)

    def _replaced(self, note: str, outbox: queue.Queue[Any]) -> None:
        self._count("replaced")
        outbox.put(("note", note))

    def _count(self, what: str) -> None:
        self.figures = dataclasses.replace(self.figures, **{what: getattr(self.figures, what) + 1})

    def _dispatch(self) -> None:
        """Give simulators with room the next episodes whose policy can answer."""
        places = self._sizing.places
        free = [simulator for simulator in self._simulators.all if simulator.room(places)]
        few = 2 * len(self._simulators.all) * places
        while free:
            free.sort(key=lambda simulator: len(simulator.running))
            simulator = free[0]
            if simulator.alone:
                attempt: Attempt | None = simulator.alone.popleft()
                if attempt is not None and not self._playable(attempt.spec.policy):
                    simulator.alone.appendleft(attempt)
                    free.pop(0)
                    continue
            else:
                attempt = self._agenda.next(self._playable, few=few)
            if attempt is None:
                free.pop(0)
                continue
            policy = self._policies[attempt.spec.policy]
            self._simulators.play(simulator, attempt, policy, self._workforce.ready(policy.name))
            if not simulator.room(places):
                free.pop(0)

    def _playable(self, policy: str) -> bool:
        return self._policies[policy].runs_in == "actor" or bool(self._workforce.ready(policy))

    def _policies_wanted(self) -> list[str]:
        """Policies that need workers now, and those that play next."""
        wanted = {attempt.spec.policy for attempt in self._simulators.attempts()}
        for policy in self._agenda.policies():
            if len(wanted) > WORKERS_AHEAD:
                break
            wanted.add(policy)
        return [policy for policy in wanted if self._policies[policy].runs_in == "worker"]

    def _policies_needed(self) -> set[str]:
        return {a.spec.policy for a in self._simulators.attempts()} | set(self._agenda.policies())

    def _start_workers(self, policy: str) -> list[Any]:
        gpus = self._ray.gpus()
        count = self._resources.workers or max(1, gpus)
        others = sum(spec.runs_in == "worker" for spec in self._policies.values()) - 1
        share = min(1.0, gpus / count) / (1 + min(others, WORKERS_AHEAD))
        return [start_policy_worker(policy, self._buckets, share, self._sources) for _ in range(count)]

    def _look_after(self, now: float, outbox: queue.Queue[Any]) -> None:
        """Ask how everybody is, end who hangs, and judge whether there are enough of everything."""
        processes = len(self._simulators.all) + len(self._workforce.all)
        every_s = max(HEALTH_S, processes / HEALTHS_PER_S)
        self._simulators.ask_all(now, every_s)
        self._workforce.ask_all(now, every_s)
        for death in self._simulators.judge(now, answers_due=self._workforce.idle()):
            self._bury(death, outbox)
        for note in self._workforce.judge(now):
            self._replaced(note, outbox)
        self._measure()
        policies = {attempt.spec.policy for attempt in self._simulators.attempts()}
        if policies != self._under_way:
            self._under_way = policies
            self._sizing.reset()
        places = self._sizing.places
        judgement = self._sizing.judge(self.figures)
        if judgement.places != places:
            outbox.put(("note", f"{judgement.places} environments per simulator: {judgement.reason}."))
        self._mind_memory(judgement.short_of_memory, outbox)
        if outbox.empty():
            outbox.put(("figures", self.figures))

    def _mind_memory(self, short: bool, outbox: queue.Queue[Any]) -> None:
        """Replace a simulator that has grown beyond what it may have, or far beyond the others."""
        known = [s for s in self._simulators.all if s.health is not None and not s.leaving]
        if not known:
            return
        sizes = {s: s.health.process.rss_bytes for s in known if s.health is not None}
        largest = max(sizes, key=sizes.__getitem__)
        limit = self._resources.actor_memory_gib
        if limit is None:
            usual = sorted(sizes.values())[len(sizes) // 2]
            if not short or (len(sizes) > 1 and sizes[largest] < 1.5 * usual):
                return
        elif sizes[largest] < limit * 2**30:
            return
        over = limit is not None and sizes[largest] > 1.5 * limit * 2**30
        reason = f"it has grown to {sizes[largest] / 2**30:.1f} GiB"
        if death := self._simulators.replace(largest, reason, now=over):
            self._bury(death, outbox)

    def _measure(self) -> None:
        simulators = [(s.before, s.health) for s in self._simulators.all if s.before and s.health]
        workers = [(w.before, w.health) for w in self._workforce.all if w.before and w.health]
        slow = next((d for _, h in simulators if (d := self._deadlines.slow(h))), None)
        self.figures = Figures(
            simulators=len(self._simulators.all),
            places=self._sizing.places,
            running=self._simulators.running,
            waiting=len(self._agenda),
            workers=len(self._workforce.all),
            retried=self.figures.retried,
            replaced=self.figures.replaced,
            slow=f"{phase_text(slow.phase)} for {slow.for_s:.0f} s" if slow and slow.phase else "",
            **simulator_figures(simulators),
            **worker_figures(workers),
        )
