"""Where the numbers of a training go: a file of lines, TensorBoard, and whoever else wants them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simloop.policies.training.errors import TrainingError

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"


class MetricWriters:
    """Writes points of curves. Points behind the step that a training goes on from are dropped."""

    def __init__(self, folder: Path, first_step: int, wandb_project: str = "", config: Any = None):
        """Open the files.

        Args:
          folder: Of the training.
          first_step: Steps done so far.
          wandb_project: Where to log on Weights & Biases as well; empty for nowhere.
          config: What is shown beside the curves there.

        Raises:
          TrainingError: If a project is named and the package is not installed.
        """
        self.notes: list[str] = []
        file = folder / METRICS
        kept = [line for line in _lines(file) if json.loads(line)["step"] <= first_step]
        file.write_text("".join(kept))
        self._file = file.open("a", encoding="utf-8")
        self._timers = _tensorboard(folder / TENSORBOARD, first_step)
        if self._timers is None:
            self.notes.append(f"tensorboardX is not installed: no TensorBoard files, only {METRICS}.")
        self._wandb = _wandb(wandb_project, folder, config) if wandb_project else None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._timers is not None:
            for name, value in values.items():
                self._timers.add_scalar(name, value, step)
            self._timers.flush()
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)

    def close(self) -> None:
        """Flush everything."""
        self._file.close()
        if self._timers is not None:
            self._timers.close()
        if self._wandb is not None:
            self._wandb.finish()


def _lines(file: Path) -> list[str]:
    """Whole lines of a file that may not exist or may end in half a line."""
    if not file.exists():
        return []
    return [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _tensorboard(folder: Path, first_step: int) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first_step + 1)


def _wandb(project: str, folder: Path, config: Any) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise TrainingError(
            "Logging to Weights & Biases needs the package wandb, which is not installed: pip install wandb, "
            "or leave wandb empty."
        ) from error
    return wandb.init(project=project, dir=str(folder), name=folder.name, id=folder.name, config=config)
