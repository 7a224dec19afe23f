"""Runs a small program in an interpreter of its own, for what a running one cannot change or measure."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_python(program: str, *arguments: object, devices: int = 1, production: bool = False) -> str:
    """Run a program in a fresh interpreter; returns what it prints.

    It has that many CPU devices and, with `production`, compiles as users' programs do.
    """
    given = "" if production else os.environ.get("XLA_FLAGS", "")
    xla_flags = f"{given} --xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
