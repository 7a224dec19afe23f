"""The distribution holds every package and data file, and works without the source tree."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("harness", "policies", "envs", "results")
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_pyproject_lists_every_package():
    found = {
        ".".join(("simloop", *init.parent.relative_to(ROOT).parts))
        for folder in FOLDERS
        for init in (ROOT / folder).rglob("__init__.py")
    }
    found = (found - {"simloop.harness.simloop"}) | {"simloop"}
    assert set(SETUPTOOLS["packages"]) == found
    assert SETUPTOOLS["packages"] == sorted(SETUPTOOLS["packages"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The contents of a wheel that setuptools builds from a copy of the source tree."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = f"from setuptools.build_meta import build_wheel; print(build_wheel({str(built)!r}))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (file,) = built.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(built / "unpacked")
    return built / "unpacked"


@pytest.mark.slow
def test_a_wheel_holds_all_modules_and_data(wheel):
    package = wheel / "simloop"
    source = {
        path.relative_to(ROOT)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.parts[-2] != "simloop"
    }
    missing = {path for path in source if not (package / path).is_file()}
    assert missing == set()
    assert (package / "py.typed").is_file()
    for data in (
        "policies/assets/metaworld/pi0-tiny/weights-00001-of-00001.safetensors",
        "envs/metaworld/golden/golden.json",
        "envs/libero/initial_states.json",
        "results/report/assets/page.css",
        "harness/experiments/demo.py",
    ):
        assert (package / data).is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--version"], "simloop 0."),
        (["list", "tasks"], "reach-v3"),
        (["list", "experiments"], "pi05_libero_goal"),
        (["list", "policies"], "pi0_fast-tiny"),
    ],
)
def test_commands_work_from_a_wheel_in_an_empty_folder(wheel, tmp_path, arguments, shown):
    program = (
        "import sys, simloop; assert simloop.__file__.startswith(sys.argv.pop(1)), simloop.__file__\n"
        "from simloop.harness.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(wheel), *arguments],
        env={**os.environ, "PYTHONPATH": str(wheel)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


def test_no_extra_asks_for_two_builds_of_opencv():
    """pip takes the one that robosuite names; `scripts/setup libero` leaves it out and takes `headless`."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [
        name for name, packages in extras.items() if any("opencv" in package for package in packages)
    ] == ["headless"]
    assert '" libero "*) set -- "$@" headless' in (ROOT / "scripts/setup").read_text()
