"""Recorded initial states equal those of the benchmark and are read without executing code."""

import shutil
from importlib import resources

import numpy as np
import pytest

from simloop.envs.libero import initial_states as module
from simloop.envs.libero.initial_states import InitialStatesError, initial_states
from simloop.envs.libero.tasks import LIBERO_GOAL, PRO_TASKS, TASKS


def test_every_task_has_fifty_states_with_the_published_hash():
    for task in (*TASKS, *PRO_TASKS):
        states = initial_states(task.name)
        assert states.shape[0] == task.initial_states == 50
        assert np.all(np.isfinite(states))


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the package's files that may be changed."""
    name = LIBERO_GOAL[0]
    file = tmp_path / "init_files" / "libero_goal" / f"{name}.pruned_init.npz"
    file.parent.mkdir(parents=True)
    shutil.copy(resources.files("libero.libero") / "init_files" / "libero_goal" / file.name, file)
    hashes = module._published_hashes()
    monkeypatch.setattr(module, "_published_hashes", lambda: hashes)
    monkeypatch.setattr(module.resources, "files", lambda _: tmp_path)
    return name, file


def test_rejects_states_that_differ_in_one_number(copied):
    name, file = copied
    states = np.load(file)["states"]
    initial_states(name)
    states[7, 3] += 1e-6
    np.savez(file, states=states)
    with pytest.raises(
        InitialStatesError, match=r"SHA-256 .* those of the benchmark .* scripts/setup libero"
    ):
        initial_states(name)


def test_rejects_pickled_objects_without_opening_them(copied):
    name, file = copied
    np.savez(file, states=np.array([{"a": 1}], object))
    with pytest.raises(InitialStatesError, match="cannot be read"):
        initial_states(name)


def test_reports_missing_states(copied):
    name, file = copied
    file.unlink()
    with pytest.raises(InitialStatesError, match="scripts/setup libero"):
        initial_states(name)
