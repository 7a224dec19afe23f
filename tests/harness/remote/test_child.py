import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from simloop.envs.served.process import InterpreterError
from simloop.harness.remote.child import MANIFEST, ChildPolicy, Manifest
from simloop.harness.remote.connection import ConnectionLost
from tests.harness.remote.test_policy import query

SERVER = """
import asyncio, os
import msgpack, numpy as np
from websockets.asyncio.server import serve

def encode(value):
    return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}

async def handle(connection):
    await connection.send(msgpack.packb({}))
    async for message in connection:
        await connection.send(msgpack.packb({"actions": np.full((10, 4), os.getpid() % 1000, "f4")}, default=encode))

async def main():
    async with serve(handle, "127.0.0.1", int(os.environ["PORT"])) as server:
        await server.serve_forever()

print("the server starts", flush=True)
asyncio.run(main())
"""


def manifest(folder: Path, server: str, start_s: float = 20.0) -> Manifest:
    (folder / "server.py").write_text(server)
    (folder / MANIFEST).write_text("")
    return Manifest(folder, ("server.py",), "openpi", "metaworld", start_s)


def started(folder: Path, server: str = SERVER, **options: float) -> ChildPolicy:
    return ChildPolicy(manifest(folder, server, **options), (sys.executable,))


def test_a_server_of_another_interpreter_is_started_asked_and_ended(tmp_path):
    policy = started(tmp_path)
    watcher = psutil.Process(policy._child.pid)
    try:
        policy.prepare(1)
        (chunk,) = policy.infer([query(1)], 1).chunks
        processes = [watcher, *watcher.children()]
    finally:
        policy.close()

    assert chunk.actions.shape == (10, 4)
    assert np.ptp(chunk.actions) == 0
    assert len(processes) == 2
    assert not any(process.is_running() for process in processes)


def test_a_server_that_ends_is_reported_with_its_last_output(tmp_path):
    policy = started(tmp_path, "print('loading'); raise SystemExit('no such checkpoint')")
    try:
        with pytest.raises(ConnectionLost, match=r"(?s)had ended with status 1.*loading\nno such checkpoint"):
            policy.prepare(1)
    finally:
        policy.close()


def test_a_server_that_does_not_listen_in_time_is_given_up_with_its_output(tmp_path):
    policy = started(tmp_path, "import time; print('still loading', flush=True); time.sleep(60)", start_s=1.0)
    try:
        with pytest.raises(ConnectionLost, match=r"(?s)No policy server answers.*still loading"):
            policy.prepare(1)
    finally:
        policy.close()


def test_an_interpreter_that_cannot_be_executed_is_named(tmp_path):
    with pytest.raises(InterpreterError, match=r"/no/python cannot be executed"):
        ChildPolicy(manifest(tmp_path, SERVER), ("/no/python",))


def test_a_server_ends_with_the_process_that_started_it_even_if_that_is_killed(tmp_path):
    program = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from simloop.harness.remote.child import ChildServer, Manifest
        command = ("-c", "import time; time.sleep(60)")
        server = ChildServer(Manifest(Path({str(tmp_path)!r}), command, "openpi", "metaworld"), (sys.executable,))
        print(server.pid, flush=True)
        time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        watcher = psutil.Process(int(parent.stdout.readline()))
        deadline = time.monotonic() + 10
        while not watcher.children() and time.monotonic() < deadline:
            time.sleep(0.05)
        child = watcher.children()[0]
        os.kill(parent.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs([watcher, child], timeout=15)

    assert not alive


def test_a_server_ends_if_the_process_beside_it_is_killed(tmp_path):
    policy = started(tmp_path)
    try:
        policy.prepare(1)
        watcher = psutil.Process(policy._child.pid)
        (server,) = watcher.children()
        watcher.kill()

        assert not psutil.wait_procs([server], timeout=15)[1]
    finally:
        policy.close()
