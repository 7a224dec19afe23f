"""Instructions of LIBERO and LIBERO-PRO are those of the installed files, and the right one reaches the policy."""

import re

import pytest

from simloop.envs.interface import InstructionError
from simloop.envs.libero.tasks import GROUPS, PRO_GROUPS, PRO_TASKS, TASKS, task_files

SPECS = {task.name: task for task in (*TASKS, *PRO_TASKS)}


def written(task):
    """The sentence of a task's BDDL file, read without LIBERO's parser."""
    from simloop.envs.libero.package import BDDL_FILES

    folder, name = task_files(task)
    (sentence,) = re.findall(
        r"\(:language\s+([^()]*?)\s*\)", (BDDL_FILES / folder / f"{name}.bddl").read_text()
    )
    return sentence.lower()


def named(task):
    """The sentence that the name of a task's files spells."""
    words = task.rsplit("-", 1)[-1].split("_")
    scenes = [i for i, word in enumerate(words) if word.startswith("SCENE")]
    return " ".join(words[scenes[0] + 1 :] if scenes else words)


def test_libero_pro_has_ten_tasks_in_each_of_sixteen_groups():
    assert {group: len(tasks) for group, tasks in PRO_GROUPS.items()} == {
        f"{group}_{change}": 10
        for group in ("libero_spatial", "libero_object", "libero_goal", "libero_10")
        for change in ("lan", "object", "swap", "task")
    }
    assert len(SPECS) == 290


def test_instructions_are_those_of_both_files():
    pytest.importorskip("libero")
    for task, spec in SPECS.items():
        assert spec.instruction_from("bddl").text == written(task)
        assert spec.instruction_from("filename").text == named(task)


@pytest.mark.parametrize(
    ("group", "differing"),
    [("libero_spatial", 10), ("libero_object", 10), ("libero_goal", 5), ("libero_10", 0)],
)
def test_sentences_of_file_names_and_bddl_files_differ_as_often_as_published(group, differing):
    def count(tasks):
        return sum(len({one.text for one in SPECS[task].instructions}) == 2 for task in tasks)

    assert count(GROUPS[group]) == differing
    assert [count(PRO_GROUPS[f"{group}_{change}"]) for change in ("object", "swap")] == [differing, differing]
    assert [count(PRO_GROUPS[f"{group}_{change}"]) for change in ("lan", "task")] == [10, 10]


def test_another_wording_or_goal_is_told_and_unchanged_ones_keep_the_words_of_the_training_data():
    told = {"lan": "bddl", "task": "bddl", "object": "filename", "swap": "filename"}
    for task in PRO_TASKS:
        source, text = task.instruction_from()
        assert source == told[task.name.partition("-")[0].rpartition("_")[2]]
        assert text == task.instruction == task.instruction_from(source).text


def test_libero_keeps_the_sentence_of_the_file_name():
    assert {task.instruction_from().source for task in TASKS} == {"filename"}


def test_refuses_unknown_sources():
    with pytest.raises(InstructionError, match="instructions from suite, filename, bddl; got 'card'"):
        TASKS[0].instruction_from("card")
