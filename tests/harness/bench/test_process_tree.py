"""The cost of a command includes all processes that it starts."""

import shutil
import subprocess
import sys

from simloop.harness.bench import first_step
from simloop.harness.bench.process_tree import cost_until

BUSY = "import time; began = time.process_time()\nwhile time.process_time() - began < 0.2: pass"


def test_processor_time_of_a_grandchild_counts_though_its_parent_has_ended(tmp_path):
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}])"
    cost = cost_until([sys.executable, "-c", script], folder=tmp_path)
    assert cost.processor_s >= 0.2
    assert cost.wall_s >= 0.2
    assert cost.peak_mib > 1


def test_what_follows_the_event_is_not_counted(tmp_path):
    event = tmp_path / "event"
    script = f"open({str(event)!r}, 'w').close()\nimport time; time.sleep(2)\n{BUSY}"
    cost = cost_until([sys.executable, "-c", script], event.exists)
    assert cost.processor_s < 0.2


def test_the_first_step_of_any_program_is_noted_once(tmp_path):
    package, noted = tmp_path / "metaworld", tmp_path / "stepped"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "sawyer_xyz_env.py").write_text(
        "class SawyerXYZEnv:\n    def step(self, action): return action + 1\n"
    )
    shutil.copy(first_step.__file__, tmp_path / "sitecustomize.py")
    script = (
        "import os; from metaworld.sawyer_xyz_env import SawyerXYZEnv as E; assert E().step(1) == 2; "
        f"os.remove({str(noted)!r}); assert E().step(2) == 3; assert not os.path.exists({str(noted)!r})"
    )
    environment = {"PYTHONPATH": str(tmp_path), first_step.FILE: str(noted)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
