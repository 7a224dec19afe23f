"""Entry points of installed distributions add suites, adapters, protocols, policies and experiments."""

import os
import subprocess
import sys

import pytest

from simloop.envs.plugins import PluginError, Registry, UnknownNameError

PLUGIN = """
from simloop.envs.interface import Suite, TaskSpec
from simloop.harness.adapters.base import Adapter
from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.protocol import Protocol
from simloop.policies.interface import Chunk, PolicySpec
from simloop.policies.registry import PolicyEntry
import numpy as np

class Kitchen(Suite):
    name, default_group = "kitchen", "all"
    def tasks(self):
        bounds = (-1.0,) * 2
        return [TaskSpec("kitchen", "boil-v0", "Boil water", 10, 5.0, (), ("x",), ("dx", "dy"), bounds, (1.0,) * 2)]
    def groups(self):
        return {"all": ("boil-v0",)}
    def make(self, task, render):
        raise NotImplementedError

class Cook:
    spec = PolicySpec("cook", "cook_bot", "scripted", (), None, None, None, 1)
    def infer(self, queries):
        return [Chunk(np.zeros((1, 2), np.float32)) for _ in queries]

COOK = PolicyEntry(Cook.spec, lambda folder: Cook())
ADAPTER = Adapter("kitchen", "cook_bot")
PROTOCOL = Protocol("kitchen", "short-v1", max_steps=3)
EXPERIMENT = Experiment("dinner", "kitchen", ("all",), ("chef=cook",), 2, protocol=PROTOCOL)
"""
ENTRY_POINTS = """
[simloop.suites]
kitchen = kitchen_plugin:Kitchen
[simloop.adapters]
kitchen/cook_bot = kitchen_plugin:ADAPTER
[simloop.protocols]
kitchen/short-v1 = kitchen_plugin:PROTOCOL
[simloop.policies]
cook = kitchen_plugin:COOK
[simloop.experiments]
dinner = kitchen_plugin:EXPERIMENT
"""


def install(folder, name, entry_points):
    """Write the metadata of a distribution, as pip would."""
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(entry_points)


def test_a_distribution_adds_one_of_each(tmp_path):
    (tmp_path / "kitchen_plugin.py").write_text('"""Dinner for two."""\n' + PLUGIN)
    install(tmp_path, "kitchen", ENTRY_POINTS)
    program = """
import sys
from rich.console import Console
from simloop.harness import experiments, listing
from simloop.harness.adapters.registry import checked_adapter
from simloop.harness.planning.policy_names import PolicyLoader
assert "kitchen_plugin" not in sys.modules
experiment = experiments.find("dinner")
(spec,) = experiment.policy_specs().values()
assert checked_adapter(spec, experiment.task_specs()).robot == "cook_bot"
plan = experiment.plan()
print(plan.episodes[0].policy, plan.episodes[0].protocol, len(plan.episodes))
print(PolicyLoader.of(experiment.policies)("chef").spec.name)
for kind in ("suites", "tasks", "protocols", "policies", "experiments"):
    listing.show(kind, Console(), "dinner" if kind == "experiments" else "kitchen")
assert not {"jax", "ray", "mujoco"} & set(sys.modules)
"""
    python_path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["chef kitchen/short-v1 2", "chef"]
    for shown in ("boil-v0", "short-v1", "cook", "Dinner for two."):
        assert shown in done.stdout


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry of strings that sees the distributions written to `tmp_path`."""
    monkeypatch.syspath_prepend(tmp_path)
    return Registry("simloop.words", str, {"built-in": "os:sep"}, name_of=lambda word: word)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("no_such_module:WORD", "cannot be loaded from no_such_module:WORD: ModuleNotFoundError"),
        ("os:no_such_attribute", "AttributeError"),
        (
            "os:environ",
            "must be a str called 'word', or make one without arguments; os:environ gave _Environ",
        ),
        ("os:getcwd", "os:getcwd gave '/"),
    ],
)
def test_names_the_distribution_of_a_broken_entry_point(registry, tmp_path, value, complaint):
    install(tmp_path, "dictionary", f"[simloop.words]\nword = {value}\n")
    assert list(registry) == ["built-in", "word"]
    with pytest.raises(PluginError, match=r"'word' of dictionary 1\.2 in group 'simloop\.words'") as caught:
        registry["word"]
    assert complaint in str(caught.value)


def test_refuses_two_entry_points_of_one_name(registry, tmp_path):
    install(tmp_path, "one", "[simloop.words]\nword = os:sep\n")
    install(tmp_path, "two", "[simloop.words]\nword = os:sep\n")
    with pytest.raises(PluginError, match=r"both (one|two) 1\.2 and (one|two) 1\.2 have 'word'"):
        list(registry)


@pytest.mark.parametrize("name", ["built-in", "reserved"])
def test_refuses_an_entry_point_with_the_name_of_a_built_in_object(tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "one", f"[simloop.words]\n{name} = os:sep\n")
    words = Registry(
        "simloop.words", str, {"built-in": "os:sep"}, name_of=lambda word: word, reserved=("reserved",)
    )
    with pytest.raises(PluginError, match=rf"both simloop and one 1\.2 have '{name}'"):
        list(words)


def test_suggests_the_nearest_name(registry):
    with pytest.raises(
        UnknownNameError, match=r"no word 'build-in'. Did you mean 'built-in'\? simloop list words"
    ):
        registry["build-in"]
    with pytest.raises(UnknownNameError, match="There are: built-in"):
        registry["qqqq"]
