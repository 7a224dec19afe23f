"""Speed of `simloop serve`: what its protocol adds to a query, and what batching gives to several clients."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
from rich.console import Console

from simloop.harness.bench import one_at_a_time, openpi_clients
from simloop.harness.bench.serving_bench import ServingBench
from simloop.harness.errors import SimloopError
from simloop.harness.planning.policy_names import load_policy
from simloop.harness.remote.policy import RemotePolicy
from simloop.harness.remote.protocols import OpenpiProtocol
from simloop.harness.remote.robots import ROBOTS
from simloop.harness.rollout.loop import ask_here
from simloop.policies.interface import BatchedPolicy, Query

ANNOUNCED = "ws://"
SETTLE = 5
"""Queries before the measurement."""


@dataclass
class _Server:
    """A server in a process of its own, and what it did for clients."""

    address: str
    process: psutil.Process
    rates: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    """Processor time per query, in each round."""

    def cpu_s(self) -> float:
        """Processor time so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


def run(bench: ServingBench, console: Console) -> int:
    """Measure, and print both results as Markdown."""
    with _served(bench.policy, 1) as server:
        console.print(_overhead(bench, server), soft_wrap=True)
    with (
        _served(bench.policy, bench.batch_size) as batching,
        _started(one_at_a_time.__file__, bench.policy) as single,
    ):
        console.print(_several_clients(bench, batching, single), soft_wrap=True)
    return 0


def _overhead(bench: ServingBench, server: _Server) -> str:
    """Ask the same policy here and over the protocol, by turns."""
    robot = ROBOTS[bench.robot]
    remote = RemotePolicy(robot.spec("remote"), server.address, OpenpiProtocol(robot))
    here = load_policy(bench.policy)
    for policy in (here, remote):
        policy.prepare(1)
    query = _query(remote)
    for _ in range(SETTLE):
        _timed(here, query), _timed(remote, query)
    served_s, own_s, here_s, remote_s, ways_s = server.cpu_s(), 0.0, [], [], []
    here_cpu_s = 0.0
    for _ in range(bench.queries):
        wall, cpu = _timed(here, query)
        here_s.append(wall)
        here_cpu_s += cpu
        began, cpu = time.perf_counter(), time.process_time()
        result = remote.infer([query], 1)
        remote_s.append(time.perf_counter() - began)
        own_s += time.process_time() - cpu
        ways_s.append(remote_s[-1] - result.device_s - result.queue_s)
    remote_cpu_s = own_s + server.cpu_s() - served_s
    low, median, high = 1e3 * np.percentile(np.subtract(remote_s, here_s), [25, 50, 75])
    each = 1e3 / bench.queries
    return (
        f"| one query of {bench.policy}, two cameras of 224 x 224, {bench.queries} pairs by turns | ms |\n|---|---:|\n"
        f"| in this process, median | {1e3 * np.median(here_s):.2f} |\n"
        f"| over openpi's protocol, median | {1e3 * np.median(remote_s):.2f} |\n"
        f"| difference of a pair, median (quartiles) | {median:.2f} ({low:.2f} to {high:.2f}) |\n"
        f"| outside the server's inference and queue, median | {1e3 * np.median(ways_s):.2f} |\n"
        f"| processor time in this process, mean | {each * here_cpu_s:.2f} |\n"
        f"| processor time of client and server, mean | {each * remote_cpu_s:.2f} |\n"
    )


def _several_clients(bench: ServingBench, batching: _Server, single: _Server) -> str:
    client = ""
    for _ in range(bench.rounds):
        for server in (batching, single):
            before = server.cpu_s()
            measured = _clients(bench, server.address)
            client = measured["client"].partition(".")[0]
            server.rates.append(measured["rate"])
            server.latencies_ms.append(measured["ms"])
            server.cpu_ms.append(1e3 * (server.cpu_s() - before) / measured["queries"])
    rows = "".join(
        f"| {name} | {np.median(server.rates):.1f} | {np.median(server.latencies_ms):.0f} | "
        f"{np.median(server.cpu_ms):.1f} |\n"
        for name, server in (("simloop serve", batching), ("one query at a time", single))
    )
    faster = np.median(np.divide(batching.rates, single.rates))
    cheaper = np.median(np.divide(single.cpu_ms, batching.cpu_ms))
    return (
        f"| {bench.policy}, {bench.connections} connections of {client}, {bench.rounds} rounds of {bench.seconds:g} s "
        "by turns | queries/s | median ms | processor ms of the server per query |\n|---|---:|---:|---:|\n"
        f"{rows}| ratio of a round, median | {faster:.2f} | | {cheaper:.2f} |\n"
    )


def _clients(bench: ServingBench, address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    command = [
        bench.client_python,
        openpi_clients.__file__,
        host,
        port,
        str(bench.connections),
        str(bench.seconds),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=bench.seconds + 120)
    if done.returncode:
        raise SimloopError(f"The clients failed: {done.stderr.strip()[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _timed(policy: BatchedPolicy, query: Query) -> tuple[float, float]:
    """Wall and processor time of a query in this process, in seconds."""
    began, cpu = time.perf_counter(), time.process_time()
    ask_here(policy, query)
    return time.perf_counter() - began, time.process_time() - cpu


def _query(policy: BatchedPolicy) -> Query:
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    state = np.zeros(policy.spec.state_size or 0, np.float32)
    return Query(
        "t", "reach the goal", 1, state, dict.fromkeys(policy.spec.cameras, image), episode="e", step=1
    )


def _served(policy: str, batch_size: int) -> contextlib.AbstractContextManager[_Server]:
    return _started(
        "-m", "simloop.harness.cli", "serve", policy, "--port", "0", "--batch-size", str(batch_size)
    )


@contextlib.contextmanager
def _started(*arguments: str) -> Iterator[_Server]:
    """Run a server in a process of its own until it says where it listens; yields it."""
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = next((line for line in process.stdout if ANNOUNCED in line), None)
            if line is None:
                raise SimloopError(f"The server ended before it listened: {' '.join(arguments)}")
            address = line.partition(ANNOUNCED)[2].split(",")[0].split()[0]
            yield _Server(address, psutil.Process(process.pid))
        finally:
            process.terminate()
