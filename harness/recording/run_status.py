"""Progress of a run, for the terminal, `status.json`, `figures.jsonl` and dashboards."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from simloop.harness.errors import SimloopError
from simloop.harness.recording.engine_metrics import EngineMetrics
from simloop.harness.recording.run_folder import write_atomically
from simloop.results.records.records import EpisodeRecord, file_of, run_folder
from simloop.results.statistics.intervals import wilson
from simloop.untrusted import MAX_JSON_BYTES, read_bytes

STATUS = "status.json"
METRICS = "figures.jsonl"
"""One line per minute; a kill may cut off the last."""
STATUS_EVERY_S = 2.0
METRICS_EVERY_S = 60.0
RATE_OVER_S = 600.0
"""Window of the rate of episodes, so that it follows a run that slows down."""
STALE_S = 30.0
"""Age from which a report of a run in progress counts as its last one."""

State = Literal["starting", "running", "complete", "interrupted", "failed"]


@dataclass(frozen=True)
class PolicyStatus:
    """Counts of the episodes of one policy."""

    planned: int
    done: int = 0
    successes: int = 0
    errors: int = 0

    def rate_text(self) -> str:
        """Return the success rate over completed episodes with its 95 % Wilson interval."""
        completed = self.done - self.errors
        if not completed:
            return "-"
        interval = wilson(self.successes, completed)
        return (
            f"{self.successes}/{completed} = {self.successes / completed:.0%} "
            f"[{interval.low:.0%}, {interval.high:.0%}]"
        )


@dataclass(frozen=True)
class Status:
    """Progress of a run at one moment."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)

    state: State
    written: str
    host: str
    pid: int
    doing: str
    """Last event, in words."""
    policies: dict[str, PolicyStatus]
    elapsed_s: float
    """Seconds since this start of the command."""
    episodes_per_h: float | None = None
    left_s: float | None = None
    engine: EngineMetrics = field(default_factory=EngineMetrics)

    @property
    def in_progress(self) -> bool:
        """Whether the run has not reported its end."""
        return self.state in ("starting", "running")

    @property
    def done(self) -> int:
        """Number of episodes in the ledger."""
        return sum(policy.done for policy in self.policies.values())

    @property
    def planned(self) -> int:
        """Number of episodes in the plan."""
        return sum(policy.planned for policy in self.policies.values())

    def to_json(self) -> str:
        """Return the status as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    def scalars(self) -> dict[str, float]:
        """Return all numbers by names with slashes, as dashboards group them."""
        found = {"episodes/done": float(self.done), "episodes/planned": float(self.planned)}
        for name, value in [("episodes/per_h", self.episodes_per_h), ("episodes/left_s", self.left_s)]:
            if value is not None:
                found[name] = value
        for policy, counts in self.policies.items():
            completed = counts.done - counts.errors
            found[f"errors/{policy}"] = float(counts.errors)
            if completed:
                found[f"success/{policy}"] = counts.successes / completed
        for name, value in dataclasses.asdict(self.engine).items():
            if isinstance(value, int | float):
                found[f"engine/{name}"] = float(value)
        return found | {f"engine/{phase}_ms": ms for phase, ms in self.engine.phase_ms.items()}


_STATUS = TypeAdapter(Status)


def status_from_json(text: str | bytes, where: str = STATUS) -> Status:
    """Read what `Status.to_json` wrote.

    Raises:
      SimloopError: If it is anything else. `where` names the text in the message.
    """
    try:
        status = _STATUS.validate_json(text)
        if datetime.datetime.fromisoformat(status.written).tzinfo is None:
            raise ValueError("written: lacks a time zone")
        for name, p in status.policies.items():
            if not (0 <= p.errors <= p.done <= p.planned < 2**63 and 0 <= p.successes <= p.done - p.errors):
                raise ValueError(f"policies.{name}: counts that contradict each other")
    except ValueError as error:
        problem = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            problem = f"{'.'.join(map(str, first['loc'])) or 'its text'}: {first['msg']}"
        raise SimloopError(
            f"{where} is not the progress of a run: {problem}. Another version may have written it."
        ) from error
    return status


def read_status(run: str | Path) -> Status:
    """Read the last reported progress of a run.

    Raises:
      SimloopError: If the run has reported none.
      LedgerError: If the folder is no run folder.
    """
    file = file_of(run_folder(run), STATUS)
    if not file.exists():
        raise SimloopError(
            f"{run} has no {STATUS} yet: the run is starting, or an earlier version wrote the folder."
        )
    return status_from_json(read_bytes(file, MAX_JSON_BYTES, error=SimloopError), str(file))


def is_stale(status: Status, now: datetime.datetime | None = None) -> bool:
    """Whether a run in progress has reported nothing for `STALE_S`: it was probably killed."""
    written = datetime.datetime.fromisoformat(status.written)
    age_s = ((now or datetime.datetime.now(datetime.UTC)) - written).total_seconds()
    return status.in_progress and age_s > STALE_S


class RunStatus:
    """Count the episodes of a run and report its progress to files and dashboards.

    Args:
      totals: Planned episodes of each policy.
      done: Planned episodes that the run folder held at the start.
      dashboards: Called every few seconds and at the end.
      clock: Returns monotonic seconds.
    """

    def __init__(
        self,
        folder: Path,
        totals: Mapping[str, int],
        done: Iterable[EpisodeRecord],
        dashboards: Iterable[Callable[[Status], None]] = (),
        clock: Callable[[], float] = time.monotonic,
    ):
        self._folder = folder
        self._totals = dict(totals)
        self._outcomes: dict[str, Counter[str]] = {name: Counter() for name in totals}
        for record in done:
            self._outcomes[record.policy][record.outcome] += 1
        self._dashboards = list(dashboards)
        self._clock = clock
        self._started = clock()
        self._finished: deque[float] = deque()
        self._state: State = "starting"
        self._written = self._noted = float("-inf")
        self.doing = "starting Ray"
        self.engine = EngineMetrics()

    def finished(self, record: EpisodeRecord) -> None:
        """Count an episode."""
        self._state = "running"
        self._outcomes[record.policy][record.outcome] += 1
        self._finished.append(self._clock())
        self.doing = f"{record.policy}: {record.task}"
        self.report()

    def metrics(self, engine: EngineMetrics) -> None:
        """Take over what the engine measured."""
        self._state = "running"
        self.engine = engine
        self.report()

    def end(self, state: State) -> None:
        """Report the end of the run."""
        self._state = state
        self._written = self._noted = float("-inf")
        self.report()

    def now(self) -> Status:
        """Return the current progress."""
        policies = {
            name: PolicyStatus(self._totals[name], counts.total(), counts["success"], counts["error"])
            for name, counts in self._outcomes.items()
        }
        rate = self._rate_per_s()
        left = sum(p.planned - p.done for p in policies.values())
        return Status(
            state=self._state,
            written=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            host=socket.gethostname(),
            pid=os.getpid(),
            doing=self.doing,
            policies=policies,
            elapsed_s=round(self._clock() - self._started, 1),
            episodes_per_h=None if rate is None else round(3600 * rate, 1),
            left_s=None if not rate else round(left / rate, 1),
            engine=self.engine,
        )

    def _rate_per_s(self) -> float | None:
        now = self._clock()
        while self._finished and now - self._finished[0] > RATE_OVER_S:
            self._finished.popleft()
        span = min(now - self._started, RATE_OVER_S)
        return len(self._finished) / span if self._finished and span > 0 else None

    def report(self) -> None:
        """Report the progress, at most every `STATUS_EVERY_S`."""
        now = self._clock()
        if now - self._written < STATUS_EVERY_S:
            return
        self._written = now
        status = self.now()
        with contextlib.suppress(OSError):  # A full disk ends the run where it cannot take an episode.
            write_atomically(self._folder / STATUS, status.to_json() + "\n", durable=False)
            if now - self._noted >= METRICS_EVERY_S:
                self._noted = now
                with (self._folder / METRICS).open("a", encoding="utf-8") as file:
                    file.write(status.to_json() + "\n")
        for dashboard in self._dashboards:
            dashboard(status)
