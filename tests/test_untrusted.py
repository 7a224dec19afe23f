"""The guards of everything that comes from elsewhere."""

import ast
import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
from rich.table import Table

import simloop
from simloop.harness import commands
from simloop.terminal import Terminal
from simloop.untrusted import (
    MAX_JSON_DEPTH,
    UntrustedInputError,
    arrays_from_npz,
    inside,
    parse_json,
    printable,
    read_bytes,
    read_json_object,
    read_toml,
    require_links_inside,
)


@pytest.mark.parametrize("name", ["a", "a/b.mp4", "a b/[c].mp4", "loop-free", "inner/file"])
def test_paths_inside_a_folder_are_taken(tmp_path, name):
    folder, link = tmp_path / "folder", tmp_path / "link"
    (folder / "real").mkdir(parents=True)
    (folder / "inner").symlink_to("real")
    link.symlink_to(folder)
    assert inside(folder, name) == folder / name
    assert inside(link, name) == link / name, "the folder itself may be a link"


@pytest.mark.parametrize(
    "name", ["", ".", "/", "/a", "..", "a/../../b", "a\0b", "out/a", "out", "loop", "a" * 5000]
)
def test_paths_that_leave_a_folder_are_refused(tmp_path, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    (folder / "loop").symlink_to("loop")
    with pytest.raises(UntrustedInputError, match=r"folder"):
        inside(folder, name)


def test_links_that_leave_a_folder_are_refused_wherever_they_are(tmp_path):
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "stays").symlink_to("../deep")
    require_links_inside(tmp_path / "folder")
    (tmp_path / "folder" / "deep" / "leaves").symlink_to("../../elsewhere")
    with pytest.raises(UntrustedInputError, match="deep/leaves is, or lies behind, a symbolic link"):
        require_links_inside(tmp_path / "folder")


def test_snapshots_of_a_cache_of_hugging_face_may_link_to_its_blobs(tmp_path):
    for name in ("blobs", "snapshots/1"):
        (tmp_path / "models--a--b" / name).mkdir(parents=True)
    snapshot = tmp_path / "models--a--b" / "snapshots" / "1"
    (snapshot / "model.safetensors").symlink_to("../../blobs/abc")
    require_links_inside(snapshot)
    (snapshot / "config.json").symlink_to("../../../secret")
    with pytest.raises(UntrustedInputError, match="leaves its folder"):
        require_links_inside(snapshot)


def test_only_regular_files_of_bounded_size_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert read_bytes(tmp_path / "file", 5) == b"12345"
    with pytest.raises(UntrustedInputError, match="larger than 4 bytes"):
        read_bytes(tmp_path / "file", 4)
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "sparse", "wb") as sparse:
        sparse.truncate(1 << 40)
    for name, said in (("pipe", "no regular file"), ("absent", "No such file"), ("sparse", "larger than")):
        with pytest.raises(UntrustedInputError, match=said):
            read_bytes(tmp_path / name, 1000)
    with pytest.raises(UntrustedInputError, match=r"no regular file|Is a directory"):
        read_bytes(tmp_path, 1000)


def test_a_pointer_of_git_lfs_is_called_by_its_name(tmp_path):
    pointer = tmp_path / "model.safetensors"
    pointer.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123456\n")
    with pytest.raises(UntrustedInputError, match=r"model\.safetensors is a Git LFS pointer .*git lfs pull"):
        read_bytes(pointer, 1000)


def test_json_of_bounded_depth_is_parsed():
    deepest = "[" * MAX_JSON_DEPTH + "]" * MAX_JSON_DEPTH
    assert parse_json(deepest, "text")
    assert parse_json(f'["{"[" * 500}"]', "text") == ["[" * 500], "brackets in texts do not count"
    for text in (f"[{deepest}]", "[" * 10**6, '{"a":' * 10**5, "", "[1,", b"\xff", "1" * 10**5):
        with pytest.raises(UntrustedInputError, match=r"text is not JSON: .*Restore"):
            parse_json(text, "text", remedy="Restore it.")


