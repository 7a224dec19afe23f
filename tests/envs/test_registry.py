"""Resolution of the names of suites, tasks and groups."""

import subprocess
import sys

import pytest

from simloop.envs.registry import UnknownNameError, resolve_tasks, suite, suites


def names(*written: str) -> list[str]:
    return [task.name for task in resolve_tasks("metaworld", written)]


def test_returns_every_suite_by_its_name():
    assert "metaworld" in suites()
    assert all(suite(name).name == name for name in suites())


def test_groups_contain_tasks_of_their_suite_without_repetition():
    for found in map(suite, suites()):
        tasks = {task.name for task in found.tasks()}
        assert found.default_group in found.groups()
        for members in found.groups().values():
            assert len(set(members)) == len(members) > 0
            assert set(members) <= tasks


def test_resolves_a_task_without_its_version():
    assert names("reach") == names("reach-v3") == ["reach-v3"]


def test_resolves_groups_and_tasks_in_order_without_repetition():
    hard = list(suite("metaworld").groups()["hard"])
    assert names("reach", "hard", "push-v3", "reach-v3") == ["reach-v3", *hard]


def test_resolves_no_names_to_the_default_group():
    assert names() == list(suite("metaworld").groups()["MT10"])


def test_suggests_the_likely_task_for_a_misspelt_one():
    with pytest.raises(UnknownNameError, match=r"'drawr-open'. Did you mean .*'drawer-open-v3'"):
        resolve_tasks("metaworld", ["drawr-open"])


def test_suggests_the_group_with_the_right_case():
    with pytest.raises(UnknownNameError, match=r"'mt10'. Did you mean .*'MT10'"):
        resolve_tasks("metaworld", ["mt10"])


def test_suggests_the_likely_suite_for_a_misspelt_one():
    with pytest.raises(UnknownNameError, match=r"no suite 'meta_world'. Did you mean 'metaworld'"):
        resolve_tasks("meta_world", ["reach"])


def test_lists_all_names_if_none_is_similar():
    with pytest.raises(UnknownNameError, match=r"There are: .*metaworld"):
        suite("qqqq")


def test_listing_tasks_imports_no_simulator():
    program = (
        "import sys; from simloop.envs.registry import *; "
        "[suite(s).tasks() for s in suites()]; print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert not {"mujoco", "metaworld", "gymnasium"} & set(loaded.split())
