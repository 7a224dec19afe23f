from pathlib import Path

import numpy as np
import pytest

from simloop.harness.errors import SpecificationError
from simloop.harness.experiment_file import read_experiments
from simloop.harness.planning.policy_names import parse
from simloop.harness.remote.child import MANIFEST, ManifestError, read_manifest
from simloop.policies.interface import Query

MANIFEST_TEXT = 'command = ["server.py", "--port", "{port}"]\nprotocol = "openpi"\nrobot = "libero"\n'


def test_a_server_is_named_by_its_address_and_robot():
    named = parse("mine=openpi://localhost:8000?robot=libero&connections=4&timeout=5")

    assert named.name == "mine"
    assert named.spec().robot == "libero"
    assert named.spec().weights == "unknown"
    assert named.spec().cameras == ("base_0_rgb", "left_wrist_0_rgb")
    assert named.source.connections == 4
    assert named.source.deadlines.answer_s == 5


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("openpi://localhost?robot=libero", r"named openpi://HOST:PORT\?robot=ROBOT"),
        ("openpi://localhost:99999?robot=libero", r"named openpi://HOST:PORT"),
        ("openpi://localhost:8000", r"Add \?robot= with one of libero, droid, aloha"),
        ("openpi://localhost:8000?robot=panda", r"with one of libero"),
        ("vla-eval://localhost:8000?robot=libero&conections=3", "takes the arguments .*got conections"),
        ("openpi://localhost:8000?robot=libero&connections=0", "a number from 1 to 256; got '0'"),
        ("openpi://localhost:8000?robot=libero&timeout=never", "timeout= takes seconds above 0; got 'never'"),
    ],
)
def test_a_specification_that_names_no_server_says_how_to_write_it(written, message):
    with pytest.raises(SpecificationError, match=message):
        parse(written)


def test_a_folder_with_a_manifest_is_a_policy_of_its_robot(tmp_path: Path):
    (tmp_path / MANIFEST).write_text(MANIFEST_TEXT)
    (tmp_path / "server.py").write_text("")
    named = parse(f"process:{tmp_path}?python=/bin/sh")

    assert named.spec().robot == "libero"
    assert named.source.interpreter == ("/bin/sh",)
    assert named.source.fingerprint().keys() == {MANIFEST, "server.py"}


ROBOT = """
[robots.pusher]
state = { "arm" = 3, "gripper" = 1 }
action_size = 4
cameras = { corner2 = "picture" }
"""


def test_a_table_describes_what_a_server_expects(tmp_path: Path):
    file = tmp_path / "mine.toml"
    file.write_text(ROBOT)
    named = parse(f"mine=openpi://localhost:8000?robot={file}:pusher")
    spec = named.spec()
    assert (spec.robot, spec.cameras, spec.state_size, spec.action_size) == ("any", ("corner2",), 4, 4)
    image = np.zeros((8, 8, 3), np.uint8)
    query = Query("reach", "wave", 1, np.arange(4, dtype=np.float32), {"corner2": image})
    sent = named.source.robot.observation(query, None)
    assert sent["prompt"] == "wave"
    assert sent["picture"] is image
    assert (sent["arm"].tolist(), sent["gripper"].tolist()) == ([0.0, 1.0, 2.0], [3.0])
    with pytest.raises(SpecificationError, match=r"has no \[robots.puller\]; it has pusher"):
        parse(f"openpi://localhost:8000?robot={file}:puller")
    file.write_text(ROBOT.replace("action_size", "actions"))
    with pytest.raises(
        SpecificationError, match=r"cannot be read: pusher.action_size: Field required; .*actions"
    ):
        parse(f"openpi://localhost:8000?robot={file}:pusher")


def test_an_experiment_file_names_the_tables_of_robots_relative_to_itself(tmp_path: Path):
    (tmp_path / "mine.toml").write_text(
        'policies = ["mine=openpi://localhost:8000?robot=mine.toml:pusher&timeout=5"]\n' + ROBOT
    )
    (part,) = read_experiments(tmp_path / "mine.toml")
    assert part.experiment.policies == (
        f"mine=openpi://localhost:8000?robot={tmp_path}/mine.toml:pusher&timeout=5",
    )
    assert part.experiment.policy_specs()["mine"].cameras == ("corner2",)


def test_an_interpreter_that_does_not_exist_is_named(tmp_path: Path):
    (tmp_path / MANIFEST).write_text(MANIFEST_TEXT)
    with pytest.raises(SpecificationError, match=r"There is no interpreter .*\.venv/bin/python"):
        parse(f"process:{tmp_path}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no simloop-policy.toml"),
        ("command = [", "is no TOML"),
        (MANIFEST_TEXT + "port = 1\n", "got port"),
        (MANIFEST_TEXT.replace('["server.py", "--port", "{port}"]', '"server.py"'), "command must be a list"),
        (MANIFEST_TEXT.replace("openpi", "grpc"), "protocol must be one of openpi, vla-eval; got 'grpc'"),
        (MANIFEST_TEXT.replace("libero", "panda"), "Add .robot= with one of libero.*; got 'panda'"),
        (MANIFEST_TEXT + "start_s = -1\n", "start_s must be a number of seconds above 0; got -1"),
    ],
)
def test_a_manifest_that_cannot_be_used_says_what_is_wrong(tmp_path: Path, text, message):
    if text is not None:
        (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ManifestError, match=message):
        read_manifest(tmp_path)
