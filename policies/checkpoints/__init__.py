"""Weights and normalisation statistics on disk, loaded and written without PyTorch.

`open_checkpoint` finds out what a folder is; the `Checkpoint` it returns lists arrays, loads them
and reads statistics. `save_checkpoint` writes our own format.
"""

from policies.checkpoints.checkpoint import Checkpoint
from policies.checkpoints.interface import (
    ArraySource,
    ArraySpec,
    CheckpointError,
    CheckpointMismatch,
    StoredArray,
)
from policies.checkpoints.opening import open_checkpoint
from policies.checkpoints.own import save_checkpoint
from policies.checkpoints.progress import progress_bar
from policies.checkpoints.statistics import Statistics
from policies.checkpoints.streaming import Progress

__all__ = [
    "ArraySource",
    "ArraySpec",
    "Checkpoint",
    "CheckpointError",
    "CheckpointMismatch",
    "Progress",
    "Statistics",
    "StoredArray",
    "open_checkpoint",
    "progress_bar",
    "save_checkpoint",
]
