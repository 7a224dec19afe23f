"""The command line: what a person mistypes is answered in a sentence, before anything is started."""

import errno
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from simloop.envs import registry
from simloop.harness import cli
from simloop.harness.commands.options import INTERRUPTED, MISUSED, interrupted
from simloop.harness.commands.run import _print_result
from simloop.harness.planning.policy_names import UnknownPolicyError, parse
from simloop.harness.run import RunResult
from simloop.results.records.ledger import TornTail, decode_line
from simloop.terminal import Terminal
from tests.helpers.run_folders import episodes, write_run

SIMLOOP = [sys.executable, "-c", "from simloop.harness.cli import main; main()"]


@pytest.fixture
def simloop(monkeypatch, capsys):
    """Runs a command in this process; returns its exit status and what it printed."""

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["simloop", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out + printed.err

    return call


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--policies", "exprt"], ["no policy 'exprt'", "Did you mean 'expert'"]),
        (["--policies", "expert", "--tasks", "reech-v3"], ["reech-v3", "reach-v3"]),
        (["--policies", "expert", "--tasks", "MT11"], ["MT11", "MT10"]),
        (["--policies", "expert", "--suite", "metawrld"], ["metawrld", "metaworld"]),
        (["--policies", "expert", "--episodes", "0"], ["--episodes must be at least 1; got 0"]),
        (["--policies", "expert", "expert"], ["expert twice"]),
        (["--policies", "pi0-tiny@/no/such/folder"], ["/no/such/folder", "does not exist"]),
        (["--policies", "expert@/"], ["'expert' takes no checkpoint"]),
        (["--policies", "expert", "--env-actors", "0"], ["--env-actors must be at least 1; got 0"]),
        (["--policies", "expert", "--video-every", "0"], ["--video-every must be at least 1; got 0"]),
        (
            ["--policies", "expert", "--kernels", "fast"],
            ["--kernels: Kernels are given as OPERATION=IMPL", "'fast'"],
        ),
        (
            ["--policies", "expert", "--kernels", "image_attention=cuda"],
            ["computed by xla, cudnn, tokamax", "'cuda'"],
        ),
        (["--policies", "expert", "--replan-steps", "0"], ["replan_steps must be at least 1; got 0"]),
        (["--policies", "expert", "--max-steps", "0"], ["max_steps must be at least 1; got 0"]),
        (
            ["expert", "--perturb", "camera-nose=0.1"],
            ["'camera-nose'", "camera-dark, camera-noise"],
        ),
        (["demoo"], ["no experiment 'demoo'", "Did you mean 'demo'"]),
        ([], ["Nothing to run"]),
        (["expert", "random", "hold", "--until-decided"], ["compares two policies; got 3"]),
        (["expert", "random", "--until-decided", "--alpha", "2"], ["alpha and margin in (0, 1)"]),
        (["expert", "random", "--margin", "0.1"], ["belong to --until-decided"]),
        (["expert", "random", "--policies", "hold"], ["named twice"]),
        (["--policies", "pi0_libero"], ["pi0_libero", "'libero'", "metaworld"]),
        (
            ["--policies", "expert", "--suite", "libero"],
            ["'metaworld'", "suite 'libero' has adapters for 'libero'"],
        ),
        (["pi05_libero_goal"], ["pi05_libero", "trained weights"]),
        (["pi05_libero_goal", "--checkpoint", "/no/such/folder"], ["/no/such/folder", "does not exist"]),
        (["demo", "--checkpoint", "/"], ["3 that could be meant (pi0-tiny, pi05-tiny, pi0_fast-tiny)"]),
        (["demo", "--limit", "0"], ["--limit must be at least 1; got 0"]),
        (["expert", "random", "--limit", "3", "--until-decided"], ["cannot be combined"]),
        (["demo", "--protocol", "openpi-v1"], ["no protocol 'openpi-v1'", "default-v1, alam-v1, lerobot-v1"]),
        (["expert", "reach"], ["'reach' names tasks of metaworld", "simloop run expert --tasks reach"]),
        (["MT10"], ["'MT10' names tasks of metaworld", "simloop run expert --tasks MT10"]),
        (["pi0-tiny@docs"], ["docs is not a checkpoint; it contains", "Known formats are"]),
        (
            ["pi0-tiny@policies/assets/metaworld/pi05-tiny"],
            ["written for preset 'pi05-tiny'; got 'pi0-tiny'"],
        ),
        (["expert", "--watch", "tensorbord"], ["takes tensorboard, wandb, prometheus", "'tensorbord'"]),
        (["expert", "--episdes", "3"], ["--episodes"]),
    ],
)
def test_what_is_mistyped_is_said_with_what_to_do(simloop, tmp_path, arguments, wanted):
    status, printed = simloop("run", *arguments, "--out", tmp_path / "run")
    assert status == MISUSED
    assert "Traceback" not in printed
    assert all(text in printed for text in wanted), printed
    assert not (tmp_path / "run").exists(), "nothing was started"


