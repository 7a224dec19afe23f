"""What a person sees while a training runs: loss, samples per second, time left."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

PLAIN_EVERY_S = 15.0  # Between two lines where nobody watches a terminal, such as a log file.


class TrainingProgress:
    """A bar on a terminal, if rich is installed; a line every few seconds elsewhere."""

    def __init__(self, steps: int, done: int, batch: int, stream: TextIO | None = None):
        """Begin to show a training of `steps` steps of `batch` samples, `done` of them earlier."""
        self._steps, self._first, self._batch = steps, done, batch
        self._stream = stream or sys.stderr
        self._started = self._last_line = time.monotonic()
        self._done = done
        self._bar: Any = None
        self._task: Any = None
        if self._stream.isatty():
            self._bar, self._task = _bar(steps, done)

    def say(self, message: str) -> None:
        """A line that stays."""
        if self._bar is not None:
            self._bar.console.print(message, highlight=False, markup=False)
        else:
            print(message, file=self._stream, flush=True)

    def compiled(self) -> None:
        """The first step is done: speed is measured from here."""
        self._started, self._first = time.monotonic(), self._done

    def advance(self, step: int, loss: float | None) -> None:
        """`step` steps are done; the loss is given where it has been fetched."""
        self._done = step
        if self._bar is not None:
            fields = {} if loss is None else {"text": self._text(loss)}
            self._bar.update(self._task, completed=step, **fields)
            return
        now = time.monotonic()
        if loss is not None and now - self._last_line >= PLAIN_EVERY_S:
            self._last_line = now
            self.say(f"step {step}/{self._steps}: {self._text(loss)}")

    def samples_per_s(self) -> float:
        """Since the first step of this process."""
        elapsed = time.monotonic() - self._started
        return (self._done - self._first) * self._batch / elapsed if elapsed > 0 else 0.0

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()

    def _text(self, loss: float) -> str:
        rate = self.samples_per_s()
        left = f"{_duration((self._steps - self._done) * self._batch / rate)} left" if rate else "starting"
        return f"loss {loss:.4f}, {rate:.1f} samples/s, {left}"


def _bar(steps: int, done: int) -> tuple[Any, Any]:
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:
        return None, None
    bar = Progress(TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    bar.start()
    return bar, bar.add_task("steps", total=steps, completed=done, text="compiling")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
