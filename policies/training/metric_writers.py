"""Writers of training curves: a JSON-lines file, TensorBoard, and Weights & Biases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from simloop.policies.training.errors import TrainingError
from simloop.untrusted import parse_json, read_bytes

MAX_BYTES = 1 << 30
METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"


class MetricWriters:
    """Append points to the curves of a training run."""

    def __init__(self, folder: Path, first_step: int, wandb_project: str = "", config: Any = None):
        """Open the files and drop points after the step that the run resumes from.

        Args:
          folder: Folder of the run.
          first_step: Completed steps.
          wandb_project: Project on Weights & Biases to log to as well; empty for none.
          config: Options shown beside the curves there.

        Raises:
          TrainingError: If a project is named and the package wandb is not installed.
        """
        file = folder / METRICS
        kept = [line for line in _complete_lines(file) if _step(line, file) <= first_step]
        file.write_text("".join(kept))
        self._file = file.open("a", encoding="utf-8")
        self._tensorboard = SummaryWriter(str(folder / TENSORBOARD), purge_step=first_step + 1)
        self._wandb = _wandb(wandb_project, folder, config) if wandb_project else None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._tensorboard.add_scalar(name, value, step)
        self._tensorboard.flush()
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)

    def close(self) -> None:
        """Flush and close the files."""
        self._file.close()
        self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()


def _step(line: str, file: Path) -> int:
    return int(parse_json(line, str(file), error=TrainingError)["step"])


def _complete_lines(file: Path) -> list[str]:
    """Lines of a file that may be absent, or cut off within its last line by a kill."""
    if not file.exists():
        return []
    text = read_bytes(file, MAX_BYTES, error=TrainingError).decode(errors="replace")
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _wandb(project: str, folder: Path, config: Any) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise TrainingError(
            "Logging to Weights & Biases needs the package wandb, which is not installed: pip install wandb, "
            "or leave wandb empty."
        ) from error
    return wandb.init(project=project, dir=str(folder), name=folder.name, id=folder.name, config=config)
