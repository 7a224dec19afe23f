"""The checks before a run, which cost neither a simulation nor a model, and what becomes of their findings.

`simloop doctor --suite S --policy P` adds those of `simloop.harness.gate.trial`.

Axis letters: n states, d entries of the policy's state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from simloop.envs import golden, registry
from simloop.envs.interface import TaskSpec
from simloop.harness.adapters.base import Adapter
from simloop.harness.adapters.registry import ADAPTERS, find_adapter
from simloop.harness.errors import SimloopError
from simloop.harness.gate.adapter_difference import adapter_differences, states_of
from simloop.harness.gate.findings import Finding
from simloop.harness.gate.statistics import action_findings, prompt_findings, rate_findings, state_findings
from simloop.harness.gate.training import Training, training_of
from simloop.harness.planning.policy_names import NamedPolicy
from simloop.policies.interface import PolicySpec

Gate = Literal["refuse", "warn", "off"]
"""What a run does if a policy cannot be right on its suite: end before the first episode, say so, or not look."""


class GateError(SimloopError):
    """A policy and a suite that mean different things by images, states or actions."""


def pass_gate(
    gate: Gate, policies: Mapping[str, NamedPolicy], tasks: Sequence[TaskSpec], prompt_sources: Sequence[str]
) -> tuple[str, ...]:
    """Check the policies of a run; returns sentences on what is worth knowing.

    Raises:
      GateError: If one of them cannot be right and the gate is `refuse`.
      CheckpointError: If the statistics of a checkpoint do not fit its policy.
    """
    notes: list[str] = []
    faults: list[str] = []
    for name, policy in policies.items() if gate != "off" else ():
        for finding in quick_findings(policy, policy.spec(), tasks, prompt_sources):
            refused = finding.verdict == "FAIL" and gate == "refuse"
            (faults if refused else notes).append(
                f"{name} on {tasks[0].suite}, {finding.check}: {finding.text}"
            )
    if faults:
        raise GateError(
            "; ".join(faults)
            + ". Correct the adapter or the checkpoint (simloop doctor --suite S --policy P says "
            "more), or go on with --gate warn."
        )
    return tuple(f"{note}." for note in notes)


def quick_findings(
    named: NamedPolicy | None, policy: PolicySpec, tasks: Sequence[TaskSpec], prompt_sources: Sequence[str]
) -> Iterator[Finding]:
    """What is wrong or worth knowing about a policy on tasks of a suite.

    Args:
      named: The policy as named on the command line; None for an object, of whose training nothing is known.
      policy: Its interface.
      tasks: Tasks of one suite.
      prompt_sources: Sources of the instructions that it receives.
    """
    adapter = find_adapter(tasks[0].suite, policy)
    name = f"{tasks[0].suite}/{policy.robot}"
    if name in ADAPTERS and adapter is not ADAPTERS[name]:
        yield from adapter_differences(adapter, ADAPTERS[name], tasks[0])
    training = Training() if named is None else training_of(named)
    yield from rate_findings(policy, training, tasks[0])
    yield from prompt_findings(
        training, [task.instruction_from(source).text for source in prompt_sources for task in tasks]
    )
    yield from action_findings(training, adapter, tasks[0])
    if (states := _recorded_states(adapter, tasks[0])) is not None:
        yield from state_findings(training, states)


def _recorded_states(adapter: Adapter, task: TaskSpec) -> Float[np.ndarray, "n d"] | None:
    """States of the policy at recorded moments of the suite; None where there are none of this robot."""
    recorded = golden.recorded_states(registry.suite(task.suite))
    states = [found for found in recorded.values() if found.shape[1] == task.state_size]
    return states_of(adapter, task, np.concatenate(states)) if states else None
