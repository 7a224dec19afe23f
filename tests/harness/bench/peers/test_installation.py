"""Tools are installed once, from locked versions, or named with the reason why not."""

import hashlib
import re
import sys
from pathlib import Path

import pytest

from simloop.harness.bench.peers import installation
from simloop.harness.bench.peers.catalogue import PEERS
from simloop.harness.bench.peers.installation import InstallationError, python_of

PEER = PEERS["inspect-robots"]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands of installations, which are not executed."""
    run: list[list[str]] = []
    monkeypatch.setattr(installation, "_interpreter", lambda version: sys.executable)
    monkeypatch.setattr(installation, "_uv", lambda: "uv")
    return run


def _pretend(commands: list[list[str]], fail: bool = False):
    def run(command: list[str], folder: Path) -> None:
        commands.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(exist_ok=True)
            (Path(command[-1]) / "pyvenv.cfg").touch()
        elif fail:
            raise InstallationError("no space")

    return run


def test_a_tool_is_installed_with_hashes_and_only_once(commands, monkeypatch, tmp_path):
    monkeypatch.setattr(installation, "_run", _pretend(commands))
    assert python_of(PEER, tmp_path) == tmp_path / "inspect-robots" / "bin" / "python"
    assert commands[-1][-3:] == ["--require-hashes", "--requirement", str(PEER.lock)]
    count = len(commands)
    python_of(PEER, tmp_path)
    assert len(commands) == count


def test_an_unfinished_installation_and_one_of_other_versions_start_again(commands, monkeypatch, tmp_path):
    monkeypatch.setattr(installation, "_run", _pretend(commands, fail=True))
    for _ in range(2):
        with pytest.raises(InstallationError, match="no space"):
            python_of(PEER, tmp_path)
    assert len(commands) == 4
    (tmp_path / "inspect-robots" / installation.INSTALLED).write_text(hashlib.sha256(b"another").hexdigest())
    with pytest.raises(InstallationError):
        python_of(PEER, tmp_path)


def test_a_folder_that_is_no_environment_is_kept(commands, monkeypatch, tmp_path):
    monkeypatch.setattr(installation, "_run", _pretend(commands))
    kept = tmp_path / "inspect-robots" / "thesis.tex"
    kept.parent.mkdir()
    kept.touch()
    with pytest.raises(InstallationError, match="no virtual environment"):
        python_of(PEER, tmp_path)
    assert kept.exists()
    assert not commands


def test_a_version_of_python_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(installation, "_interpreters", lambda version: iter([sys.executable, "/no/python"]))
    monkeypatch.setattr(type(PEER), "python", "3.99")
    with pytest.raises(InstallationError, match=r"needs Python 3\.99"):
        python_of(PEER, tmp_path)


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS.keys())
def test_the_lock_of_a_tool_has_the_version_of_the_table_and_the_simulator_of_simloop(peer):
    locked = peer.lock.read_text()
    name = re.search(r"^([\w-]+)[\w\[\],-]*==", peer.lock.with_suffix(".in").read_text(), re.MULTILINE)[1]
    assert f"\n{name}=={peer.version} \\" in locked
    ours = (Path(__file__).parents[4] / "requirements.lock").read_text()
    for package in ("metaworld", "mujoco"):
        (version,) = re.findall(rf"^{package}==(\S+)", locked, re.MULTILINE)
        assert f"\n{package}=={version} \\" in ours
