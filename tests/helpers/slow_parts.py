"""Parts of a run in which each query of one episode is delayed at another place, for real Ray actors.

The watched episode is that of the task `left`. Neighbours play `right` in the same env actor.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path

from simloop.envs.interface import RenderSettings
from simloop.harness.actors import worker_client
from simloop.harness.actors.factories import Factories
from simloop.harness.adapters.base import Adapter
from simloop.harness.planning.protocol import Protocol
from simloop.harness.serving.stub_policy import Stub, StubPolicy
from tests.helpers.point_suite import FOLDER_VARIABLE, PointEnv, point_task

DELAY_S = 0.6
PLACES = {
    "render": "render", "adapt": "adapt", "encode": "host", "assemble": "host", "model": "device",
    "decode": "post", "neighbour": "turn", "death": "retry",
}  # fmt: skip
"""Where query i is delayed, and the stage that has to show it."""
PROTOCOL = Protocol(
    "points", render=RenderSettings("fast", 16, 16), replan_steps=1, max_steps=len(PLACES) + 1
)
WATCHED = Stub("watched", robot="point", cameras=("base_0_rgb",), action_size=2, chunk_steps=1)
NEIGHBOUR = Stub("neighbour", robot="point", action_size=2, chunk_steps=1)


def due(place: str, task: str, step: int) -> bool:
    return task == "left" and list(PLACES).index(place) == step


def flag(name: str) -> Path:
    return Path(os.environ[FOLDER_VARIABLE]) / name


class SlowEnv(PointEnv):
    steps = 0

    def reset(self, seed):
        super().reset(seed)
        self.steps = 0

    def step(self, action):
        self.steps += 1
        if self.spec.name == "right":
            asked = flag("neighbour").exists()
            flag("neighbour").unlink(missing_ok=True)
            time.sleep(DELAY_S if asked else 0.02)
        return dataclasses.replace(super().step(action), success=False)

    def render(self, camera):
        if due("render", self.spec.name, self.steps):
            time.sleep(DELAY_S)
        return super().render(camera)


class SlowAdapter(Adapter):
    def query(self, env, policy, images, instruction, **identity):
        query = super().query(env, policy, images, instruction, **identity)
        if due("adapt", query.task, query.step):
            time.sleep(DELAY_S)
        return query


class SlowPolicy(StubPolicy):
    def encode(self, query):
        self.wait("encode", query)
        return query

    def assemble(self, rows, batch_size):
        self.wait("assemble", rows[0])
        return super().assemble(rows, batch_size)

    def infer(self, queries: Sequence, batch_size):
        (query,) = queries
        self.wait("model", query)
        if due("death", query.task, query.step) and not flag("died").exists():
            flag("died").touch()
            os._exit(1)
        if due("neighbour", query.task, query.step):
            flag("neighbour").touch()
            while flag("neighbour").exists():
                time.sleep(0.001)
        post_s = self.wait("decode", query)
        return dataclasses.replace(super().infer(queries, batch_size), host_s=0.0, post_s=post_s)

    def wait(self, place, query) -> float:
        if not due(place, query.task, query.step):
            return 0.0
        time.sleep(DELAY_S)
        return DELAY_S


def make_env(suite, task, render):
    return SlowEnv(point_task(task), render)


def make_env_of_another_node(suite, task, render):
    """Have the env actor believe that no policy worker is on its node, so that queries travel by Ray."""
    worker_client.this_node = lambda: "another node"
    return make_env(suite, task, render)


def load_policy(name, plan=None):
    return SlowPolicy(WATCHED) if name == WATCHED.name else StubPolicy(NEIGHBOUR)


def find_adapter(spec, policy):
    return SlowAdapter("points", "point", cameras={"base_0_rgb": "top"})


TRANSPORTS = {
    "shared memory": Factories(make_env, load_policy, find_adapter),
    "ray": Factories(make_env_of_another_node, load_policy, find_adapter),
}