def test_a_preset_without_weights_says_where_they_are():
    with pytest.raises(UnknownPolicyError, match=r"published at gs://.*pi0_libero@FOLDER"):
        parse("pi0_libero").require_weights()
    parse("pi0-tiny").require_weights()
    parse("expert").require_weights()
    parse("pi0_libero@random").require_weights()


def test_names_say_whether_weights_are_trained():
    assert [parse(name).spec().weights for name in ("expert", "pi0-tiny", "pi0-tiny@random")] == [
        "scripted",
        "trained",
        "untrained",
    ]


def test_an_unwritable_folder_is_refused(simloop, tmp_path):
    (tmp_path / "file").touch()
    status, printed = simloop(
        "run", "--policies", "hold", "--tasks", "reach-v3", "--out", tmp_path / "file" / "run"
    )
    assert status == MISUSED
    assert "Cannot write to the run folder" in printed


def test_a_table_of_what_is_no_run_is_refused(simloop, tmp_path):
    status, printed = simloop("table", tmp_path / "nothing")
    assert status == MISUSED
    assert str(tmp_path / "nothing") in printed


@pytest.mark.parametrize(
    ("what", "wanted"),
    [
        ("suites", ["metaworld", "MT10 (10)", "MT50 (50)"]),
        ("tasks", ["reach-v3", "window-open-v3", "MT10, MT50"]),
        ("policies", ["expert", "pi0-tiny", "pi05-tiny", "pi0_fast-tiny", "pi05_libero", "trained"]),
        ("experiments", ["demo", "mt10"]),
        ("perturbations", ["camera-noise", "sticky-actions", "probability of repeating an action"]),
    ],
)
def test_everything_that_can_be_named_is_listed(simloop, what, wanted):
    status, printed = simloop("list", what)
    assert status == 0
    assert all(text in printed for text in wanted), printed


