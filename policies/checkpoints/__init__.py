"""Weights and normalisation statistics on disk, loaded and written without PyTorch.

`open_checkpoint` finds out what a folder is; the `Checkpoint` it returns lists arrays, loads them
and reads statistics. `save_checkpoint` writes our own format.
"""

from simloop.policies.checkpoints.array_source import (
    ArraySource,
    ArraySpec,
    CheckpointError,
    CheckpointMismatch,
    StoredArray,
)
from simloop.policies.checkpoints.checkpoint import Checkpoint
from simloop.policies.checkpoints.load_progress import progress_bar
from simloop.policies.checkpoints.native import save_checkpoint
from simloop.policies.checkpoints.norm_stats_files import Statistics
from simloop.policies.checkpoints.opening import open_checkpoint
from simloop.policies.checkpoints.streaming import LoadProgress

__all__ = [
    "ArraySource",
    "ArraySpec",
    "Checkpoint",
    "CheckpointError",
    "CheckpointMismatch",
    "LoadProgress",
    "Statistics",
    "StoredArray",
    "open_checkpoint",
    "progress_bar",
    "save_checkpoint",
]
