import dataclasses

import pytest

from simloop.harness.commands.run import RunOptions
from simloop.harness.planning.execution import Execution, ExecutionError
from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.protocol import named_protocol
from simloop.harness.preparation import possible_executions


def experiment_of(policy: str, modes: tuple[str, ...]) -> Experiment:
    executions = tuple(Execution.parse(mode, delay) for mode in modes for delay in ("2", "8"))
    protocol = dataclasses.replace(named_protocol("metaworld"), replan_steps=5)
    return Experiment("", "metaworld", ("reach",), (policy,), 2, protocol=protocol, executions=executions)


def test_a_sweep_leaves_out_what_the_chunks_of_the_policy_do_not_allow_and_says_so():
    kept, sentences = possible_executions(experiment_of("pi0-tiny", ("synchronous", "naive", "rtc")))
    labels = ["synchronous at 2", "synchronous at 8", "naive at 2", "rtc at 2"]
    assert [str(execution) for execution in kept.executions] == labels
    assert [sentence.partition(":")[0] for sentence in sentences] == ["naive at 8", "rtc at 8"]


def test_a_sweep_of_impossible_executions_alone_is_refused():
    with pytest.raises(ExecutionError, match="pi0-tiny was not trained to continue given actions"):
        possible_executions(experiment_of("pi0-tiny", ("rtc-trained",)))
    with pytest.raises(ExecutionError, match="pi0_fast-tiny cannot be guided"):
        possible_executions(experiment_of("pi0_fast-tiny", ("rtc", "rtc-identity")))


def test_latencies_of_a_device_are_delays_beside_the_others(tmp_path):
    file = tmp_path / "gpu.json"
    file.write_text("[20.0, 20.0]")
    options = RunOptions(execution=("naive",), delay=("2",), latency_of=(str(file),))
    constant, measured = options.executions()
    assert (str(constant), measured.delay.kind, measured.delay.steps(100.0, 7)) == (
        "naive at 2",
        "measured",
        2,
    )