def test_a_name_that_is_listed_has_a_line_of_its_own_however_narrow_the_output(simloop, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    _, printed = simloop("list", "tasks", "libero")
    assert len(printed.splitlines()) == 131
    assert all(len(line.split()) > 4 for line in printed.splitlines())


@pytest.mark.usefixtures("shared_ray")
def test_a_run_stops_when_it_is_decided_and_says_what_that_saved(simloop, tmp_path):
    folder = tmp_path / "run"
    arguments = [
        "run",
        "expert",
        "random",
        "--tasks",
        "reach",
        "push",
        "--until-decided",
        "--max-episodes",
        "40",
    ]
    arguments += ["--max-steps", "100", "--no-video", "--out", folder]
    status, printed = simloop(*arguments)
    assert status == 0, printed
    printed = " ".join(printed.split())
    assert "expert succeeding more often: decided after 7 of at most 40 pairs" in printed
    ledger = (folder / "episodes.jsonl").read_bytes()
    played = ledger.count(b"\n")
    assert played < 30
    assert f"{80 - played} of 80 planned episodes were not needed." in printed
    assert len(json.loads((folder / "config.json").read_text())["pairs"]) == 40

    status, printed = simloop(*arguments)
    assert status == 0
    assert (folder / "episodes.jsonl").read_bytes() == ledger, "an answered question is not asked again"
    status, printed = simloop("compare", "--run", folder)
    assert "decided after 7 of at most 40 pairs" in " ".join(printed.split())
    status, refused = simloop(*arguments, "--alpha", "0.01")
    assert status == MISUSED
    assert "stopping.alpha: 0.05 -> 0.01" in refused


def test_policies_are_compared_in_sentences(simloop, tmp_path):
    run = write_run(tmp_path, [*episodes(9, 1), *episodes(2, 8, policy="pi0", weights="trained")])
    status, printed = simloop("compare", "pi0", "expert", "--run", run, "--by-task")
    assert status == 0
    assert "expert succeeds more often than pi0: 90.0 % against 20.0 % in the same 10 episodes" in printed
    assert "only pi0" in printed
    status, printed = simloop("compare", "pi1", "expert", "--run", run)
    assert status == MISUSED
    assert "No episodes of 'pi1' in these runs; there are expert, pi0." in printed


def test_a_policy_that_became_worse_fails_the_check_with_a_status_of_its_own(simloop, tmp_path):
    run = write_run(tmp_path, [*episodes(20, 0), *episodes(5, 15, policy="pi0", weights="trained")])
    check = ("compare", "--run", run, "--fail-if-worse", "0.05")
    status, printed = simloop(*check, "expert", "pi0")
    assert status == 3
    assert "pi0 is worse than expert by more than 5 points: −75.0 points" in " ".join(printed.split())
    status, printed = simloop(*check, "pi0", "expert")
    assert status == 0
    assert "expert is not worse than pi0 by more than 5 points" in " ".join(printed.split())
    status, printed = simloop("compare", "--run", run, "--fail-if-worse", "2")
    assert status == MISUSED
    assert "in [0, 1); got 2" in printed


def test_episodes_are_planned_before_anything_is_run(simloop):
    status, printed = simloop("plan", "--base", "0.9", "--difference", "0.05", "--tasks", "10")
    assert status == 0
    assert "unpaired, fixed" in printed
    assert "686" in printed
    status, printed = simloop("plan", "--base", "1.5")
    assert status == MISUSED
    assert "in (0, 1); got 1.5" in printed


@pytest.mark.parametrize("command", [*cli.COMMANDS])
def test_every_command_explains_itself(simloop, command):
    status, printed = simloop(command, "--help")
    assert status == 0
    assert "usage: simloop" in printed
    assert command == "train" or "(default: None)" not in printed


def test_prints_its_version(simloop):
    status, printed = simloop("--version")
    assert (status, printed) == (0, f"simloop {metadata.version('simloop')}\n")


def test_without_opengl_a_run_says_what_to_install(tmp_path):
    ended = subprocess.run(
        [*SIMLOOP, "run", "--policies", "hold", "--tasks", "reach-v3", "--out", str(tmp_path / "run")],
        env={**os.environ, "MUJOCO_GL": "disable"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == MISUSED
    assert "libegl1" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.usefixtures("shared_ray")
def test_a_real_run_ends_in_records_videos_and_tables_and_again_in_the_same_tables(simloop, tmp_path):
    folder = tmp_path / "run"
    arguments = [
        "run",
        "--policies",
        "expert",
        "random",
        "--tasks",
        "reach",
        "--episodes",
        "1",
        "--out",
        folder,
    ]
    status, first = simloop(*arguments, "--env-actors", 2, "--max-steps", 80)
    assert status == 0, first
    assert sorted(path.name for path in folder.glob("*.*") if not path.name.startswith(".")) == [
        "config.json", "episodes.jsonl", "figures.jsonl", "latency.csv", "latency.md", "latency.tex",
        "provenance.json", "queries.jsonl", "status.json", "success.csv", "success.md", "success.tex",
    ]  # fmt: skip
    rows = [decode_line(line, "here") for line in (folder / "episodes.jsonl").read_text().splitlines()]
    assert {(row["policy"], row["outcome"]) for row in rows} == {("expert", "success"), ("random", "failure")}
    for row in rows:
        assert (folder / row["video"]).stat().st_size > 1000
        assert row["outcome"] in row["video"] or row["ended_by"] in row["video"]

    ledger = (folder / "episodes.jsonl").read_bytes()
    status, second = simloop(*arguments, "--max-steps", 80)
    assert status == 0
    assert (folder / "episodes.jsonl").read_bytes() == ledger
    assert (
        second in first
        or second.splitlines()[:5] == first[first.index(second.splitlines()[0]) :].splitlines()[:5]
    )

    status, refused = simloop(*arguments, "--max-steps", 81)
    assert status == MISUSED
    assert "protocol.max_steps: 80 -> 81" in refused

    for form in ("md", "csv", "tex"):
        status, printed = simloop("table", folder, "--format", form)
        assert status == 0
        assert "expert" in printed


@pytest.mark.parametrize(
    "arguments", [["--help"], ["plan", "--base", "0.9"], ["run", "--help"], ["status", "--help"]]
)
def test_does_not_import_what_a_command_does_not_need(arguments):
    code = (
        "import sys, contextlib; from simloop.harness import cli\n"
        f"sys.argv = ['simloop', *{arguments!r}]\n"
        "with contextlib.suppress(SystemExit): cli.main()\n"
        "print([name for name in ('jax', 'ray', 'mujoco', 'flax') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path.cwd())
    assert ended.stdout.splitlines()[-1] == "[]", ended.stderr


def test_a_suite_that_is_not_installed_is_answered_with_the_command_that_installs_it(
    simloop, tmp_path, monkeypatch
):
    monkeypatch.setattr(type(registry.suite("libero")), "packages", ("libero-of-another-world",))
    status, printed = simloop("run", "random", "hold", "--suite", "libero", "--out", tmp_path / "run")
    assert status == MISUSED
    assert "libero-of-another-world cannot be found. Install it with: scripts/setup libero" in printed
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_said_in_one_sentence(simloop, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "merged"))

    monkeypatch.setattr("simloop.harness.recording.merge.merge", full)
    status, printed = simloop("merge", tmp_path, "--out", tmp_path / "merged")
    assert status == MISUSED
    assert printed.count("\n") == 1
    assert "No space left on device" in printed
    assert "Make room and repeat the command" in printed


def test_a_reader_that_ends_first_ends_the_command_without_a_traceback():
    with subprocess.Popen(
        [*SIMLOOP, "list", "tasks"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as ended:
        ended.stdout.close()
        assert ended.wait(60) == cli.OUTPUT_CLOSED
        assert ended.stderr.read() == b""


def test_an_interrupted_command_says_how_it_is_repeated(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["simloop", "fork", "run", "--prompt", "lift it"])
    assert interrupted(3, 8, tmp_path) == INTERRUPTED
    assert "3 of 8 episodes are kept" in (printed := capsys.readouterr().out)
    assert printed.endswith("To resume: simloop fork run --prompt 'lift it'\n")


def test_a_warning_about_records_is_shown_without_a_place_in_the_code():
    assert cli._format_warning(TornTail("line 2"), TornTail, "ledger.py", 3) == "simloop: line 2\n"
    assert "other.py:3" in cli._format_warning("slow", UserWarning, "other.py", 3)


@pytest.mark.parametrize("command", ["run", "fork", "debug"])
def test_help_shows_the_examples(simloop, command):
    status, printed = simloop(command, "--help")
    assert status == 0
    assert f"Examples:\n  simloop {command} " in printed


def test_a_run_without_a_completed_episode_fails_and_ends_with_the_cause(tmp_path, capsys):
    result = RunResult(tmp_path / "r", 3, 3, False)
    write_run(result.folder, episodes(0, errors=3))
    assert _print_result(result, Terminal()) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "No episode was completed. The most frequent error: RuntimeError: the simulator diverged"


def test_a_run_with_a_completed_episode_succeeds(tmp_path):
    result = RunResult(tmp_path / "r", 3, 3, False)
    write_run(result.folder, episodes(0, failures=1, errors=2))
    assert _print_result(result, Terminal()) == 0
