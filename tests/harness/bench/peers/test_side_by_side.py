"""Tools play the same episodes; what they cost stands in one table, and what fails stands there with the reason."""

import sys

import pytest

from simloop.harness.bench.peers import side_by_side
from simloop.harness.bench.peers.installation import InstallationError
from simloop.harness.bench.peers.side_by_side import NotPlayed, Played, play, run
from simloop.harness.bench.process_tree import CommandCosts, TreeCost
from simloop.harness.errors import SimloopError
from simloop.terminal import Terminal

PLAYED = Played(CommandCosts(TreeCost(2.0, 5.0, 100.0), TreeCost(4.0, 25.0, 300.0), 0), 201, 402, 20_100_000)


def test_costs_stand_per_thousand_steps_after_the_first(monkeypatch, capsys):
    monkeypatch.setattr(side_by_side, "_play", lambda *_: PLAYED)
    assert run(["vla-eval"], ["reach-v3"], 201, None, Terminal()) == 0
    assert "| vla-eval 0.8.0 | 2 | 201 | 100.0 | 5.0 | 2000 | 100.0 | 300 | 4.0 |" in capsys.readouterr().out


def test_a_tool_that_does_not_install_is_named_and_the_others_are_measured(monkeypatch, capsys):
    def measure(name: str, *_: object) -> Played:
        if name == "lerobot-eval":
            raise InstallationError("needs Python 3.12")
        return PLAYED

    monkeypatch.setattr(side_by_side, "_play", measure)
    assert run(["lerobot-eval", "simloop"], ["reach-v3"], 100, None, Terminal()) == 1
    printed = capsys.readouterr().out
    assert "not measured: needs Python 3.12" in printed
    assert "| simloop " in printed


def test_steps_beyond_the_end_of_an_episode_are_refused():
    with pytest.raises(SimloopError, match="2 to 500"):
        run(["simloop"], ["reach-v3"], 501, None, Terminal())


def test_steps_and_images_of_any_program_are_counted_until_its_end(tmp_path):
    package, counts = tmp_path / "metaworld", tmp_path / "counts"
    package.mkdir()
    counts.mkdir()
    (package / "__init__.py").touch()
    (package / "sawyer_xyz_env.py").write_text("class SawyerXYZEnv:\n    def step(self, action): pass\n")
    script = (
        f"import os, sys; assert os.environ['PYTHONPATH'].endswith('drivers'); sys.path.insert(0, {str(tmp_path)!r})\n"
        "from metaworld.sawyer_xyz_env import SawyerXYZEnv\nfor _ in range(3): SawyerXYZEnv().step(0)"
    )
    played = play([sys.executable, "-c", script], counts, own=False)
    assert (played.steps, played.images, played.moved_bytes) == (3, 0, 0)
    assert played.costs.whole.processor_s >= played.costs.until_event.processor_s > 0


def test_a_tool_that_fails_is_quoted(tmp_path):
    with pytest.raises(NotPlayed, match="exit status 1 after 0 control steps: no such task"):
        play([sys.executable, "-c", "raise SystemExit('no such task')"], tmp_path, own=False)


@pytest.mark.slow
def test_simloop_draws_each_camera_once_per_chunk_and_moves_the_image_once(tmp_path, capsys):
    assert run(["simloop", "simloop.evaluate"], ["reach-v3"], 20, tmp_path, Terminal()) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| simloop")]
    for row, moved in zip(rows, ("30.1", "0.0"), strict=True):
        _, cameras, steps, _, _, _, moved_mb, *_ = (cell.strip() for cell in row.strip("|").split("|"))
        assert (cameras, steps, moved_mb) == ("2", "20", moved)
