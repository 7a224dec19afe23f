"""Read the recorded initial states of the tasks of LIBERO and LIBERO-PRO and verify their hashes.

LIBERO publishes them as pickles, which execute code when they are opened. The installed package has the same numbers
as plain arrays, which are read with pickling disabled.
"""

from __future__ import annotations

import hashlib
import json
from importlib import resources

import numpy as np
from jaxtyping import Float64

from simloop.envs.libero.tasks import INITIAL_STATES, task_files


class InitialStatesError(RuntimeError):
    """Initial states that differ from those of the published benchmark."""


def initial_states(task: str) -> Float64[np.ndarray, "50 _"]:
    """All initial states of a task: time, positions and velocities, in MuJoCo's order.

    Raises:
      InitialStatesError: If they are missing or differ from the published ones.
    """
    folder, name = task_files(task)
    file = resources.files("libero.libero") / "init_files" / folder / f"{name}.pruned_init.npz"
    try:
        with resources.as_file(file) as path, np.load(path, allow_pickle=False) as arrays:
            states = np.ascontiguousarray(arrays["states"], "<f8")
    except (OSError, ValueError, KeyError) as error:
        raise InitialStatesError(
            f"The initial states of {task} cannot be read from {file}: {error}. Install the suite again with: "
            "scripts/setup libero"
        ) from error
    found, wanted = hashlib.sha256(states.tobytes()).hexdigest(), _published_hashes()[task]
    if found != wanted or len(states) != INITIAL_STATES:
        raise InitialStatesError(
            f"The {len(states)} initial states of {task} in {file} have the SHA-256 {found[:16]}; those of the "
            f"benchmark have {wanted[:16]}. Another LIBERO is installed, or the file has been changed. Install the "
            "suite again with: scripts/setup libero"
        )
    return states


def _published_hashes() -> dict[str, str]:
    """SHA-256 of the states of each task, as little-endian float64."""
    text = resources.files("simloop.envs.libero").joinpath("initial_states.json").read_text()
    return dict(json.loads(text))
