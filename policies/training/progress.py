"""Progress of a training run: loss, samples per second and time left."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import timedelta
from types import TracebackType

from rich.console import Console

from simloop.policies.files.progress import progress_bar
from simloop.terminal import Terminal

LINE_EVERY_S = 15.0  # Between two lines where output is no terminal, such as a log file.


class TrainingProgress:
    """Shows a bar on a terminal, and a line every few seconds elsewhere. A context manager."""

    def __init__(self, steps: int, batch: int, console: Console | None = None):
        """Begin a run of `steps` steps of `batch` samples."""
        self._console = console or Terminal(stderr=True)
        self._steps, self._batch = steps, batch
        self._done = self._first = 0
        self._started = self._last_line = time.monotonic()
        self._stack = ExitStack()

    def __enter__(self) -> TrainingProgress:
        self._update = self._stack.enter_context(progress_bar("steps", self._steps, console=self._console))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def log(self, message: str) -> None:
        """Print a line above the bar."""
        self._console.print(message, highlight=False, markup=False, soft_wrap=True)

    def start_timing(self, step: int) -> None:
        """Measure the speed from here, after `step` steps."""
        self._started, self._first, self._done = time.monotonic(), step, step

    def advance(self, step: int, loss: float | None) -> None:
        """Show that `step` steps are complete; `loss` is None if it has not been fetched."""
        self._done = step
        if loss is None:
            self._update(step)
            return
        text = f"loss {loss:.4f}, {self.samples_per_s():.1f} samples/s"
        self._update(step, text=text)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            rate = self.samples_per_s()
            left = timedelta(seconds=round((self._steps - step) * self._batch / rate)) if rate else "unknown"
            self.log(f"step {step}/{self._steps}: {text}, time left {left}")

    def samples_per_s(self) -> float:
        """Mean speed since `start_timing`."""
        elapsed = time.monotonic() - self._started
        return (self._done - self._first) * self._batch / elapsed if elapsed > 0 else 0.0
