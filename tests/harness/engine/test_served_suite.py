"""Env actors play a suite that simulates in child processes."""

import random
import sys
import threading

import psutil
import pytest

from simloop.envs.interface import RenderSettings
from simloop.envs.served import server
from simloop.harness.actors.factories import Factories
from simloop.harness.adapters.registry import find_adapter
from simloop.harness.engine.engine import Engine
from simloop.harness.engine.resources import Resources
from simloop.harness.planning.own_suites import EnvMaker, resolve_suite
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.protocol import Protocol
from simloop.harness.rollout.loop import run_episode
from simloop.policies.scripted import scripted_policy
from tests.harness.engine.test_faults import outcome
from tests.helpers import served_points

KILLS = 50
PROTOCOL = Protocol("served-points", render=RenderSettings("fast", 32, 32), replan_steps=1)
SOURCE = resolve_suite(f"process:{served_points.__file__}?python={sys.executable}&pause_s=0.1")


class Killer(threading.Thread):
    """Kills a child process that simulates, chosen by chance, every 0.3 s."""

    def __init__(self):
        super().__init__(daemon=True)
        self.kills = 0
        self.stopped = threading.Event()

    def run(self):
        chance = random.Random(0)
        while self.kills < KILLS and not self.stopped.wait(0.3):
            if running := [process for process in psutil.process_iter() if self.simulates(process)]:
                chance.choice(running).kill()
                self.kills += 1

    @staticmethod
    def simulates(process):
        try:
            command = process.cmdline()
            return command[3:4] == [server.__file__] and command[-1] == served_points.__file__
        except psutil.Error:
            return False


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_killing_the_child_50_times_loses_no_episode_and_changes_none():
    suite, maker = SOURCE.load(), EnvMaker((SOURCE,))
    task = {spec.name: spec for spec in suite.tasks()}["point"]
    plan = make_plan(["random"], [task], PROTOCOL, 40, seed=0)
    spec = scripted_policy("random").spec
    killer = Killer()
    resources = Resources(env_actors=2, envs_per_actor=1, max_attempts=1)
    results = {}
    with Engine(PROTOCOL, {"random": spec}, 1, resources, None, factories=Factories(env=maker)) as engine:
        killer.start()
        for attempt, result in engine.results(plan.episodes):
            assert attempt.spec.id not in results
            results[attempt.spec.id] = result
    killer.stopped.set()
    killer.join()

    assert killer.kills == KILLS
    assert [result.error for result in results.values() if result.played is None] == []
    assert results.keys() == {episode.id for episode in plan.episodes}
    env = suite.make("point", PROTOCOL.render)
    try:
        for episode in plan.episodes[:5]:
            alone = run_episode(
                env, episode, scripted_policy("random"), find_adapter("served-points", spec), PROTOCOL
            )
            assert outcome(results[episode.id].played) == outcome(alone)
    finally:
        env.close()
