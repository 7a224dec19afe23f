"""What opening costs: a dataset of 1,000 episodes against reading its columns alone, and a checkpoint's metadata."""

import shutil
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pyarrow.parquet as pq
import pytest

from simloop.policies.checkpoints import open_checkpoint
from simloop.policies.presets import PRESETS, preset
from simloop.policies.presets.recorded import fitted
from simloop.policies.training.dataset_reader import open_dataset
from tests.helpers import lerobot_datasets
from tests.helpers.lerobot_datasets import DATA, write_v3
from tests.policies.checkpoints.test_lerobot import write_policy

METADATA_LIMIT_S = 0.2


def cost(action: Callable[[], object]) -> float:
    """Least processor time of five calls, in seconds."""
    times = []
    for _ in range(5):
        began = time.process_time()
        action()
        times.append(time.process_time() - began)
    return min(times)


def test_opening_the_metadata_of_a_checkpoint_takes_less_than_a_fifth_of_a_second(tmp_path):
    bundled = PRESETS["pi05-tiny"].bundled
    lerobot = write_policy(tmp_path / "p", "pi05", config={"chunk_size": 50})
    for folder, name in ((bundled, "pi05-tiny"), (lerobot, "pi05-tiny")):
        seconds = cost(
            lambda folder=folder, name=name: fitted(preset(name), open_checkpoint(folder).options, "")
        )
        print(f"{open_checkpoint(folder).format}: {seconds:.4f} s")
        assert seconds < METADATA_LIMIT_S


@pytest.mark.slow
def test_checking_a_dataset_of_1000_episodes_costs_little_beside_reading_it(tmp_path, monkeypatch):
    monkeypatch.setattr(lerobot_datasets, "video", lambda rows: b"")
    lengths = np.random.default_rng(0).integers(150, 250, 1000).tolist()
    folder = write_v3(tmp_path / "d", lengths=lengths, images="video")
    seconds, of_columns = cost(lambda: open_dataset(folder)), cost(lambda: pq.read_table(folder / DATA))
    tracemalloc.start()
    data = open_dataset(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = data.states.nbytes + data.actions.nbytes + data.task_of_frame.nbytes
    print(f"{len(data.states)} frames: {seconds:.3f} s, columns alone {of_columns:.3f} s")
    print(f"{peak / kept:.1f} x the memory of the arrays")
    shutil.rmtree(folder)
    assert seconds < 20 * of_columns
