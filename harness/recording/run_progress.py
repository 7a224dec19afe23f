"""What a person sees while episodes run: success so far, rate, time left, and what the engine is busy with."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from simloop.harness.recording.engine_metrics import EngineMetrics
from simloop.harness.recording.run_status import Status

PLAIN_EVERY_S = 10.0  # Between two lines where nobody watches a terminal, such as a log file.


class RunProgress:
    """A live display on a terminal, a line every few seconds elsewhere.

    Args:
      status: Says how far the run is.
    """

    def __init__(self, console: Console, status: Callable[[], Status]):
        self._console = console
        self._status = status
        self._last_line = time.monotonic()
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=2, transient=True)

    def __enter__(self) -> RunProgress:
        """Start to show."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        if self._console.is_terminal:
            self._live.stop()

    def say(self, message: str) -> None:
        """A line that stays."""
        self._console.print(message, highlight=False, markup=False)

    def tick(self) -> None:
        """Time has passed."""
        if not self._console.is_terminal and time.monotonic() - self._last_line >= PLAIN_EVERY_S:
            self._last_line = time.monotonic()
            self.say(status_line(self._status()))

    def _render(self) -> Group:
        return status_view(self._status())


def status_line(status: Status) -> str:
    """A run in one line."""
    parts = [f"{name} {p.successes}/{p.done - p.errors}" for name, p in status.policies.items() if p.done]
    errors = sum(p.errors for p in status.policies.values())
    pieces = [
        f"{status.done}/{status.planned} episodes",
        rate_text(status),
        f"successes: {', '.join(parts) or '-'}",
        f"errors: {errors}" if errors else "",
        engine_text(status.engine),
        status.doing if status.episodes_per_h is None else "",
    ]
    return "; ".join(piece for piece in pieces if piece)


def status_view(status: Status) -> Group:
    """A run as a small page."""
    table = Table(box=None, padding=(0, 2), show_header=True, header_style="dim")
    for column in ("policy", "done", "successes [95 %]", "errors"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for name, policy in status.policies.items():
        errors = str(policy.errors) if policy.errors else "-"
        table.add_row(name, f"{policy.done}/{policy.planned}", policy.rate_text(), errors)
    return Group(
        ProgressBar(total=max(1, status.planned), completed=status.done, width=60),
        table,
        Text(f"{status.done}/{status.planned} episodes, {rate_text(status)} · {status.doing}", style="dim"),
        Text(engine_text(status.engine), style="dim"),
    )


def rate_text(status: Status) -> str:
    """How fast it goes and how long it will take."""
    if status.episodes_per_h is None:
        return "no episode finished yet"
    left = "" if status.left_s is None else f", {duration(status.left_s)} left"
    return f"{status.episodes_per_h:.0f}/h{left}"


def engine_text(figures: EngineMetrics) -> str:
    """Who is busy, who waits for whom, and what is slow."""

    def percent(share: float | None) -> str:
        return "?" if share is None else f"{share:.0%}"

    parts = [figures.starting] if figures.starting else []
    if figures.simulators:
        parts.append(
            f"{figures.simulators} simulators x {figures.places}, busy {percent(figures.simulator_share)}"
        )
    if figures.simulators and figures.workers:
        parts.append(
            f"policy busy {percent(figures.device_share)}, batches filled {percent(figures.batch_fill)}, "
            f"{figures.queue} queries waiting"
        )
    if figures.retried:
        parts.append(f"{figures.retried} attempts made again")
    if figures.replaced:
        parts.append(f"{figures.replaced} processes replaced")
    if figures.slow:
        parts.append(f"slow: {figures.slow}")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time as people say it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
