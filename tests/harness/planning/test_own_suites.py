"""Suites of one's own: named on the command line, sent to env actors, and part of the protocol."""

import pickle
import re
import sys

import pytest

from simloop.envs import registry
from simloop.envs.interface import RenderSettings
from simloop.harness.commands.run import RunOptions, build_experiment
from simloop.harness.errors import SpecificationError
from simloop.harness.planning import own_suites
from simloop.harness.planning.code_of_runs import use_own_suite_of, vouch_for
from simloop.harness.planning.own_suites import EnvMaker, own_suites_in_use, resolve_suite, use_suite
from simloop.harness.planning.protocol import Protocol
from tests.helpers import served_points

CARTPOLE = "gym:CartPole-v1?success=return>=475"
SUITE = """
from simloop.envs.gymnasium_suite import GymMapping, GymSuite

class Poles(GymSuite):
    name = "poles"

    def __init__(self, limit: float = 475):
        super().__init__(["CartPole-v1"], GymMapping(success=f"return>={limit}"))
"""


@pytest.fixture(autouse=True)
def forgotten():
    """Nothing is in use before a test or after it."""
    token = own_suites._in_use.set({})
    yield
    own_suites._in_use.reset(token)
    vouch_for(())
    for name in registry.SUITES._added:
        del registry.SUITES._builtin[name]
        registry.SUITES._loaded.pop(name, None)
    registry.SUITES._added.clear()


def test_a_registered_suite_is_its_name():
    assert use_suite("metaworld") == "metaworld"
    assert resolve_suite("nowhere") is None
    assert own_suites_in_use() == ()


def test_environments_of_gymnasium_are_a_suite():
    assert use_suite(CARTPOLE) == "gym"
    (maker,) = pickle.loads(pickle.dumps([EnvMaker(own_suites_in_use())]))
    env = maker("gym", "CartPole-v1", RenderSettings())
    assert env.spec in registry.suite("gym").tasks()


def test_an_experiment_has_the_mapping_in_its_protocol():
    experiment, _ = build_experiment(RunOptions(("random",), suite=CARTPOLE))
    assert (experiment.suite, experiment.tasks) == ("gym", ("all",))
    assert experiment.protocol.label == "gym/default-v1 with suite gym?success=return>=475"
    assert experiment.protocol.sha256 != Protocol("gym").sha256
    assert "own_suite" not in Protocol("gym").to_dict()


def test_a_class_in_a_file_is_a_suite_with_arguments(tmp_path):
    (tmp_path / "my_suite.py").write_text(SUITE)
    assert use_suite(f"{tmp_path}/my_suite.py:Poles?limit=3") == "poles"
    (source,) = own_suites_in_use()
    assert source.identity.startswith("my_suite.py:Poles@")
    assert source.identity.endswith("?limit=3")


def test_a_file_registers_environments(tmp_path):
    (tmp_path / "my_envs.py").write_text(
        "import gymnasium\ngymnasium.register('Mine-v0', 'gymnasium.envs.classic_control:CartPoleEnv', "
        "max_episode_steps=7)\n"
    )
    assert use_suite(f"gym:Mine-v0?module={tmp_path}/my_envs.py&success=terminated") == "gym"
    assert registry.suite("gym").tasks()[0].max_steps == 7
    assert "module=my_envs.py@" in own_suites_in_use()[0].identity


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("gym:", "gym: names environments"),
        ("gym:CartPole-v1?module=no_such_module", "module=no_such_module cannot be imported"),
        ("nowhere.py:Mine", "There is no file nowhere.py"),
        ("json:dumps", "missing 1 required|needs obj"),
        ("json:JSONDecodeError", "needs msg"),
    ],
)
def test_says_what_is_wrong(written, complaint):
    with pytest.raises(SpecificationError, match=complaint):
        use_suite(written)


def test_the_suite_of_a_run_is_used_only_where_it_is_named_and_unchanged():
    played = Protocol("gym", own_suite="gym?success=return>=475")
    with pytest.raises(SpecificationError, match=r"of its own, gym\?success=return>=475; got none"):
        use_own_suite_of(played, "runs/a")
    vouch_for(["gym:CartPole-v1?success=return>=400"])
    with pytest.raises(SpecificationError, match=r"got gym\?success=return>=400"):
        use_own_suite_of(played, "runs/a")
    vouch_for([CARTPOLE, "./my_policy.py:mine"])
    with pytest.raises(SpecificationError, match=r"There is no file \./my_policy\.py"):
        use_own_suite_of(played, "runs/a")
    vouch_for([CARTPOLE])
    use_own_suite_of(played, "runs/a")
    assert registry.suite("gym").tasks()[0].name == "CartPole-v1"


def test_a_suite_in_another_interpreter_is_known_by_its_file_and_arguments():
    written = f"process:{served_points.__file__}?python={sys.executable}&speed=0.5"
    assert use_suite(written) == "served-points"
    (source,) = own_suites_in_use()
    assert re.fullmatch(r"served_points\.py@[0-9a-f]{12}\?speed=0\.5", source.identity)
    env = pickle.loads(pickle.dumps(EnvMaker((source,))))("served-points", "point", RenderSettings())
    try:
        assert env.spec in registry.suite("served-points").tasks()
    finally:
        env.close()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("process:./folder", "takes a Python file, process:FILE.py"),
        ("process:./suite.py?python=/no/python", "no interpreter /no/python"),
    ],
)
def test_a_suite_in_another_interpreter_needs_a_file_and_the_interpreter(written, said):
    with pytest.raises(SpecificationError, match=said):
        resolve_suite(written)
