"""Read and write weights and normalization statistics, without PyTorch.

`open_checkpoint` detects the format of a folder; the `Checkpoint` that it returns lists and loads arrays, and reads
statistics. `save_checkpoint` writes simloop's own format.
"""

from simloop.policies.checkpoints.array_source import (
    ArraySource,
    ArraySpec,
    CheckpointError,
    CheckpointMismatch,
    StoredArray,
)
from simloop.policies.checkpoints.checkpoint import Checkpoint
from simloop.policies.checkpoints.native_writer import save_checkpoint
from simloop.policies.checkpoints.norm_stats_files import Statistics
from simloop.policies.checkpoints.opening import open_checkpoint

__all__ = [
    "ArraySource",
    "ArraySpec",
    "Checkpoint",
    "CheckpointError",
    "CheckpointMismatch",
    "Statistics",
    "StoredArray",
    "open_checkpoint",
    "save_checkpoint",
]
