"""Policies of one's own: classes and functions in files, with arguments, sent by value."""

import hashlib
import pickle
import sys

import numpy as np
import pytest

from simloop.harness.errors import SpecificationError
from simloop.harness.planning.code_of_runs import policy_here, vouch_for
from simloop.harness.planning.code_policy import policy_of
from simloop.harness.planning.policy_names import PolicyLoader, parse
from simloop.policies.function_policy import policy
from simloop.policies.interface import PolicySpec, Query

CLASS = """
import numpy as np
from simloop.policies.interface import Chunk, PolicySpec

class Mine:
    spec = PolicySpec("mine", chunk_steps=2)

    def __init__(self, speed: float = 1.0, deep: bool = False):
        self.speed = speed
        self.device = f"device of {deep}"

    def infer(self, queries):
        return [Chunk(np.full((2, 4), self.speed, np.float32)) for _ in queries]
"""
FUNCTION = """
import numpy as np
import simloop

@simloop.policy(chunk_steps=3, cameras=("top",))
def lift(observation, speed: float = 1.0):
    return np.tile([0, 0, speed, observation["top"].mean()], (3, 1))

def plain(observation):
    return observation["state"]
"""


@pytest.fixture(autouse=True)
def no_vouchers():
    yield
    vouch_for(())


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_policy.py"
    path.write_text(CLASS + FUNCTION)
    return path


def query(**fields):
    return Query("reach", "reach it", 1, np.float32([1, 2, 3, 4]), **fields)


def test_a_class_is_a_policy_with_arguments_of_its_types(file):
    named = parse(f"fast={file}:Mine?speed=2.5&deep=true")
    assert (named.name, named.spec().chunk_steps) == ("fast", 2)
    loaded = named.load()
    assert loaded.spec.name == "fast"
    assert loaded.infer([query()], 1).chunks[0].actions.tolist() == [[2.5] * 4] * 2
    assert loaded.device() == "device of True"


def test_a_decorated_function_is_a_policy(file):
    loaded = parse(f"{file}:lift?speed=0.5").load()
    assert (loaded.spec.name, loaded.spec.cameras) == ("lift?speed=0.5", ("top",))
    image = np.full((2, 2, 3), 7, np.uint8)
    chunk = loaded.infer([query(images={"top": image})], 1).chunks[0]
    assert chunk.actions.dtype == np.float32
    assert chunk.actions.tolist() == [[0, 0, 0.5, 7]] * 3


def test_a_plain_function_answers_one_action(file):
    assert parse(f"{file}:plain").load().infer([query()], 1).chunks[0].actions.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("nowhere.py:Mine", "There is no file nowhere.py"),
        ("no_such_module:Mine", "There is no Python module 'no_such_module' here"),
        ("json.nowhere:Mine", "There is no Python module 'json.nowhere' here"),
        ("{file}:Yours", "my_policy.py has no 'Yours'; it has .*Mine"),
        ("{file}:np", "is no policy: wanted|which is no policy"),
        ("{file}:Mine?sped=1", "has no argument 'sped'; it has speed, deep"),
        ("{file}:Mine?speed=fast", "Argument speed of my_policy.py:Mine: .*valid number.*; got 'fast'"),
    ],
)
def test_says_what_is_wrong_with_code(file, written, complaint):
    with pytest.raises(SpecificationError, match=complaint):
        parse(written.format(file=file)).load()


def test_an_error_in_the_file_names_it(tmp_path):
    (tmp_path / "broken.py").write_text("import no_such_package")
    with pytest.raises(SpecificationError, match=r"broken.py cannot be executed: ModuleNotFoundError"):
        parse(f"{tmp_path}/broken.py:Mine").spec()


def test_nothing_is_executed_before_the_interface_is_asked_for(tmp_path):
    (tmp_path / "loud.py").write_text("raise RuntimeError('executed')")
    named = parse(f"{tmp_path}/loud.py:Mine")
    assert list(named.source.fingerprint()) == ["loud.py"]
    with pytest.raises(SpecificationError, match="executed"):
        named.spec()


