"""Checkpoints that a training goes on from, through orbax: complete or absent, whenever it is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

FOLDER = "checkpoints"
KEPT = 2


class Saver:
    """The latest states of one training."""

    def __init__(self, folder: Path):
        """`folder` is that of the training."""
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, create=True)
        self._manager = ocp.CheckpointManager((folder / FOLDER).absolute(), options=options)

    def latest(self) -> int | None:
        """Steps done in the newest complete checkpoint; None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Begin to save; training may go on."""
        self._manager.save(step, args=ocp.args.StandardSave(_tree(state)))

    def restore(self, like: Any) -> Any:
        """The newest state, with the shapes, dtypes and placement of `like`."""
        step = self._manager.latest_step()
        restored = self._manager.restore(step, args=ocp.args.StandardRestore(_tree(like)))
        return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(restored))

    def close(self) -> None:
        """Wait until everything is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()


def _tree(state: Any) -> dict[str, Any]:
    """The leaves under names that do not depend on classes, which orbax would not know."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    width = len(str(len(leaves)))
    return {
        f"{i:0{width}d}{jax.tree_util.keystr(path)}".replace("/", "."): leaf
        for i, (path, leaf) in enumerate(leaves)
    }
