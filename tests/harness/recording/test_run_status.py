"""What those who watch a run are told."""

import dataclasses
import datetime
import json
import socket
import urllib.request

import pytest
from rich.console import Console

from simloop.harness.errors import SimloopError
from simloop.harness.recording.dashboards import DashboardError, make_dashboard, require_dashboard
from simloop.harness.recording.engine_metrics import EngineMetrics
from simloop.harness.recording.run_progress import status_line
from simloop.harness.recording.run_status import (
    METRICS_EVERY_S,
    RunStatus,
    is_stale,
    read_status,
    status_from_json,
)
from simloop.harness.recording.show_status import show
from tests.helpers.run_folders import EPISODE, broken, episodes, failed

ENGINE = EngineMetrics(
    simulators=2, places=3, workers=1, queue=5, simulator_share=0.91, device_share=0.42, batch_fill=0.75,
    retried=1, slow="a reset for 40 s", phase_ms={"step": 0.5},
)  # fmt: skip


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def started(folder, clock, **options) -> RunStatus:
    (folder / "config.json").write_text("{}")
    return RunStatus(folder, {"expert": 10, "random": 10}, episodes(2), clock=clock, **options)


def test_another_terminal_reads_what_the_run_knows(tmp_path, clock):
    run = started(tmp_path, clock)
    for record in (EPISODE, failed(EPISODE), broken(EPISODE)):
        clock.now += 60
        run.finished(record)
    run.metrics(ENGINE)
    clock.now += 10
    run.metrics(ENGINE)
    status = read_status(tmp_path)
    assert status == dataclasses.replace(run.now(), written=status.written)
    assert (status.done, status.planned) == (5, 20)
    assert status.policies["expert"].successes == 3
    assert status.policies["expert"].errors == 1
    assert status.policies["expert"].rate_text() == "3/4 = 75% [30%, 95%]", "errors are no failures"
    assert status.episodes_per_h == pytest.approx(3600 * 3 / 190, abs=0.1)
    assert status.left_s == pytest.approx(15 * 190 / 3, abs=0.1)
    assert status_from_json(status.to_json()) == status


def test_a_line_says_who_is_busy_and_what_is_slow(tmp_path, clock):
    run = started(tmp_path, clock)
    run.metrics(ENGINE)
    line = status_line(run.now())
    for part in (
        "2/20 episodes", "starting Ray", "expert 2/2", "2 env actors x 3, busy 91%", "policy busy 42%",
        "batches filled 75%", "5 queries waiting", "1 attempts repeated", "slow: a reset for 40 s",
    ):  # fmt: skip
        assert part in line


def test_a_run_that_has_slowed_down_says_so(tmp_path, clock):
    run = started(tmp_path, clock)
    for _ in range(10):
        clock.now += 10
        run.finished(EPISODE)
    fast = run.now().episodes_per_h
    clock.now += 600
    run.finished(EPISODE)
    assert run.now().episodes_per_h < fast / 10


def test_figures_are_kept_once_a_minute(tmp_path, clock):
    run = started(tmp_path, clock)
    for _ in range(130):
        clock.now += 1
        run.metrics(ENGINE)
    lines = [json.loads(line) for line in (tmp_path / "figures.jsonl").read_text().splitlines()]
    assert len(lines) == 1 + 130 // int(METRICS_EVERY_S)
    assert lines[0]["engine"]["phase_ms"] == {"step": 0.5}


def test_a_killed_run_is_not_taken_for_a_running_one(tmp_path, clock):
    run = started(tmp_path, clock)
    run.metrics(ENGINE)
    status = run.now()
    now = datetime.datetime.fromisoformat(status.written)
    assert not is_stale(status, now + datetime.timedelta(seconds=5))
    assert is_stale(status, now + datetime.timedelta(seconds=60))
    old = dataclasses.replace(status, written="2020-01-01T00:00:00+00:00")
    (tmp_path / "status.json").write_text(old.to_json())
    console = Console(record=True, width=200)
    assert show(tmp_path, console, follow=True) == 1, "it does not wait for the dead"
    assert "killed" in console.export_text()
    run.end("complete")
    assert not is_stale(run.now(), now + datetime.timedelta(days=1))


def test_a_run_that_has_ended_is_shown_as_such(tmp_path, clock):
    run = started(tmp_path, clock)
    run.end("complete")
    console = Console(record=True, width=200)
    assert show(tmp_path, console, follow=True) == 0
    text = console.export_text()
    assert "complete" in text
    assert "2/10" in text


def test_a_folder_without_a_status_is_said_in_a_sentence(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SimloopError, match=r"no status\.json yet"):
        read_status(tmp_path)


def test_tensorboard_is_told_every_number(tmp_path, clock):
    from tensorboardX import SummaryWriter  # noqa: F401  (its absence is a fault of the installation)

    run = started(tmp_path, clock, dashboards=[make_dashboard("tensorboard", tmp_path)])
    run.metrics(ENGINE)
    run.end("complete")
    (events,) = (tmp_path / "tensorboard").iterdir()
    content = events.read_bytes()
    for name in (b"success/expert", b"engine/device_share", b"engine/step_ms", b"episodes/done"):
        assert name in content


def test_prometheus_reads_every_number(tmp_path, clock):
    pytest.importorskip("prometheus_client")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run = started(tmp_path, clock, dashboards=[make_dashboard(f"prometheus:{port}", tmp_path)])
    run.metrics(ENGINE)
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read().decode()
    assert 'simloop_success{policy="expert"} 1.0' in text
    assert "simloop_engine_device_share 0.42" in text
    assert "simloop_episodes_done 2.0" in text


def test_dashboards_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(DashboardError, match="takes tensorboard, wandb, prometheus"):
        make_dashboard("grafana", tmp_path)
    with pytest.raises(DashboardError, match="takes a number"):
        make_dashboard("prometheus:http", tmp_path)


def test_a_viewer_that_does_not_answer_is_said_before_the_run():
    pytest.importorskip("rerun", reason="no rerun-sdk to stream with: scripts/setup rerun")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(DashboardError, match=f"No viewer of Rerun answers at 127.0.0.1:{port}"):
        require_dashboard(f"rerun:{port}")


def test_a_port_that_is_taken_is_refused_before_the_run(tmp_path):
    pytest.importorskip("prometheus_client")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DashboardError, match=f"Port {port} cannot be opened"):
            require_dashboard(f"prometheus:{port}")
