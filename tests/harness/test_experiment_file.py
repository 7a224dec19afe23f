"""Experiments of one's own: TOML and Python files with parts and adapters."""

import numpy as np
import pytest

from simloop.envs import registry
from simloop.envs.interface import RenderSettings
from simloop.harness.adapters.adapter_file import AdapterFile, set_adapter_file
from simloop.harness.adapters.base import AdapterError
from simloop.harness.commands.run import RunOptions, build_experiment
from simloop.harness.errors import SimloopError, SpecificationError
from simloop.harness.experiment_file import is_experiment_file, read_experiments
from simloop.harness.planning import own_suites

TOML = """
policies = ["random", "mine=./my_policy.py:act"]
episodes = 3

[[parts]]
tasks = ["reach"]

[[parts]]
suite = "gym:CartPole-v1?success=return>=475"
policies = ["random"]
episodes = 5
adapter = "cart"

[adapters.cart]
suite = "gym"
robot = "cart"
state = ["observation[1]", 0]
actions = [1, 0]
action_scale = 2
action_offset = [0, 1]
"""


@pytest.fixture(autouse=True)
def forgotten():
    token = own_suites._in_use.set({})
    yield
    own_suites._in_use.reset(token)
    set_adapter_file(None)
    for name in registry.SUITES._added:
        del registry.SUITES._builtin[name]
        registry.SUITES._loaded.pop(name, None)
    registry.SUITES._added.clear()


@pytest.fixture
def file(tmp_path):
    (tmp_path / "my_policy.py").write_text("def act(observation): return observation['state']")
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    return path


def test_each_part_is_an_experiment_with_the_fields_of_the_file(file):
    one, two = read_experiments(file)
    assert one.experiment.name == two.experiment.name == "mine"
    assert one.experiment.policies == ("random", f"mine={file.parent}/my_policy.py:act")
    assert (one.experiment.suite, one.experiment.tasks, one.experiment.episodes) == (
        "metaworld",
        ("reach",),
        3,
    )
    assert (two.experiment.suite, two.experiment.policies, two.experiment.episodes) == ("gym", ("random",), 5)
    assert two.experiment.protocol.own_suite == "gym?success=return>=475"
    assert (one.adapter, two.adapter) == (None, f"{file}:cart")


def test_options_override_the_file(file):
    part = read_experiments(file)[1]
    options = RunOptions(episodes=1, adapter=part.adapter)
    experiment, _ = build_experiment(options, part.experiment)
    assert (experiment.suite, experiment.episodes) == ("gym", 1)
    assert "with adapter mine.toml:cart@" in experiment.protocol.label


def test_a_table_is_an_adapter(file):
    adapter = AdapterFile.read(f"{file}:cart").load()
    read_experiments(file)
    env = registry.suite("gym").make("CartPole-v1", RenderSettings())
    env.reset(0)
    position, velocity, *_ = env.state()
    assert adapter.state(env).tolist() == [velocity, position]
    assert adapter.convention.state_size == 2
    assert adapter.convention.robot_actions(np.array([[3.0, 4.0]])).tolist() == [[8, 7]]


def test_only_the_table_identifies_an_adapter(file):
    before = AdapterFile.read(f"{file}:cart").identity
    file.write_text(TOML.replace("episodes = 5", "episodes = 6"))
    assert AdapterFile.read(f"{file}:cart").identity == before
    file.write_text(TOML.replace("action_scale = 2", "action_scale = 3"))
    assert AdapterFile.read(f"{file}:cart").identity != before


def test_a_python_file_has_experiments(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from simloop.harness.planning.experiment import Experiment\n"
        "EXPERIMENT = Experiment('lifts', 'metaworld', ('reach',), ('random',), 2)\n"
    )
    (part,) = read_experiments(path)
    assert build_experiment(RunOptions(), part.experiment)[1].as_posix() == "runs/lifts"
    path.write_text("EXPERIMENTS = [1]")
    with pytest.raises(SimloopError, match="needs EXPERIMENT ="):
        read_experiments(path)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("episodes = 3", "episode = 3", "is no experiment: episode: Unexpected keyword"),
        ("episodes = 3", "episodes = ", "is no TOML"),
        ("./my_policy.py", "./your_policy.py", "names ./your_policy.py, which is not beside it"),
        ("[[parts]]\ntasks", "[parts]\ntasks", "is no TOML"),
        ("episodes = 5", "episodes = 0", "--episodes must be at least 1"),
    ],
)
def test_says_what_is_wrong_with_a_file(file, old, new, complaint):
    file.write_text(TOML.replace(old, new))
    with pytest.raises((SimloopError, SpecificationError), match=complaint):
        read_experiments(file)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('robot = "cart"', "", "cart.robot: "),
        ("[adapters.cart]", "[adapters.horse]", r"no \[adapters.cart\]; it has horse"),
        ("action_scale = 2", "scale = 2", "cart.scale: Unexpected keyword"),
    ],
)
def test_says_what_is_wrong_with_a_table(file, old, new, complaint):
    file.write_text(TOML.replace(old, new))
    with pytest.raises(AdapterError, match=complaint):
        AdapterFile.read(f"{file}:cart")


def test_only_paths_of_files_are_experiment_files():
    assert is_experiment_file("runs/mine.toml")
    assert is_experiment_file("mine.py")
    assert not is_experiment_file("mine.py:Mine")
    assert not is_experiment_file("demo")
