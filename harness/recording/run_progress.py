"""Display of a run's progress in the terminal that runs it."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from simloop.harness.recording.engine_metrics import EngineMetrics
from simloop.harness.recording.run_status import Status
from simloop.untrusted import printable

PLAIN_EVERY_S = 10.0
"""Seconds between two lines of an output that is not a terminal, such as a log file."""
BAR_WIDTH = 60


class RunProgress:
    """A live display on a terminal; elsewhere lines that begin with the time, printed when they have changed.

    Args:
      status: Returns the progress of the run.
    """

    def __init__(self, console: Console, status: Callable[[], Status]):
        self._console = console
        self._status = status
        self._printed_s = float("-inf")
        self._printed = ""
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=2, transient=True)

    def __enter__(self) -> RunProgress:
        """Start the display."""
        if self._console.is_terminal:
            self._live.start()
        self.tick()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the live display."""
        if self._console.is_terminal:
            self._live.stop()

    def say(self, message: str) -> None:
        """Print a line that stays."""
        clock = "" if self._console.is_terminal else time.strftime("%H:%M:%S ")
        self._console.print(clock + printable(message), highlight=False, markup=False, soft_wrap=True)

    def tick(self) -> None:
        """Print a line of progress if the output is no terminal and one is due."""
        if self._console.is_terminal or time.monotonic() - self._printed_s < PLAIN_EVERY_S:
            return
        self._printed_s = time.monotonic()
        if (line := status_line(self._status())) != self._printed:
            self._printed = line
            self.say(line)

    def _render(self) -> Group:
        return status_view(self._status())


def status_line(status: Status) -> str:
    """Describe a run in one line."""
    rates = [f"{name} {p.successes}/{p.done - p.errors}" for name, p in status.policies.items() if p.done]
    errors = sum(p.errors for p in status.policies.values())
    pieces = [
        f"{status.done}/{status.planned} episodes",
        rate_text(status),
        f"successes: {', '.join(rates)}" if rates else "",
        f"errors: {errors}" if errors else "",
        engine_text(status.engine),
    ]
    return "; ".join(piece for piece in pieces if piece)


def status_view(status: Status) -> Group:
    """Describe a run in a bar, a table of policies and two lines."""
    table = Table(box=None, padding=(0, 2), show_header=True, header_style="dim")
    for column in ("policy", "done", "successes [95 %]", "errors"):
        table.add_column(column, justify="left" if column == "policy" else "right", no_wrap=True)
    for name, policy in status.policies.items():
        errors = str(policy.errors) if policy.errors else "-"
        table.add_row(Text(printable(name)), f"{policy.done}/{policy.planned}", policy.rate_text(), errors)
    bar = ProgressBar(total=max(1, status.planned), completed=status.done, width=BAR_WIDTH)
    doing = "" if status.episodes_per_h is None else f" · {status.doing}"
    return Group(
        Padding(bar, 0, expand=False),  # A bar alone does not end its line.
        table,
        Text(printable(f"{status.done}/{status.planned} episodes, {rate_text(status)}{doing}"), style="dim"),
        Text(printable(engine_text(status.engine)), style="dim"),
    )


def rate_text(status: Status) -> str:
    """Describe the speed and the time left; what the run is doing until its first episode has finished."""
    if status.episodes_per_h is None:
        return status.doing
    left = "" if status.left_s is None else f", {duration(status.left_s)} left"
    return f"{status.episodes_per_h:.0f}/h{left}"


def engine_text(metrics: EngineMetrics) -> str:
    """Describe the utilisation of the engine."""

    def percent(share: float | None) -> str:
        return "?" if share is None else f"{share:.0%}"

    parts = [metrics.starting] if metrics.starting else []
    if metrics.simulators:
        parts.append(
            f"{metrics.simulators} env actors x {metrics.places}, busy {percent(metrics.simulator_share)}"
        )
    if metrics.simulators and metrics.workers:
        parts.append(
            f"policy busy {percent(metrics.device_share)}, batches filled {percent(metrics.batch_fill)}, "
            f"{metrics.queue} queries waiting"
        )
    if metrics.retried:
        parts.append(f"{metrics.retried} attempts repeated")
    if metrics.replaced:
        parts.append(f"{metrics.replaced} processes replaced")
    if metrics.slow:
        parts.append(f"slow: {metrics.slow}")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Write a duration in hours and minutes, minutes and seconds, or seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
