"""Success rates by source of the instruction, in pairs."""

import pytest

from simloop.results.records.runs import load_runs
from simloop.results.statistics.paired import Pairs
from simloop.results.tables.options import TableOptions
from simloop.results.tables.prompt_table import prompt_scores
from simloop.results.tables.run_tables import render
from tests.helpers.run_folders import episodes, write_run

PROMPTS = TableOptions(only="prompts")
BASE = "libero_pro/libero-pro-v1"


@pytest.fixture
def runs(tmp_path):
    """A policy that fails without the sentence of another goal, and never without that of other places."""
    counts = {"": (8, 2), ", filename-prompt": (0, 10), ", bddl-prompt": (8, 2)}
    records = []
    for label, told in counts.items():
        for group, (won, lost) in {"libero_goal_task": told, "libero_goal_swap": (5, 5)}.items():
            task = f"{group}-turn_on_the_stove"
            records += episodes(
                won,
                lost,
                suite="libero_pro",
                policy="pi0",
                weights="trained",
                task=task,
                protocol=BASE + label,
            )
    return load_runs(write_run(tmp_path / "run", records))


def test_changes_are_paired_with_the_choice_of_the_suite_and_adjusted_together(runs):
    scores = {(score.tasks, score.source): score for score in prompt_scores(runs)}
    assert [key for key in scores if key[0] == "libero_goal_task"] == [
        ("libero_goal_task", source) for source in ("suite", "bddl", "filename")
    ]
    plain, untold = scores["libero_goal_task", "suite"], scores["libero_goal_task", "filename"]
    assert (plain.mean.rate, plain.change, plain.p_holm) == (0.8, None, None)
    assert untold.change.pairs == Pairs(both=0, only_b=8, neither=2)
    assert untold.change.difference == pytest.approx(-0.8)
    assert untold.p_holm == pytest.approx(4 * untold.change.p_value)
    assert scores["libero_goal_swap", "filename"].change.difference == 0


def test_the_table_shows_every_source_and_the_family(runs):
    text = render(runs, "terminal", PROMPTS)
    assert "Success in % by source of the instruction, protocol libero_pro/libero-pro-v1" in text
    assert "adjusted for the 4 changes" in text
    assert len(render(runs, "csv", PROMPTS).splitlines()) == 7


def test_runs_with_one_source_say_how_others_are_played(tmp_path):
    run = write_run(tmp_path / "run", episodes(1, 1))
    assert "--prompt-source" in render(run, "terminal", PROMPTS)
