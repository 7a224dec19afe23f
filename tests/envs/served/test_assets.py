"""Assets that the packages of a served suite do not contain are named with size, place and source."""

import sys

import pytest

from simloop.envs import registry
from simloop.envs.interface import RenderSettings, SuiteNotInstalledError
from simloop.envs.served.assets import Assets, missing, package_folder
from simloop.envs.served.suite import ServedSuite


class Kitchens(ServedSuite):
    name = "kitchens"
    needed = ("numpy",)
    interpreter = sys.executable
    file = __file__
    table = registry.suite("robocasa").table
    default_group = "all"
    folder = None

    def groups(self):
        return {"all": tuple(self.table)}

    def assets(self):
        return [
            Assets(self.folder / part, part, "10 GB", "example.org/assets", "-m kitchens.download")
            for part in ("textures", "objects")
        ]


def test_a_suite_without_its_assets_says_what_how_large_where_from_and_how(tmp_path):
    suite = Kitchens()
    suite.folder = tmp_path
    (tmp_path / "textures").mkdir()
    assert not suite.is_installed()
    with pytest.raises(SuiteNotInstalledError) as error:
        suite.make("OpenStandMixerHead", RenderSettings())
    assert str(error.value) == (
        "Suite 'kitchens' needs assets that its packages do not contain: objects (10 GB) from example.org/assets in "
        f"{tmp_path}/objects. Download them with: {sys.executable} -m kitchens.download"
    )
    (tmp_path / "objects").mkdir()
    assert suite.is_installed()
    assert missing(suite.assets(), suite.name, suite.interpreter) == ""


def test_folders_of_packages_are_found_without_importing_them():
    folder = package_folder(sys.executable, "numpy")
    assert (folder / "__init__.py").is_file()
    assert not package_folder(sys.executable, "no_such_package").is_dir()


def test_the_bridge_tasks_share_the_interpreter_of_maniskill_and_need_two_downloads(monkeypatch, tmp_path):
    suite, maniskill = registry.suite("simpler_bridge"), registry.suite("maniskill")
    assert suite.interpreter == maniskill.interpreter
    monkeypatch.setenv("MS_ASSET_DIR", str(tmp_path))
    sentence = missing(suite.assets(), suite.name, suite.interpreter)
    assert "(82 MB) from huggingface.co/datasets/haosulab/ManiSkill_bridge_v2_real2sim" in sentence
    for asset in ("bridge_v2_real2sim", "widowx250s"):
        assert f"{suite.interpreter} -m mani_skill.utils.download_asset {asset}" in sentence
