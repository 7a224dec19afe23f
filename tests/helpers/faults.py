"""Faults that happen once each, somewhere in a run of the point suite, in whichever process gets to them first.

A fault is a file in a folder; who can remove it has it. What each name does is below.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from simloop.envs.interface import RenderSettings
from simloop.harness.actors.factories import Factories
from simloop.harness.adapters.base import Adapter
from simloop.harness.serving.stub_policy import Stub, StubPolicy
from simloop.policies.models.inference_plan import InferencePlan
from tests.helpers.point_suite import PointEnv, point_task

FOLDER = "SIMLOOP_TEST_FAULTS"
RATE = "SIMLOOP_TEST_FAULT_RATE"

IN_RESET = ("raise-in-reset", "full-disk", "swell")
SWOLLEN_BYTES = 700_000_000
IN_STEP = ("kill-env", "hang-env", "hang-env-in-c", "raise-in-step")
IN_WORKER = ("kill-worker", "hang-worker", "raise-in-worker")

POINT_STUB = Stub(robot="point", cameras=("base_0_rgb", "hand_rgb"), action_size=2, chunk_steps=5)


POINT_ADAPTER = Adapter("points", "point", cameras={"base_0_rgb": "top", "hand_rgb": "hand"})


_kept: list[bytes] = []


class InjectedFault(RuntimeError):
    """On purpose."""


def prepare(folder: Path, counts: Counter[str]) -> None:
    """Lay out faults."""
    for name, count in counts.items():
        for i in range(count):
            (folder / f"{name}.{i}").touch()


def left(folder: Path) -> Counter[str]:
    """Faults that have not happened."""
    return Counter(path.name.split(".")[0] for path in folder.iterdir())


def _claimed(names: Sequence[str]) -> str | None:
    """A fault that is due, which then happens here and nowhere else."""
    folder = os.environ.get(FOLDER)
    if folder is None or random.random() > float(os.environ.get(RATE, "1")):
        return None
    due = [path for path in Path(folder).iterdir() if path.name.split(".")[0] in names]
    random.shuffle(due)
    for path in due:
        try:
            path.unlink()
            return path.name.split(".")[0]
        except FileNotFoundError:
            continue
    return None


def _happen(name: str | None) -> None:
    if name is None:
        return
    if name.startswith("kill"):
        os._exit(3)
    if name.endswith("in-c"):
        ctypes.PyDLL(None).sleep(10**6)  # Never lets go of the interpreter.
    if name.startswith("hang"):
        time.sleep(10**6)
    if name == "swell":
        _kept.append(b"\1" * SWOLLEN_BYTES)
        return
    if name == "full-disk":
        raise OSError(errno.ENOSPC, "No space left on device")
    raise InjectedFault(name)


class FaultyEnv(PointEnv):
    """The point, now and then struck."""

    def reset(self, seed: int) -> None:
        _happen(_claimed(IN_RESET))
        super().reset(seed)

    def step(self, action):
        _happen(_claimed(IN_STEP))
        return super().step(action)


class FaultyStub(StubPolicy):
    """Answers, now and then not."""

    def infer(self, queries, batch_size):
        _happen(_claimed(IN_WORKER))
        return super().infer(queries, batch_size)


def make_faulty_env(suite: str, task: str, render: RenderSettings) -> FaultyEnv:
    assert suite == "points"
    return FaultyEnv(point_task(task), render)


def load_faulty_stub(name: str, plan: InferencePlan | None = None) -> FaultyStub:
    return FaultyStub(POINT_STUB)


def point_adapter(spec, policy) -> Adapter:
    return POINT_ADAPTER


FAULTY = Factories(make_faulty_env, load_faulty_stub, point_adapter)
"""Simulations and a policy that break where a fault is due."""
