import pytest

from simloop.harness import doctor


@pytest.mark.slow
def test_starts_a_ray_instance_of_its_own_as_a_run_does(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert "starts and runs a task" in doctor._ray()
