"""An own Ray instance."""

import os

import pytest
import ray


@pytest.mark.usefixtures("shared_ray")
def test_actors_have_the_priority_of_the_command():
    niceness = ray.remote(lambda: os.getpriority(os.PRIO_PROCESS, 0)).options(num_cpus=0).remote()
    assert ray.get(niceness) == os.getpriority(os.PRIO_PROCESS, 0)
