"""Suites of simloop in interpreters of their own; skipped where `scripts/setup SUITE` has not made one."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from simloop.envs import registry
from simloop.envs.conformance import RENDER, check_suite
from simloop.envs.interface import NOT_INSTALLED, SuiteNotInstalledError
from simloop.envs.rendering import RenderingError
from simloop.envs.served.suite import ServedSuite
from simloop.harness.adapters.registry import find_adapter
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.protocol import named_protocol
from simloop.harness.rollout.loop import run_episode
from simloop.policies.scripted import scripted_policy

SERVED = [suite for suite in map(registry.suite, registry.suites()) if isinstance(suite, ServedSuite)]
NAMES = [suite.name for suite in SERVED]
FIRST = {
    "robosuite": "Lift",
    "maniskill": "PickCube-v1",
    "simpler_bridge": "PutCarrotOnPlateInScene-v1",
    "robocasa": "OpenStandMixerHead",
    "molmospaces": "Pick",
}
WITH_EXPERT = ["robosuite", "maniskill"]


def installed(name: str) -> ServedSuite:
    suite = registry.suite(name)
    if not suite.is_installed():
        pytest.skip(f"Suite {name} or its assets are not installed.")
    return suite


def play(name: str, task: str, policy: str):
    suite, protocol, player = installed(name), named_protocol(name), scripted_policy(policy)
    spec = {spec.name: spec for spec in suite.tasks()}[task]
    (episode,) = make_plan([policy], [spec], protocol, 1, seed=0).episodes
    env = suite.make(task, protocol.render)
    try:
        return run_episode(env, episode, player, find_adapter(name, player.spec), protocol)
    finally:
        env.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_suite_that_was_not_set_up_says_how(name, monkeypatch):
    environment = registry.suite(name).environment or name
    monkeypatch.setenv(f"SIMLOOP_{environment.upper()}_PYTHON", "/no/python")
    assert not registry.suite(name).is_installed()
    with pytest.raises(
        SuiteNotInstalledError, match=rf"/no/python does not have them. Run scripts/setup {environment}"
    ):
        registry.suite(name).make(FIRST[name], RENDER)


@pytest.mark.parametrize("name", [suite.name for suite in SERVED if not suite.environment])
def test_a_lock_holds_hashes_and_no_address(name):
    lines = (Path(__file__).parents[3] / f"requirements-{name}.lock").read_text().splitlines()
    assert any(line.startswith(f"{registry.suite(name).needed[0]}==") for line in lines)
    assert {line.lstrip()[:7] for line in lines if line.startswith(" ")} == {"--hash="}


@pytest.mark.slow
def test_the_device_that_draws_is_named_by_the_interpreter_that_draws(monkeypatch):
    assert installed("maniskill").renderer().startswith("Vulkan / ")
    monkeypatch.setenv("SIMLOOP_MANISKILL_PYTHON", sys.executable)  # Without SAPIEN.
    with pytest.raises(
        RenderingError, match="'simpler_bridge' cannot draw images: SAPIEN finds no Vulkan device"
    ):
        registry.suite("simpler_bridge").renderer()


@pytest.mark.slow
def test_the_tasks_of_robocasa_are_the_targets_of_its_package_with_their_horizons():
    suite = registry.suite("robocasa")
    if NOT_INSTALLED in suite.versions().values():
        pytest.skip("Suite robocasa is not installed.")
    registered = (
        "import json; from robocasa.utils.dataset_registry import *; print(json.dumps({group: {task: \
    {**ATOMIC_TASK_DATASETS, **COMPOSITE_TASK_DATASETS}[task]['horizon'] for task in tasks} \
    for group, tasks in TARGET_TASKS.items()}))"
    )
    told = subprocess.run(
        [suite.interpreter, "-I", "-c", registered], stdout=subprocess.PIPE, check=True, text=True
    )
    groups = json.loads(told.stdout.splitlines()[-1])
    assert {group: tuple(tasks) for group, tasks in groups.items()} == {
        group: tasks for group, tasks in suite.groups().items() if group != "target50"
    }
    steps = {task: horizon for tasks in groups.values() for task, horizon in tasks.items()}
    assert {spec.name: spec.max_steps for spec in suite.tasks()} == steps


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", NAMES)
def test_a_task_keeps_the_contract(name):
    assert [found for found in check_suite(installed(name), [FIRST[name]]) if found.problem] == []


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", WITH_EXPERT)
def test_the_expert_solves_a_task_that_random_actions_do_not(name):
    assert play(name, FIRST[name], "expert").ended_by == "success"
    assert play(name, FIRST[name], "random").ended_by == "step_limit"


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_scene_in_every_process(name):
    scenes = []
    for earlier in (None, 5):
        env = installed(name).make(FIRST[name], RENDER)
        try:
            if earlier is not None:
                env.reset(earlier)
            env.reset(3)
            scenes.append([env.snapshot(), *map(env.render, env.spec.cameras)])
        finally:
            env.close()
    for one, other in zip(*scenes, strict=True):
        np.testing.assert_array_equal(one, other)
