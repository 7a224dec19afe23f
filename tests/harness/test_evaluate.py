"""The Python interface: `import simloop`."""

import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest

import simloop
from simloop.harness.planning.policy_names import UnknownPolicyError
from simloop.harness.planning.protocol import Protocol
from simloop.policies.interface import Chunk, PolicySpec

PROTOCOL = Protocol("metaworld", max_steps=60)


class Still:
    """A policy of a user: an attribute and a method."""

    spec = PolicySpec("still", "any", "scripted", (), None, None, None, 1)

    def infer(self, queries):
        return [Chunk(np.zeros((1, query.action_low.size), np.float32)) for query in queries]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return simloop.evaluate(["best=expert", Still()], "reach", episodes=1, protocol=PROTOCOL, out=out)


def test_evaluates_policy_objects_in_this_process(result):
    rates = result.success_rates()
    assert rates.loc[("best", "reach-v3"), "rate"] == 1.0
    assert rates.loc[("still", "reach-v3"), ["successes", "episodes"]].tolist() == [0, 1]
    assert 0 < rates.loc[("best", "reach-v3"), "low"] < 1
    assert set(result.queries["policy"]) == {"best", "still"}
    assert "still" in str(result)
    assert "<table" in result._repr_html_()


def test_resumes_and_reads_a_run_folder(result):
    (folder,) = result.folders
    again = simloop.evaluate(["best=expert", Still()], "reach", episodes=1, protocol=PROTOCOL, out=folder)
    assert again.episodes.equals(result.episodes)
    assert simloop.load_runs(folder).episodes.equals(result.episodes)


@pytest.mark.usefixtures("shared_ray")
def test_evaluates_named_policies_as_the_command_line_does(result, tmp_path):
    named = simloop.evaluate("best=expert", ["reach"], episodes=1, protocol=PROTOCOL, out=tmp_path / "run")
    (here,) = result.episodes.query("policy == 'best'")["actions_sha256"]
    assert list(named.episodes["actions_sha256"]) == [here]


def test_loads_a_policy_by_name():
    assert simloop.load_policy("best=expert").spec.name == "best"
    with pytest.raises(UnknownPolicyError, match="needs trained weights"):
        simloop.load_policy("pi0_libero")


def test_makes_a_gymnasium_environment():
    env = simloop.make("reach", cameras=())
    try:
        observation, info = env.reset(seed=3)
        assert observation.keys() == {"state"}
        assert info["instruction"]
        assert env.observation_space.contains(env.step(env.action_space.sample())[0])
    finally:
        env.close()


def test_has_the_version_of_the_distribution_and_no_other_names():
    assert simloop.__version__ == version("simloop")
    assert set(simloop.__all__) <= set(dir(simloop))
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        simloop.evalute  # noqa: B018


def test_importing_simloop_imports_nothing_heavy():
    code = "import sys; before = set(sys.modules); import simloop; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"jax", "ray", "mujoco", "numpy", "pandas", "gymnasium", "rich", "importlib.metadata"}
    assert "simloop" in done.stdout.split()
    assert not heavy & set(done.stdout.split())
