"""The cost of a command includes all processes that it starts."""

import shutil
import subprocess
import sys

import pytest

from simloop.harness.bench import event_counts
from simloop.harness.bench.process_tree import command_costs, cost_until

BUSY = "import time; began = time.process_time()\nwhile time.process_time() - began < 0.2: pass"


def test_processor_time_of_a_grandchild_counts_though_its_parent_has_ended(tmp_path):
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}])"
    cost = cost_until([sys.executable, "-c", script], folder=tmp_path)
    assert cost.processor_s >= 0.2
    assert cost.wall_s >= 0.2
    assert cost.peak_mib > 1


def test_processor_time_counts_though_the_parent_lets_the_system_forget_its_children():
    script = (
        "import signal, subprocess, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
        f"subprocess.run([sys.executable, '-c', {BUSY.replace('0.2', '0.8')!r}])"
    )
    assert cost_until([sys.executable, "-c", script]).processor_s > 0.4


def test_what_follows_the_event_is_not_counted(tmp_path):
    event = tmp_path / "event"
    script = f"open({str(event)!r}, 'w').close()\nimport time; time.sleep(2)\n{BUSY}"
    cost = cost_until([sys.executable, "-c", script], event.exists)
    assert cost.processor_s < 0.2


def test_a_command_is_measured_until_the_event_and_until_its_end(tmp_path):
    event, printed = tmp_path / "event", tmp_path / "printed"
    script = (
        f"open({str(event)!r}, 'w').close()\nimport time; time.sleep(0.3)\n{BUSY}\nraise SystemExit('done')"
    )
    costs = command_costs([sys.executable, "-c", script], event.exists, output=printed)
    assert costs.status == 1
    assert costs.whole.processor_s >= costs.until_event.processor_s + 0.2
    assert printed.read_text() == "done\n"


def test_a_command_that_takes_too_long_ends_with_its_children():
    script = "import subprocess; subprocess.run(['sleep', '100'])"
    with pytest.raises(TimeoutError, match="still running after 1 s"):
        command_costs([sys.executable, "-c", script], lambda: False, limit_s=1.0)


def test_events_of_any_program_are_counted_and_its_results_kept(tmp_path):
    package = tmp_path / "metaworld"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "sawyer_xyz_env.py").write_text(
        "class SawyerXYZEnv:\n    def step(self, action): return action + 1\n"
    )
    encoder = tmp_path / "vla_eval" / "protocol"
    encoder.mkdir(parents=True)
    (encoder / "image_codec.py").write_text("def encode_image(image): return {'data': image}\n")
    shutil.copy(event_counts.__file__, tmp_path / "sitecustomize.py")
    script = (
        "from metaworld.sawyer_xyz_env import SawyerXYZEnv as E; assert E().step(action=1) == 2; E().step(2); "
        "from vla_eval.protocol.image_codec import encode_image; encode_image(bytes(70)); encode_image(bytes(7))"
    )
    environment = {"PYTHONPATH": str(tmp_path), event_counts.FOLDER: str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert event_counts.total(tmp_path, event_counts.STEPS) == 2
    assert event_counts.total(tmp_path, event_counts.MOVED_BYTES) == 77
    assert event_counts.total(tmp_path, event_counts.PICTURES) == 0