def test_a_json_object_is_one(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(UntrustedInputError, match=r"a\.json: wanted a JSON object; got a list"):
        read_json_object(tmp_path / "a.json")


@pytest.mark.parametrize("content", [b"a = ", b"a = " + b"[" * 5000, b"\xff", b"a = 1\na = 2"])
def test_text_that_is_no_toml_is_refused(tmp_path, content):
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(UntrustedInputError, match=r"a\.toml is no TOML"):
        read_toml(tmp_path / "a.toml")


def archive(save=np.savez, **arrays) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def test_archives_grow_not_beyond_their_size_and_hold_no_pickles():
    assert arrays_from_npz(archive(a=np.arange(3)))["a"].tolist() == [0, 1, 2]
    grown = archive(np.savez_compressed, a=np.zeros(10**6))
    assert len(arrays_from_npz(grown, limit=9 * 10**6)["a"]) == 10**6
    with pytest.raises(ValueError, match="more than 1000000 bytes"):
        arrays_from_npz(grown, limit=10**6)
    for content, said in (
        (grown, "compressed"),
        (archive(a=np.array([{}], dtype=object)), "pickle"),
        (b"PK", "not an uncompressed NumPy archive"),
    ):
        with pytest.raises(ValueError, match=said):
            arrays_from_npz(content)


READERS = {
    "json.load",
    "json.loads",
    "tomllib.load",
    "tomllib.loads",
    "pickle.load",
    "pickle.loads",
    "np.load",
    "open",
}
OWN = {
    "harness/bench": "output of its own processes",
    "harness/commands/debug.py": "a script of the user, which may be a pipe",
    "harness/bench/peers": "files of the package, and of processes that it started",
    "harness/demonstrations/collect.py": "its own settings",
    "harness/engine/checkpoint_transfer.py": "streams files of any size",
    "harness/engine/private_ray.py": "writes",
    "harness/machine.py": "files of the kernel",
    "harness/parity/comparison.py": "recordings of any size, without pickles",
    "harness/planning/experiment.py": "its own settings",
    "harness/planning/source_code.py": "its own copies",
    "harness/recording/edited_files.py": "installed packages",
    "harness/recording/provenance.py": "the checkout of simloop",
    "harness/serving/shm_channel.py": "messages of the same user's processes",
    "harness/serving/shm_server.py": "messages of the same user's processes",
    "harness/simloop/untrusted.py": "the guard",
    "policies/checkpoints/peft.py": "writes into its own copy",
    "policies/training/config.py": "its own settings",
    "policies/training/prepared.py": "arrays of any size, without pickles",
    "envs/served": "messages of its own processes",
    "envs/golden.py": "files of the package",
    "envs/libero": "files of packages",
    "envs/libero_plus/variants.py": "files of the package",
    "envs/model_cache.py": "its own cache",
    "results/records/ledger.py": "cuts the end of its own file",
    "results/report": "files of the package",
}
"""Modules and packages that read without the guards, with what they read."""


def unguarded(module: Path) -> list[str]:
    """Calls that read or parse a file without a size limit."""
    found, text = [], module.read_text()
    if not re.search(r"\.read_(text|bytes)\(|(json|tomllib|pickle|np)\.load|\bopen\(", text):
        return []
    for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        modes = [str(a.value) for a in call.args if isinstance(a, ast.Constant)]
        if (
            name in READERS
            or method in ("read_text", "read_bytes")
            or (method == "open" and any(mode.startswith("r") for mode in modes))
        ):
            found.append(f"line {call.lineno}: {name}")
    return found


def test_files_are_read_through_the_guards():
    root = Path(simloop.__file__).parents[2]
    modules = {
        file.relative_to(root).as_posix(): found
        for package in ("envs", "harness", "policies", "results")
        for file in sorted((root / package).rglob("*.py"))
        if (found := unguarded(file))
    }
    exempt = {name for name in modules if {name, str(Path(name).parent)} & OWN.keys()}
    assert {name: modules[name] for name in modules.keys() - exempt} == {}
    used = {own for own in OWN if any(own in (name, str(Path(name).parent)) for name in exempt)}
    assert used == OWN.keys(), "exempt modules that read nothing unguarded any more"


def test_control_characters_are_shown_as_codes():
    assert printable("a\x1b[31m\u202e\udc80\n\tä") == "a\\x1b[31m\\u202e\\udc80\n\tä"


def test_the_terminal_shows_names_as_they_are(capsys):
    table = Table("policy")
    name = "[bold]a[/bold] [/] :smile: \x1b[31m"
    table.add_row(name)
    terminal = Terminal()
    terminal.print(name)
    terminal.print(table)
    shown = "[bold]a[/bold] [/] :smile: \\x1b[31m"
    assert capsys.readouterr().out.count(shown) == 2


def test_no_command_prints_on_another_console():
    files = sorted(Path(commands.__file__).parent.glob("*.py"))
    assert not [
        file.name for file in files if re.search(r"rich\.console import[^\0]*\bConsole\(", file.read_text())
    ]
