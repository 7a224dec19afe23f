"""Names that people write, and the tasks that they mean."""

import subprocess
import sys

import pytest

from simloop.envs.registry import UnknownNameError, resolve_tasks, suite, suites


def names(*written: str) -> list[str]:
    return [task.name for task in resolve_tasks("metaworld", written)]


def test_every_suite_can_be_had_by_its_name():
    assert "metaworld" in suites()
    assert all(suite(name).name == name for name in suites())


def test_every_group_holds_tasks_of_its_suite_without_repetition():
    for found in map(suite, suites()):
        tasks = {task.name for task in found.tasks()}
        assert found.default_group in found.groups()
        for members in found.groups().values():
            assert len(set(members)) == len(members) > 0
            assert set(members) <= tasks


def test_a_task_needs_no_version():
    assert names("reach") == names("reach-v3") == ["reach-v3"]


def test_groups_and_tasks_mix_in_the_order_written_and_count_once():
    hard = list(suite("metaworld").groups()["hard"])
    assert names("reach", "hard", "push-v3", "reach-v3") == ["reach-v3", *hard]


def test_without_names_the_default_group_is_meant():
    assert names() == list(suite("metaworld").groups()["MT10"])


def test_a_misspelt_task_is_answered_with_the_likely_one():
    with pytest.raises(UnknownNameError, match=r"'drawr-open'. Did you mean .*'drawer-open-v3'"):
        resolve_tasks("metaworld", ["drawr-open"])


def test_a_group_in_another_case_is_answered_with_the_right_one():
    with pytest.raises(UnknownNameError, match=r"'mt10'. Did you mean .*'MT10'"):
        resolve_tasks("metaworld", ["mt10"])


def test_a_misspelt_suite_is_answered_with_the_likely_one():
    with pytest.raises(UnknownNameError, match=r"no suite 'meta_world'. Did you mean 'metaworld'"):
        resolve_tasks("meta_world", ["reach"])


def test_a_name_like_no_other_is_answered_with_all_there_are():
    with pytest.raises(UnknownNameError, match=r"There are: .*metaworld"):
        suite("qqqq")


def test_listing_tasks_imports_no_simulator():
    program = "import sys; from simloop.envs.registry import *; [suite(s).tasks() for s in suites()]; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert not {"mujoco", "metaworld", "gymnasium"} & set(loaded.split())
