"""Load the arrays of a checkpoint onto the devices, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.sharding import Sharding
from jax.typing import DTypeLike

from simloop.policies.checkpoints.array_source import ArraySource, ArraySpec
from simloop.policies.checkpoints.shapes import fitting_names


def load_arrays(
    source: ArraySource,
    expected: Mapping[str, ArraySpec],
    *,
    where: str,
    dtype: DTypeLike | None = None,
    sharding: Sharding | Mapping[str, Sharding] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    may_lack: str = "",
    may_drop: str = "",
) -> dict[str, jax.Array]:
    """Load the arrays that a model expects; see `Checkpoint.load`.

    The largest array is loaded first, so that the memory for reading it is needed while little else is loaded.
    """
    names = fitting_names(source, expected, where=where, may_lack=may_lack, may_drop=may_drop)
    dtypes = {name: np.dtype(expected[name].dtype if dtype is None else dtype) for name in names}
    nbytes = {
        name: int(np.prod(expected[name].shape, dtype=np.int64)) * dtypes[name].itemsize for name in names
    }
    if isinstance(sharding, Mapping) and (without := [name for name in names if name not in sharding]):
        raise ValueError(f"sharding lacks {', '.join(without)}. Give one for every array.")
    arrays: dict[str, jax.Array] = {}
    done, total = 0, sum(nbytes.values())
    for name in sorted(names, key=lambda name: -nbytes[name]):
        target = sharding[name] if isinstance(sharding, Mapping) else sharding
        host = source.read(name, tuple(expected[name].shape), dtypes[name])
        # Without blocking, pending copies of many arrays would keep their host memory.
        arrays[name] = jax.device_put(host, target).block_until_ready()
        del host
        done += nbytes[name]
        if on_progress is not None:
            on_progress(done, total)
    return {name: arrays[name] for name in names}
