import pytest

from simloop.harness.bench.fork_cost import equal_forks, fork_cost
from tests.helpers.recorded_run import NAME, record_run


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    record_run(run)
    return run


def test_forks_with_nothing_changed_are_counted_at_every_query(recorded):
    assert equal_forks(recorded, NAME) == (10, 10)


def test_forks_of_a_late_query_take_less_processor_time_than_episodes(recorded):
    cost = fork_cost(recorded, NAME, 9, 2)
    assert 0 < cost.forks_s < cost.episodes_s
    assert f"2 forks of {NAME} at query 9" in str(cost)
