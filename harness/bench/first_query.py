"""CPU time until a policy's first answer: at the prompt of `simloop debug`, and in a run."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from simloop.harness.bench.process_tree import cost_until


@dataclass(frozen=True)
class FirstQueryCost:
    """CPU seconds of all processes of a command until its first answer."""

    debug_s: float
    run_s: float

    def __str__(self) -> str:
        """Both times, and their ratio."""
        return (
            f"CPU seconds to the first answer: simloop debug {self.debug_s:.1f}, simloop run {self.run_s:.1f}; "
            f"ratio {self.debug_s / self.run_s:.2f}"
        )


def first_query_cost(task: str = "pick-place-v3", policy: str = "pi0-tiny") -> FirstQueryCost:
    """Measure `query` at the prompt, and a run whose only episode has one step, until its record is written."""
    with tempfile.TemporaryDirectory() as folder:
        out, script = Path(folder) / "run", Path(folder) / "script"
        script.write_text("query\n")
        debug = ["debug", task, "--policy", policy, "--script", str(script)]
        run = [
            "run",
            "--tasks",
            task,
            "--policies",
            policy,
            "--episodes",
            "1",
            "--max-steps",
            "1",
            "--out",
            str(out),
        ]
        ledger = out / "episodes.jsonl"
        return FirstQueryCost(
            _cpu_s(debug, lambda: False),
            _cpu_s([*run, "--no-video"], lambda: ledger.exists() and ledger.stat().st_size > 0),
        )


def _cpu_s(arguments: Sequence[str], done: Callable[[], bool]) -> float:
    """CPU seconds of a command and all processes that it starts, until it ends or is done."""
    program = (
        f"import sys; sys.argv = {['simloop', *arguments]!r}; from simloop.harness.cli import main; main()"
    )
    return cost_until([sys.executable, "-c", program], done).processor_s
