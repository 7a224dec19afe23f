"""Several datasets are learnt from as if they were one."""

import dataclasses

import numpy as np
import pytest

from simloop.policies.training.concatenation import concatenated
from simloop.policies.training.config import TrainConfig
from simloop.policies.training.dataset_layout import DatasetError
from simloop.policies.training.dataset_statistics import action_chunks
from simloop.policies.training.dataset_writer import write_dataset
from simloop.policies.training.errors import TrainingError
from simloop.policies.training.prepared import prepare
from simloop.policies.training.setup import set_up
from tests.helpers.demonstrations import CAMERAS, demonstration, header

KEYS = {camera: f"observation.images.{camera}" for camera in CAMERAS}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two datasets that share one of three instructions, which has another number in each."""
    folder = tmp_path_factory.mktemp("data")
    written = []
    for name, episodes in (
        ("first", ((0, "push it"), (1, "pull it"))),
        ("second", ((2, "lift it"), (3, "push it"))),
    ):
        write_dataset(
            folder / name,
            header(),
            [
                dataclasses.replace(demonstration(episode, steps=12), instruction=text)
                for episode, text in episodes
            ],
        )
        written.append(folder / name)
    return written


def test_keeps_images_actions_and_instruction_of_every_frame(folders):
    parts = [prepare(folder, KEYS, 32) for folder in folders]
    whole = concatenated(parts)
    assert (whole.size, whole.episodes) == (48, 4)
    assert whole.instructions == ("push it", "pull it", "lift it")
    rows = np.array([40, 3, 24, 23, 40])
    for camera in CAMERAS:
        read = whole.frames[camera][rows]
        for picture, row in zip(read, rows, strict=True):
            part, own = parts[row // 24], row % 24
            np.testing.assert_array_equal(picture, part.frames[camera][own])
    for row in rows:
        part, own = parts[row // 24], row % 24
        assert whole.instructions[whole.task_of_frame[row]] == part.instructions[part.task_of_frame[own]]
        np.testing.assert_array_equal(
            action_chunks(whole, np.array([row]), 16, ()), action_chunks(part, np.array([own]), 16, ())
        )


def test_keeps_all_seeds_and_hashes_the_order(folders):
    parts = [prepare(folder, KEYS, 32) for folder in folders]
    whole = concatenated(parts)
    for task in {**parts[0].seeds, **parts[1].seeds}:
        assert set(whole.seeds[task]) == {seed for part in parts for seed in part.seeds.get(task, ())}
    assert concatenated(parts[::-1]).sha256 != whole.sha256
    assert concatenated(parts[:1]) is parts[0]
    twice = concatenated([parts[0], parts[1], parts[1]])
    assert (twice.size, twice.episodes, twice.seeds) == (72, 4, whole.seeds)


def test_rejects_datasets_that_disagree(folders, tmp_path):
    parts = [prepare(folder, KEYS, 32) for folder in folders]
    slower = dataclasses.replace(parts[1], fps=5.0)
    with pytest.raises(DatasetError, match=r"second.* has frames per second: 5, .*train on one of them"):
        concatenated([parts[0], slower])
    wider = dataclasses.replace(parts[1], states=np.zeros((24, 9), np.float32))
    with pytest.raises(DatasetError, match="has states of 9"):
        concatenated([parts[0], wider])
    blind = dataclasses.replace(parts[1], environment_states=np.zeros((24, 0), np.float32))
    assert concatenated([parts[0], blind]).environment_states.shape == (48, 0)
    with pytest.raises(TrainingError, match="data names no dataset"):
        TrainConfig(preset="pi0-tiny", data=(), out=tmp_path)


def test_examples_cover_all_datasets(folders, tmp_path):
    setup = set_up(TrainConfig(preset="pi0-tiny", data=tuple(folders), out=tmp_path / "out"), str)
    assert len(setup.examples.usable) == 48
    batch = setup.examples.batch(np.array([45, 2]))
    first, second = (
        set_up(TrainConfig("pi0-tiny", (folder,), tmp_path / folder.name), str) for folder in folders
    )
    for camera in CAMERAS:
        np.testing.assert_array_equal(
            batch.inputs.images[camera][0], second.examples.batch(np.array([21])).inputs.images[camera][0]
        )
        np.testing.assert_array_equal(
            batch.inputs.images[camera][1], first.examples.batch(np.array([2])).inputs.images[camera][0]
        )