def test_source_travels_with_the_modules_beside_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMLOOP_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "code"
    (folder / "travelling_net").mkdir(parents=True)
    (folder / "travelling_net" / "__init__.py").write_text("from .layers import SPEED")
    (folder / "travelling_net" / "layers.py").write_text("SPEED = 3")
    (folder / "unrelated.py").write_text("raise RuntimeError")
    (folder / "my_policy.py").write_text(
        "import json\ndef act(observation):\n    from travelling_net import SPEED\n    return [SPEED]\n"
    )
    loader = pickle.loads(pickle.dumps(PolicyLoader.of([f"{folder}/my_policy.py:act"])))
    code = loader.sources["act"].source.code
    assert [path for path, _ in code.files] == [
        "my_policy.py", "travelling_net/__init__.py", "travelling_net/layers.py",
    ]  # fmt: skip
    folder.rename(tmp_path / "gone")  # As on another node.
    loaded = loader("act")
    assert loaded.infer([query()], 1).chunks[0].actions.tolist() == [[3]]
    assert sys.modules["travelling_net"].__file__.startswith(str(tmp_path / "cache"))
    assert set(loaded.identity()) == {"my_policy.py", "imports of my_policy.py"}


def test_an_edited_file_is_another_policy(file):
    before = parse(f"{file}:plain").source.fingerprint()
    assert before == {"my_policy.py": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert parse(f"{file}:plain").load().identity() == before
    file.write_text("def plain(observation): return [9]")
    assert parse(f"{file}:plain").source.fingerprint() != before
    assert parse(f"{file}:plain").load().infer([query()], 1).chunks[0].actions.tolist() == [[9]]


def test_two_different_modules_of_one_name_are_refused(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "twice_named.py").write_text(f"X = '{folder}'")
        (tmp_path / folder / "my_policy.py").write_text("import twice_named\ndef act(o): return [0]")
    parse(f"{tmp_path}/a/my_policy.py:act").spec()
    with pytest.raises(SpecificationError, match="Two modules are called 'twice_named'"):
        parse(f"{tmp_path}/b/my_policy.py:act").spec()


def test_a_spec_that_depends_on_the_arguments_is_that_of_the_object(tmp_path):
    path = tmp_path / "sized.py"
    path.write_text(
        CLASS.replace('    spec = PolicySpec("mine", chunk_steps=2)\n', "").replace(
            "self.speed = speed", "self.spec = PolicySpec('mine', chunk_steps=int(speed))"
        )
    )
    assert parse(f"{path}:Mine?speed=7").spec().chunk_steps == 7


def test_objects_classes_and_functions_of_a_process_have_the_hash_of_their_source():
    @policy(chunk_steps=2)
    def mine(observation):
        return np.zeros((2, 4))

    made = policy_of(mine)
    assert made.spec.name == "mine"
    assert list(made.identity()) == ["source of mine"]
    assert policy_of(parse("expert").load()).identity() == {}
    with pytest.raises(SpecificationError, match="dict is no policy"):
        policy_of({})


def test_code_of_a_run_is_used_only_where_it_is_named_and_unchanged(file):
    played = f"best=/elsewhere/{file.name}:Mine?speed=2"
    with pytest.raises(
        SpecificationError, match=r"To use it here, name it: --code /elsewhere/my_policy.py:Mine"
    ):
        policy_here(played, {}, "runs/a")
    assert policy_here("best=expert", {}, "runs/a") == "best=expert"
    vouch_for([f"{file}:Mine?speed=2", f"{file}:plain"])
    recorded = parse(f"{file}:Mine").source.fingerprint()
    assert policy_here(played, recorded, "runs/a") == f"best={file}:Mine?speed=2"
    assert policy_here("/elsewhere/my_policy.py:plain", recorded, "runs/a") == f"{file}:plain"
    with pytest.raises(SpecificationError, match=r"my_policy\.py has another hash"):
        policy_here(played, {"my_policy.py": "0"}, "runs/a")
    with pytest.raises(SpecificationError, match="name it: --code"):
        policy_here(played.replace("speed=2", "speed=3"), recorded, "runs/a")


def test_only_the_name_of_a_spec_is_needed():
    assert PolicySpec("mine").robot == "any"
