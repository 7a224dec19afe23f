import dataclasses
import json

import pytest

from simloop.envs.interface import InstructionError
from simloop.harness.planning.execution import Execution, ExecutionError
from simloop.harness.planning.experiment import Experiment, ExperimentError, experiment_from_json
from simloop.harness.planning.perturbation import Perturbation
from simloop.harness.planning.protocol import Protocol, named_protocol
from simloop.results.records.execution_labels import split_execution


@pytest.mark.parametrize(
    ("mode", "delay", "label"),
    [
        ("synchronous", "0", "metaworld/default-v1"),
        ("naive", "0", "metaworld/default-v1"),
        ("synchronous", "4", "metaworld/default-v1, synchronous at 4"),
        ("naive", "150ms", "metaworld/default-v1, naive at 150ms"),
        ("rtc", "0", "metaworld/default-v1, rtc at 0"),
        ("rtc-identity", "live", "metaworld/default-v1, rtc-identity at live"),
        ("ensemble", "2", "metaworld/default-v1, ensemble:act:0.01 at 2"),
        ("ensemble:newest", "2", "metaworld/default-v1, ensemble:newest at 2"),
    ],
)
def test_labels_name_mode_and_delay_and_can_be_split_again(mode, delay, label):
    execution = Execution.parse(mode, delay)
    protocol = dataclasses.replace(named_protocol("metaworld"), execution=execution)
    assert protocol.label == label
    parts = split_execution(label)
    assert parts.base == "metaworld/default-v1"
    assert f"{parts.mode} at {parts.delay}" == str(execution)


def test_a_perturbation_is_part_of_the_protocol_that_delays_are_compared_under():
    protocol = Protocol(
        "metaworld",
        execution=Execution.parse("naive", "2"),
        perturbations=(Perturbation("camera-dark", 0.5),),
    )
    assert split_execution(protocol.label) == ("metaworld/default-v1 with camera-dark=0.5", "naive", "2")


def test_protocols_without_delay_keep_their_rules_and_hashes():
    assert "execution" not in named_protocol("libero").to_dict()


@pytest.mark.parametrize(
    "mode", ["async", "rtc:full", "ensemble:median", "ensemble:exponential:0", "ensemble:act:x"]
)
def test_other_modes_are_refused(mode):
    with pytest.raises(ExecutionError):
        Execution.parse(mode)


@pytest.mark.parametrize(
    ("delay", "replan_steps", "possible"), [(2, 4, True), (4, 4, True), (5, 4, False), (3, 6, False)]
)
def test_an_answer_must_be_there_before_the_next_query_and_before_the_chunk_ends(
    delay, replan_steps, possible
):
    execution = Execution.parse("naive", str(delay))
    if possible:
        execution.require_possible(20.0, replan_steps, chunk_steps=8)
    else:
        with pytest.raises(ExecutionError, match="Choose"):
            execution.require_possible(20.0, replan_steps, chunk_steps=8)


def test_an_experiment_with_several_executions_plays_the_same_episodes_under_each_and_survives_its_file():
    executions = tuple(Execution.parse("naive", delay) for delay in ("0", "2", "4"))
    experiment = Experiment("", "metaworld", ("reach",), ("random",), 2, executions=executions)
    plan = experiment.plan()
    assert [(spec.protocol, spec.episode) for spec in plan.episodes] == [
        (f"metaworld/default-v1{label}", episode)
        for label in ("", ", naive at 2", ", naive at 4")
        for episode in (0, 1)
    ]
    assert len({(spec.seed, spec.key) for spec in plan.episodes}) == 2

    assert experiment_from_json(json.dumps(experiment.to_dict()), "file") == experiment


def test_an_experiment_with_several_prompt_sources_plays_the_same_episodes_with_each_instruction():
    experiment = Experiment(
        "",
        "libero_pro",
        ("libero_goal_task-turn_on_the_stove",),
        ("random",),
        2,
        protocol=named_protocol("libero_pro"),
        prompt_sources=("suite", "filename", "bddl"),
    )
    plan = experiment.plan()
    assert [spec.protocol for spec in plan.episodes[::2]] == [
        f"libero_pro/default-v1{label}" for label in ("", ", filename-prompt", ", bddl-prompt")
    ]
    assert len({(spec.seed, spec.key) for spec in plan.episodes}) == 2
    assert experiment_from_json(json.dumps(experiment.to_dict()), "file") == experiment
    with pytest.raises(InstructionError, match="got 'card'"):
        dataclasses.replace(experiment, prompt_sources=("suite", "card")).plan()
    with pytest.raises(ExperimentError, match="cannot be combined with several prompt sources"):
        dataclasses.replace(experiment, executions=(Execution.parse("naive", "1"),))
