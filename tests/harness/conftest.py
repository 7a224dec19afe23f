import os
from pathlib import Path
from unittest.mock import patch

import pytest
import ray

from simloop.harness.engine.ray_cluster import start_ray
from tests.helpers import faults, point_suite
from tests.helpers.recorded_run import record_run


@pytest.fixture(scope="session")
def fault_folder(tmp_path_factory) -> Path:
    """Folder in which the processes of `shared_ray` find the faults that are due."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture
def shared_ray(fault_folder, tmp_path_factory):
    """The Ray instance of this test process. Engines find it and leave it running, since a start takes ten seconds."""
    if not ray.is_initialized():
        variables = {
            faults.FOLDER: str(fault_folder),
            faults.RATE: os.environ.get(faults.RATE, "0.3"),
            point_suite.FOLDER_VARIABLE: str(tmp_path_factory.mktemp("point_suite")),
        }
        with patch.dict(os.environ, variables):  # Ray's processes inherit them.
            start_ray(num_cpus=4)


@pytest.fixture
def no_ray():
    """No Ray instance: for tests that start one, join a cluster, or change how this process authenticates."""
    ray.shutdown()
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def recorded(tmp_path_factory) -> Path:
    """A run with one episode of `random`, recorded step by step."""
    run = tmp_path_factory.mktemp("runs") / "run"
    record_run(run)
    return run
