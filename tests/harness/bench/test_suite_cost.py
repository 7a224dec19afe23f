from pathlib import Path

import pytest

from simloop.harness.bench import suite_cost
from simloop.harness.bench.suite_cost import run, sample_tasks
from simloop.harness.errors import SimloopError
from simloop.terminal import Terminal

ANSWERS = {"start": 2.0, "memory": [100.0, 110.0, 120.0, 130.0, 140.0], "steps": [8.0, "a"]}


def test_ten_tasks_of_five_scenes_of_libero_are_measured():
    tasks = sample_tasks("libero")
    assert len(set(tasks)) == 10
    assert tasks[0].startswith("KITCHEN_SCENE3")
    assert tasks[1].startswith("KITCHEN_SCENE3")


def test_ratios_to_the_other_checkout_and_differing_states_are_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
):
    there = tmp_path / ".venv" / "bin" / "python"
    there.parent.mkdir(parents=True)
    there.touch()
    other = {**ANSWERS, "start": 4.0, "steps": [16.0, "a"]}

    def probe(python: str, measure: str, *_: object) -> object:
        return (other if python == str(there) else ANSWERS)[measure]

    monkeypatch.setattr(suite_cost, "_probe", probe)
    assert run("metaworld", ["reach-v3", "push-v3"], 10, 2, tmp_path, Terminal()) == 0
    printed = capsys.readouterr().out
    assert "| start to first picture, processor s | 2 | 4 | 0.50 |" in printed
    assert "| and one of push-v3 | 140 | 140 | 1.00 |" in printed
    assert "states equal" in printed
    assert "| mean | 8 | 16 | 0.50 |" in printed
    other["steps"] = [16.0, "b"]
    assert run("metaworld", ["reach-v3"], 10, 1, tmp_path, Terminal()) == 1
    assert "states DIFFER" in capsys.readouterr().out


def test_a_folder_that_was_not_set_up_is_refused(tmp_path: Path):
    with pytest.raises(SimloopError, match="takes a checkout of simloop that was set up"):
        run("metaworld", [], 1, 1, tmp_path, Terminal())


@pytest.mark.slow
def test_measures_in_a_process_of_its_own(capsys: pytest.CaptureFixture):
    assert run("metaworld", ["reach-v3"], 2, 1, None, Terminal()) == 0
    assert "| unique memory with 4 of one task, MiB |" in capsys.readouterr().out
