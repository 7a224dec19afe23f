"""Failed episodes of run folders are diagnosed from whatever records there are."""

import dataclasses

import pytest

from simloop.results.diagnosis import diagnose
from simloop.results.endings import NO_RECORDS
from simloop.results.errors import ResultsError
from simloop.results.records.fork_labels import fork_label
from simloop.results.records.paths import step_records_path
from simloop.results.tables.diagnosis_table import diagnosis_grids, moment_grid
from simloop.results.tables.typesetting import to_text
from tests.helpers.run_folders import EPISODE, episodes, failed, write_run
from tests.helpers.scripted_records import recorded


def write_steps(run, episode, scenes):
    path = run / step_records_path(episode.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(recorded(scenes, episode=episode).to_bytes())
    return path


@pytest.fixture
def played():
    return [
        *episodes(1, 3, 1, policy="pi", task="lift-v3"),
        *episodes(1, 1, policy="pi", task="push-v3"),
        *episodes(2, policy="expert", task="push-v3"),
    ]


@pytest.fixture
def run(tmp_path, played):
    folder = write_run(tmp_path / "demo", played)
    for episode, scenes in zip(
        played, ["..hL", "..hL.", "...tt", None, None, "..t.", "..t.", ".tt.", None], strict=True
    ):
        if scenes:
            write_steps(folder, episode, scenes)
    return folder


def test_every_failed_episode_has_an_ending_with_the_query_at_which_it_happened(run):
    found = [(f.name, f.ending, f.query) for f in diagnose(run).failures]
    assert found == [
        ("pi/lift-v3/1", "lifted, dropped", 1),
        ("pi/lift-v3/2", "touched, not lifted", 1),
        ("pi/lift-v3/3", NO_RECORDS, None),
        ("pi/push-v3/1", "other", None),
    ]


def test_tables_rank_tasks_and_show_the_share_of_other(run):
    tasks, endings = map(to_text, diagnosis_grids(diagnose(run)))
    assert tasks.index("lift-v3") < tasks.index("push-v3")
    assert "75.0 (3/4)" in tasks
    assert "1 episodes that ended in an error" in tasks
    assert "25.0 [4.6, 69.9] 1/4" in next(line for line in endings.splitlines() if "other" in line)
    assert "1 of 4 failed episodes have no step records" in endings
    assert "Not applied to push-v3, whose successes show the same: touched, not lifted." in endings


def test_policy_and_task_choose_episodes(run):
    assert [f.name for f in diagnose(run, "pi", "push-v3").failures] == ["pi/push-v3/1"]
    (tasks,) = diagnosis_grids(diagnose(run, "expert"))
    assert "expert" in to_text(tasks)
    with pytest.raises(
        ResultsError, match=r"no finished episode of these. It has policies: expert, pi; tasks: lift-v3"
    ):
        diagnose(run, "other")


def test_damaged_records_are_named_and_the_rest_is_shown(run, played):
    path = write_steps(run, played[1], "..hL.")
    path.write_bytes(path.read_bytes()[:100])
    found = diagnose(run)
    assert [f.ending for f in found.failures] == [NO_RECORDS, "touched, not lifted", NO_RECORDS, "other"]
    assert str(path) in "".join(to_text(diagnosis_grids(found)[1]).split())  # Lines are wrapped.


def test_episodes_of_one_number_in_two_protocols_have_their_full_names(tmp_path):
    twice = [failed(EPISODE), dataclasses.replace(failed(EPISODE), protocol="metaworld/other-v1")]
    names = [f.name for f in diagnose(write_run(tmp_path / "run", twice)).failures]
    assert names == [
        "expert/metaworld/metaworld/default-v1/reach-v3/0",
        "expert/metaworld/metaworld/other-v1/reach-v3/0",
    ]


def test_forks_name_the_moments_at_which_success_is_lost(run):
    def forks(source, query, successes):
        label = fork_label("metaworld/default-v1", source, query, "")
        return episodes(successes, 4 - successes, policy="pi", protocol=label, task=source.split("/")[1])

    write_run(run / "forks" / "a", forks("pi/lift-v3/1", 0, 4) + forks("pi/lift-v3/1", 5, 3))
    write_run(run / "forks" / "b", forks("pi/push-v3/1", 0, 4) + forks("pi/push-v3/1", 7, 0))
    text = to_text(moment_grid(run))
    assert text.index("pi/push-v3/1") < text.index("pi/lift-v3/1")
    assert "0–7" in text
    assert "lift" not in to_text(moment_grid(run, task="push-v3"))
    assert moment_grid(run, policy="other") is None


def test_forks_that_cannot_be_read_are_named(run):
    write_run(run / "forks" / "a", [EPISODE])
    assert str(run / "forks" / "a") in " ".join(to_text(moment_grid(run)).split())
