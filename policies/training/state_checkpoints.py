"""Checkpoints of the training state, written by orbax so that each is complete or absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

FOLDER = "checkpoints"
KEPT = 2


class StateCheckpoints:
    """The latest states of one training run."""

    def __init__(self, run_folder: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, create=True)
        self._manager = ocp.CheckpointManager((run_folder / FOLDER).absolute(), options=options)

    def latest(self) -> int | None:
        """Completed steps of the newest checkpoint; None if there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Begin to save in the background."""
        self._manager.save(step, args=ocp.args.StandardSave(_named_leaves(state)))

    def restore(self, like: Any) -> Any:
        """Load the newest state with the structure, shapes, dtypes and sharding of `like`."""
        step = self._manager.latest_step()
        restored = self._manager.restore(step, args=ocp.args.StandardRestore(_named_leaves(like)))
        return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(restored))

    def close(self) -> None:
        """Wait until every checkpoint is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()


def _named_leaves(state: Any) -> dict[str, Any]:
    """Leaves by names that are independent of classes, which orbax does not know."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    width = len(str(len(leaves)))
    return {
        f"{i:0{width}d}{jax.tree_util.keystr(path)}".replace("/", "."): leaf
        for i, (path, leaf) in enumerate(leaves)
    }
