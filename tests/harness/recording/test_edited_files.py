"""Edited files of installed distributions are found."""

import base64
import hashlib
import importlib
import os
import time

import pytest

from simloop.harness.recording.edited_files import edited_files

CONTENTS = {
    "scenes/__init__.py": b"GRAVITY = 9.81",
    "scenes/table.stl": b"solid table",
    "scenes/arm.xml": b"<arm/>",
}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution `scenes` in a folder of the search path."""
    rows = []
    for name, content in CONTENTS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(content)}")
    information = tmp_path / "scenes-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: scenes\nVersion: 1.0\n")
    (information / "RECORD").write_text("\n".join([*rows, "scenes-1.0.dist-info/RECORD,,"]) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return tmp_path


def test_an_untouched_distribution_and_an_absent_one_have_no_edited_files(installed):
    assert edited_files(["scenes", "absent"]) == {}


def test_a_source_of_the_same_size_and_age_is_found(installed):
    source = installed / "scenes" / "__init__.py"
    times = source.stat()
    source.write_bytes(b"GRAVITY = 1.62")
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    digest = hashlib.sha256(b"GRAVITY = 1.62").hexdigest()[:16]
    assert edited_files(["scenes"]) == {"scenes": {"scenes/__init__.py": digest}}


@pytest.mark.parametrize("content", [b"solid other", b"solid chair of another size"])
def test_another_file_is_found_by_its_size_or_its_age(installed, content):
    mesh = installed / "scenes" / "table.stl"
    mesh.write_bytes(content)
    os.utime(mesh, (time.time() + 60,) * 2)
    assert edited_files(["scenes"]) == {
        "scenes": {"scenes/table.stl": hashlib.sha256(content).hexdigest()[:16]}
    }


def test_a_file_that_was_only_copied_is_not_edited(installed):
    os.utime(installed / "scenes" / "table.stl", (time.time() + 60,) * 2)
    assert edited_files(["scenes"]) == {}


def test_a_missing_file_is_found(installed):
    (installed / "scenes" / "arm.xml").unlink()
    assert edited_files(["scenes"]) == {"scenes": {"scenes/arm.xml": "missing"}}
