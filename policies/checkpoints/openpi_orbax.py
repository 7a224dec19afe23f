"""Arrays of openpi's orbax checkpoints: one PyTree below `params/`.

Paths of trees from a training state end in `value`, other paths do not; both are read. Arrays in orbax's default
layout are streamed; others are read by orbax itself, which takes more memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from simloop.policies.checkpoints.array_source import ArraySource, CheckpointError, Shape, StoredArray
from simloop.policies.checkpoints.orbax_chunks import OrbaxChunks

ROOT, LEAF = "params", "value"  # First and, for trees of a training state, last entry of every path.

T = TypeVar("T")


class OrbaxSource(ArraySource):
    """The tree of one `params` folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handler = ocp.PyTreeCheckpointHandler()
        described = _explained(f"{folder} cannot be read", lambda: self._handler.metadata(folder))
        tree = getattr(described, "tree", described)  # Orbax wraps the tree since 0.11.
        leaves = {_keys(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        roots = sorted({keys[0] for keys in leaves})
        if roots != [ROOT]:
            raise CheckpointError(
                f"{folder} contains {', '.join(roots) or 'nothing'} instead of {ROOT!r} alone. openpi writes weights "
                "to <step>/params; <step>/train_state is for resuming training."
            )
        self._suffix = (LEAF,) if all(keys[-1] == LEAF for keys in leaves) else ()
        self._leaves = {self._model_name(keys): (keys, leaf) for keys, leaf in leaves.items()}
        self._chunks = OrbaxChunks(folder) if (folder / "manifest.ocdbt").is_file() else None
        self.stored = tuple(
            StoredArray("/".join(keys), tuple(leaf.shape), np.dtype(leaf.dtype), name)
            for name, (keys, leaf) in self._leaves.items()
        )

    def parts(self, name: str, shape: Shape) -> Mapping[str, Shape]:
        return {"/".join((ROOT, name, *self._suffix)): shape}

    def read(self, name: str, shape: Shape, dtype: np.dtype) -> np.ndarray:
        keys, leaf = self._leaves[name]
        what = f"{self._folder}: array {'/'.join(keys)!r} cannot be read"
        if (chunks := self._chunks) is not None:
            array = _explained(what, lambda: chunks.read(".".join(keys), tuple(leaf.shape), dtype))
            if array is not None:
                return array
        wanted: Any = leaf
        how: Any = ocp.RestoreArgs(restore_type=np.ndarray, dtype=dtype)
        for key in reversed(keys):
            wanted, how = {key: wanted}, {key: how}
        arguments = ocp.args.PyTreeRestore(item=wanted, restore_args=how, partial_restore=True)
        restored = _explained(what, lambda: self._handler.restore(self._folder, args=arguments))
        (array,) = jax.tree_util.tree_leaves(restored)
        return array

    def files(self) -> tuple[Path, ...]:
        return tuple(sorted(path for path in self._folder.rglob("*") if path.is_file()))

    def _model_name(self, keys: tuple[str, ...]) -> str:
        return "/".join(keys[1 : len(keys) - len(self._suffix)])


def _keys(path: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(str(getattr(entry, "key", getattr(entry, "idx", entry))) for entry in path)


def _explained(what: str, action: Callable[[], T]) -> T:
    """Run an orbax call and convert its errors.

    Orbax and tensorstore raise a dozen unrelated types for damaged folders, so all exceptions are caught.
    """
    try:
        return action()
    except Exception as error:
        lines = str(error).splitlines()
        reason = lines[0] if lines else type(error).__name__
        raise CheckpointError(
            f"{what}: {reason} The folder is incomplete or damaged; copy or download it again."
        ) from error
