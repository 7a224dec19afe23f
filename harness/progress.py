"""What a person sees while episodes run: success so far, rate, time left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from results.records import EpisodeRecord

PLAIN_EVERY_S = 10.0  # Between two lines where nobody watches a terminal, such as a log file.


class RunProgress:
    """A live display on a terminal, a line every few seconds elsewhere."""

    def __init__(self, console: Console, totals: Mapping[str, int], done: list[EpisodeRecord]):
        self._console = console
        self._totals = dict(totals)
        self._outcomes: dict[str, Counter[str]] = {name: Counter() for name in totals}
        for record in done:
            self._outcomes[record.policy][record.outcome] += 1
        self._before = len(done)
        self._finished = 0
        self._started = time.monotonic()
        self._last_line = self._started
        self._status = "starting Ray"
        self._bar = Progress(
            TextColumn("episodes"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        self._task = self._bar.add_task("episodes", total=sum(totals.values()), completed=self._before)
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)

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

    def status(self, text: str) -> None:
        """What the run is doing when no episode finishes for a while."""
        self._status = text

    def finished(self, record: EpisodeRecord) -> None:
        """Count an episode."""
        self._outcomes[record.policy][record.outcome] += 1
        self._finished += 1
        self._status = f"{record.policy}: {record.task}"
        self._bar.update(self._task, advance=1)
        if not self._console.is_terminal and time.monotonic() - self._last_line >= PLAIN_EVERY_S:
            self._last_line = time.monotonic()
            self.say(self._line())

    def _line(self) -> str:
        total = sum(self._totals.values())
        parts = [
            f"{name} {counts['success']}/{counts.total()}"
            for name, counts in self._outcomes.items()
            if counts
        ]
        errors = sum(counts["error"] for counts in self._outcomes.values())
        return (
            f"{self._before + self._finished}/{total} episodes, {self._rate_text()}; successes: {', '.join(parts)}"
            + (f"; errors: {errors}" if errors else "")
        )

    def _rate_text(self) -> str:
        elapsed = time.monotonic() - self._started
        if not self._finished:
            return "no episode finished yet"
        left = sum(self._totals.values()) - self._before - self._finished
        return f"{60 * self._finished / elapsed:.1f}/min, {_duration(left * elapsed / self._finished)} left"

    def _render(self) -> Group:
        table = Table(box=None, padding=(0, 2), show_header=True, header_style="dim")
        for column, side in (
            ("policy", "left"),
            ("done", "right"),
            ("successes", "right"),
            ("errors", "right"),
        ):
            table.add_column(column, justify=side)  # type: ignore[arg-type]
        for name, counts in self._outcomes.items():
            done = counts.total()
            table.add_row(
                name,
                f"{done}/{self._totals[name]}",
                f"{counts['success']} ({counts['success'] / done:.0%})" if done else "-",
                str(counts["error"]) if counts["error"] else "-",
            )
        return Group(self._bar, table, Text(f"{self._rate_text()} · {self._status}", style="dim"))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
