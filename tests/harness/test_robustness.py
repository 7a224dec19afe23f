"""Designs, the search for the worst corner and bisection as they run: refused, played, resumed and stated."""

import json
import sys

import pytest

from simloop.harness import cli
from simloop.harness.commands.options import MISUSED
from simloop.harness.experiment_file import read_experiments
from simloop.harness.planning.experiment import Experiment, ExperimentError, experiment_from_json
from simloop.harness.planning.perturbation import Perturbation
from simloop.harness.planning.protocol import named_protocol
from simloop.results.records.runs import load_runs
from simloop.results.statistics.designs import Design

AXES = (("state-noise", 0.1), ("action-noise", 0.4))


@pytest.fixture
def simloop(monkeypatch, capsys):
    """Runs a command in this process; returns its exit status and what it printed, in one line."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["simloop", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), " ".join((printed.out + printed.err).split())

    return call


def designed(**fields):
    return Experiment("", "metaworld", ("reach-v3",), ("expert",), **({"episodes": 2} | fields))


def test_every_point_of_a_design_and_the_control_play_the_same_episodes():
    episodes = designed(design=Design("grid", AXES, 2)).plan().episodes
    assert len(episodes) == 4 * 2, "the unperturbed point of the grid is the control"
    assert {spec.protocol.partition(" with ")[2] for spec in episodes} == {
        "",
        "state-noise-v2=0.1",
        "action-noise=0.4",
        "state-noise-v2=0.1 and action-noise=0.4",
    }
    assert episodes[0].protocol == "metaworld/default-v1"
    for number in range(2):
        assert len({(spec.seed, spec.key) for spec in episodes if spec.episode == number}) == 1


def test_a_design_is_written_and_read_back_and_left_out_where_there_is_none():
    one = designed(design=Design("sobol", AXES, 4, seed=3), first=5)
    assert experiment_from_json(json.dumps(one.to_dict()), "config.json") == one
    assert not {"design", "first"} & set(designed().to_dict())
    assert {spec.episode for spec in one.plan().episodes} == {5, 6}


def test_a_design_does_not_mix_with_other_perturbations():
    dark = (Perturbation("camera-dark", 0.5),)
    protocol = named_protocol("metaworld")
    with pytest.raises(ExperimentError, match="--perturb must be left out"):
        designed(
            design=Design("axes", AXES),
            protocol=type(protocol)("metaworld", perturbations=dark),
        )
    with pytest.raises(ExperimentError, match="prompt sources cannot be combined with a design"):
        designed(design=Design("axes", AXES), prompt_sources=("suite", "bddl"))


def test_an_experiment_file_has_perturbations_or_a_design(tmp_path):
    file = tmp_path / "robust.toml"
    file.write_text(
        'policies = ["expert"]\n[[parts]]\nperturb = ["camera-dark=0.5"]\n[[parts]]\n'
        'design = { method = "latin", size = 8, axes = { state-noise = 0.1, action-noise = 0.4 } }\n'
    )
    dark, latin = (part.experiment for part in read_experiments(file))
    assert dark.protocol.label == "metaworld/default-v1 with camera-dark=0.5"
    assert latin.design == Design("latin", AXES, 8)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["expert", "--vary", "camera-nose=1"], "There is no perturbation 'camera-nose'"),
        (["expert", "--vary", "state-noise=0.1", "--size", "12"], "a power of 2; got 12"),
        (["expert", "hold", "--vary", "state-noise=0.1", "--worst", "99"], "for one policy; got 2"),
        (
            ["expert", "--tasks", "reach", "--vary", "state-noise=0.1", "action-noise=1", "--worst", "5"],
            "at least 8",
        ),
    ],
)
def test_designs_that_cannot_be_played_are_refused_in_a_sentence(simloop, tmp_path, arguments, wanted):
    status, printed = simloop("robustness", *arguments, "--out", tmp_path / "run", "--no-video")
    assert (status, wanted in printed) == (MISUSED, True), printed


def test_bisection_needs_two_checkpoints(simloop, tmp_path):
    status, printed = simloop("bisect", "expert", "--out", tmp_path)
    assert status == MISUSED
    assert "takes two checkpoints or more; got 1" in printed


@pytest.mark.slow
def test_a_design_is_one_run_whose_tables_tell_what_each_kind_costs(simloop, shared_ray, tmp_path):
    run = tmp_path / "run"
    command = ("robustness", "expert", "--tasks", "reach", "--vary", "action-noise=1", "state-noise=0.1")
    more = ("--size", "2", "--episodes", "4", "--max-steps", "60", "--out", run)
    status, printed = simloop(*command, *more)
    assert status == 0
    assert "Success in % along each axis of the design" in printed
    assert "Sensitivity of the success rate" in printed
    ledger = (run / "episodes.jsonl").read_bytes()
    assert simloop(*command, *more)[0] == 0
    assert (run / "episodes.jsonl").read_bytes() == ledger, "a finished run is not played again"
    one = tmp_path / "one"
    assert simloop(*command, *more[:-1], one, "--env-actors", "1")[0] == 0
    played, alone = (load_runs(folder).episodes for folder in (run, one))
    same = ["protocol", "episode", "outcome", "steps", "actions_sha256"]
    assert played[same].equals(alone[same])


@pytest.mark.slow
def test_the_worst_corner_is_estimated_in_fresh_episodes(simloop, shared_ray, tmp_path):
    status, printed = simloop(
        "robustness", "expert", "--tasks", "reach", "--vary", "state-noise=0.001", "action-noise=1", "--worst", "24",
        "--episodes", "4", "--max-steps", "60", "--no-video", "--out", tmp_path,
    )  # fmt: skip
    assert status == 0
    assert "action-noise=1" in printed.partition("the worst of 3 corners is")[2]
    assert "In 4 fresh episodes it succeeds in" in printed
    assert (tmp_path / "round-2").is_dir()


@pytest.mark.slow
def test_a_loss_along_training_is_found_and_fails(simloop, shared_ray, tmp_path):
    command = (
        "bisect",
        "a=expert",
        "b=expert",
        "c=random",
        "--tasks",
        "reach",
        "--max-episodes",
        "60",
        "--margin",
        "0.4",
    )
    status, printed = simloop(*command, "--max-steps", "100", "--no-video", "--out", tmp_path)
    assert status == 3
    assert "Success was lost between" in printed
    assert " and c (" in printed
    assert simloop(*command, "--max-steps", "100", "--no-video", "--out", tmp_path)[0] == 3, "resumed"
