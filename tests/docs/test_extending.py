"""The files of docs/extending.md are complete: they run as they are printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import simloop
from simloop.envs import registry
from simloop.envs.conformance import check_suite
from simloop.harness.adapters.adapter_file import AdapterFile
from simloop.harness.experiment_file import read_experiments
from simloop.harness.planning import own_suites
from simloop.harness.planning.own_suites import use_suite
from simloop.harness.planning.policy_names import load_policy
from simloop.harness.planning.protocol import named_protocol
from simloop.harness.policy_check import check_policy

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
FILE = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```', re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files of the page, and nothing in use."""
    for name, text in FILE.findall(PAGE.read_text()):
        (tmp_path / name).write_text(text)
    np.savez(tmp_path / "weights.npz", layer=4 * np.array([[-1, 0], [0, -1], [1, 0], [0, 1]]))
    monkeypatch.chdir(tmp_path)
    token = own_suites._in_use.set({})
    yield tmp_path
    own_suites._in_use.reset(token)
    for name in registry.SUITES._added:
        del registry.SUITES._builtin[name]
        registry.SUITES._loaded.pop(name, None)
    registry.SUITES._added.clear()


@pytest.mark.usefixtures("folder")
def test_the_suite_keeps_the_contract():
    suite = registry.suite(use_suite("./my_suite.py:Table"))
    assert {found.problem for found in check_suite(suite)} == {""}


@pytest.mark.usefixtures("folder")
def test_the_suite_of_another_interpreter_keeps_the_contract():
    suite = registry.suite(use_suite(f"process:./served_table.py?python={sys.executable}&speed=0.5"))
    assert {found.problem for found in check_suite(suite)} == {""}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("policy", ["my_policy.py:push", "my_network.py:Network?weights=weights.npz"])
def test_the_policies_keep_the_contract(policy):
    suite = use_suite("./my_suite.py:Table")
    found = list(check_policy(load_policy(policy), "push-v1", named_protocol(suite)))
    assert {finding.verdict for finding in found} == {"ok"}


def test_the_policies_are_evaluated_beside_a_baseline(folder):
    result = simloop.evaluate(
        ["./my_policy.py:push", lambda observation: np.zeros(2), "random"],
        suite="./my_suite.py:Table",
        episodes=2,
        out=folder / "run",
    )
    rates = result.success_rates()["rate"]
    assert rates[("push", "push-v1")] == 1.0
    assert rates[("random", "push-v1")] == 0.0


def test_the_experiment_has_two_suites_and_a_robot(folder):
    one, two = read_experiments(folder / "my_experiment.toml")
    assert (one.experiment.suite, two.experiment.suite) == ("table", "gym")
    adapter = AdapterFile.read(two.adapter).load()
    (policy,) = [spec for name, spec in two.experiment.policy_specs().items() if name == "tip"]
    adapter.check(policy, two.experiment.task_specs()[0])
    assert read_experiments(folder / "my_experiment.py")[0].experiment.name == "lift-check"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_command_and_block_of_the_page_runs_in_order(folder):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for language, text in BLOCK.findall(PAGE.read_text()):
        command = [sys.executable, "-c", text] if language == "python" else ["bash", "-euc", text]
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, f"{text}\n{ended.stdout}\n{ended.stderr}"
