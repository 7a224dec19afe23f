"""Interpreters in which other programs are installed, named by environment variables."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

Run = Callable[..., None]
INSTALL = (
    "python3.12 -m venv DIR && DIR/bin/pip install 'lerobot[dataset,pi]==0.6.1' peft==0.21.2 numpydantic==2.0.0, "
    "and set SIMLOOP_LEROBOT_PYTHON=DIR/bin/python"
)


SERVE = """
import json, sys, traceback

requests, replies = sys.stdin, sys.stdout
sys.stdout = sys.stderr
for line in requests:
    program, arguments, path = json.loads(line)
    sys.argv, sys.path[:0] = ["-c", *arguments], path
    try:
        exec(compile(program, "program", "exec"), {"__name__": "__main__"})
        said = ""
    except BaseException:
        said = traceback.format_exc()
    print(json.dumps(said), file=replies, flush=True)
"""
"""Executes programs one after the other, since importing LeRobot takes half a minute."""


@pytest.fixture(scope="session")
def lerobot(tmp_path_factory) -> Iterator[Run]:
    """Runs a program in an interpreter with LeRobot and PEFT; arguments are `sys.argv[1:]`."""
    python = os.environ.get("SIMLOOP_LEROBOT_PYTHON")
    if python is None:
        pytest.skip(f"To compare with LeRobot: {INSTALL}.")
    # No name is looked up on a hub.
    hub = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path_factory.mktemp("hub"))}
    process = subprocess.Popen(
        [python, "-c", SERVE],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | hub,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def run(program: str, *arguments: object, path: Sequence[str] = ()) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([program, [str(one) for one in arguments], list(path)]) + "\n")
        process.stdin.flush()
        said = process.stdout.readline()
        assert json.loads(said) == "", said

    with process:
        yield run
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def openpi() -> Path:
    """The folder `src` of a checkout of openpi."""
    folder = os.environ.get("SIMLOOP_OPENPI")
    if folder is None:
        pytest.skip("To compare with openpi, clone it and set SIMLOOP_OPENPI to its folder src.")
    return Path(folder)
