from pathlib import Path

import pytest

from simloop.harness.errors import SpecificationError
from simloop.harness.planning.policy_names import parse
from simloop.harness.remote.child import MANIFEST, ManifestError, read_manifest

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
        (MANIFEST_TEXT.replace("libero", "panda"), "robot must be one of libero.*; got 'panda'"),
        (MANIFEST_TEXT + "start_s = -1\n", "start_s must be a number of seconds above 0; got -1"),
    ],
)
def test_a_manifest_that_cannot_be_used_says_what_is_wrong(tmp_path: Path, text, message):
    if text is not None:
        (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ManifestError, match=message):
        read_manifest(tmp_path)
