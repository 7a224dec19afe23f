"""The checks of `simloop doctor --suite S --policy P`: those before a run, and what a short simulation adds.

Axis letters: n samples, d entries of a state, a entries of an action.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from simloop.envs import registry
from simloop.envs.interface import TaskSpec
from simloop.harness.adapters.base import Adapter
from simloop.harness.adapters.registry import checked_adapter
from simloop.harness.gate.causes import cause_of, outside
from simloop.harness.gate.demonstrations import (
    Demonstrations,
    image_findings,
    read_demonstrations,
    replay_findings,
)
from simloop.harness.gate.findings import Finding, Verdict, verdict_of
from simloop.harness.gate.gate import quick_findings
from simloop.harness.gate.statistics import (
    action_findings,
    prompt_findings,
    range_findings,
    rate_findings,
    state_findings,
    variance_findings,
)
from simloop.harness.gate.training import Training, training_of
from simloop.harness.planning.policy_names import NamedPolicy
from simloop.harness.planning.protocol import Protocol
from simloop.policies.interface import BatchedPolicy, PolicySpec, Query

SEEDS = 2
RANDOM_STEPS = 10


def try_policy(
    named: NamedPolicy, tasks: Sequence[TaskSpec], protocol: Protocol, demonstrations: Path | None = None
) -> Iterator[Finding]:
    """Check a policy on tasks of a suite: what is recorded of it, states and images of resets, and its answers there.

    Args:
      named: The policy, which is loaded for the last check.
      tasks: Tasks to simulate.
      protocol: Image size, and source of the instructions.
      demonstrations: A LeRobotDataset in the convention of the policy, with which all is compared as well.

    Raises:
      AdapterError: If no adapter connects the policy to the tasks.
      CheckpointError, DatasetError: If statistics or demonstrations cannot be read.
    """
    spec = named.spec()
    adapter = checked_adapter(spec, list(tasks))
    yield Finding("names and sizes", "ok", _sizes(adapter, spec, tasks[0]))
    quick = list(quick_findings(named, spec, tasks, [protocol.prompt_source]))
    yield from quick or [Finding("adapter and statistics", "ok", "nothing contradicts them")]
    training = training_of(named)
    yield from variance_findings(spec, training)
    shown = None if demonstrations is None else read_demonstrations(demonstrations, spec.cameras)
    if shown is not None:
        yield from _or_ok("demonstrations", _of_dataset(shown, adapter, spec, tasks, protocol))
    queries: list[Query] = []
    for task in tasks:
        yield from _or_ok(task.name, _simulated(task, adapter, spec, protocol, training, shown, queries))
    yield from _or_ok("answers", _answers(named.load(), queries, training, adapter, tasks[0]))


def _or_ok(check: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """The findings, or one that says that there is none."""
    found = list(findings)
    yield from found
    if verdict_of(found) == "ok":
        yield Finding(check, "ok", "as expected")


def _sizes(adapter: Adapter, spec: PolicySpec, task: TaskSpec) -> str:
    cameras = ", ".join(f"{name} = {adapter.cameras[name]}" for name in spec.cameras) or "no cameras"
    return (
        f"{cameras}; state of {adapter.convention.state_size or task.state_size} from ({', '.join(task.state_names)}); "
        f"actions ({', '.join(task.action_names)}); {task.control_hz:g} control steps per second"
    )


def _of_dataset(
    shown: Demonstrations, adapter: Adapter, spec: PolicySpec, tasks: Sequence[TaskSpec], protocol: Protocol
) -> Iterator[Finding]:
    yield from rate_findings(spec, shown.training, tasks[0])
    instructions = [task.instruction_from(protocol.prompt_source).text for task in tasks]
    yield from prompt_findings(shown.training, instructions)
    yield from action_findings(shown.training, adapter, tasks[0])


def _simulated(
    task: TaskSpec,
    adapter: Adapter,
    spec: PolicySpec,
    protocol: Protocol,
    training: Training,
    shown: Demonstrations | None,
    queries: list[Query],
) -> Iterator[Finding]:
    """Findings on states and images of a task; appends the queries of its resets."""
    instruction = task.instruction_from(protocol.prompt_source).text
    generator, states = np.random.default_rng(0), []
    with contextlib.closing(registry.suite(task.suite).make(task.name, protocol.render)) as env:
        for seed in range(SEEDS):
            env.reset(seed)
            images = {
                camera: env.render(camera) for camera in {adapter.cameras[name] for name in spec.cameras}
            }
            queries.append(adapter.query(env, spec, images, instruction, key=seed))
            for _ in range(RANDOM_STEPS):
                env.step(generator.uniform(task.action_low, task.action_high))
                states.append(adapter.convention.model_state(adapter.state(env).astype(np.float64)))
        first = queries[-SEEDS:]
        yield from state_findings(training, np.stack([*(query.state for query in first), *states]))
        if shown is None:
            return
        yield from image_findings(first[0].images, shown.first_images(instruction))
        initial = np.stack([query.state for query in first]).astype(np.float64)
        unlike = list(state_findings(shown.first_states(instruction), initial, "initial state"))
        yield from unlike or replay_findings(shown, env, adapter)


def _answers(
    policy: BatchedPolicy, queries: Sequence[Query], training: Training, adapter: Adapter, task: TaskSpec
) -> Iterator[Finding]:
    """Findings on the answers of the policy after resets."""
    policy.prepare(1)
    chunks = [policy.infer([query], 1).chunks[0] for query in queries]
    decoded = [np.asarray(chunk.actions, np.float64) for chunk in chunks if chunk.undecodable is None]
    if not decoded:
        yield Finding("answers", "FAIL", f"none of {len(chunks)} answers decodes to actions")
        return
    actions = np.concatenate(decoded)
    if not np.isfinite(actions).all():
        yield Finding("answers", "FAIL", "NaN or infinite actions, which end an episode as a failure")
        return
    yield from _like_training(actions, training, adapter, task)
    if policy.spec.weights != "scripted":
        converted = adapter.convention.robot_actions(actions)
        low, high = np.quantile(converted, [0.01, 0.99], axis=0)
        yield from range_findings(low, high, task, "answers of the policy")


def _like_training(
    actions: Float[np.ndarray, "n a"], training: Training, adapter: Adapter, task: TaskSpec
) -> Iterator[Finding]:
    stats, size = training.stats.get("actions"), adapter.convention.action_size or task.action_size
    if stats is None or any(training.relative) or not outside(actions[:, :size], stats).any():
        return
    cause = cause_of(actions[:, :size], stats)
    text = "actions unlike those of the training data" + (f": {cause}" if cause else "")
    yield Finding("answers", "FAIL" if cause else "note", text)


SUMMARIES: Mapping[Verdict, str] = {
    "FAIL": "The policy cannot be right on this suite.",
    "note": "Nothing is wrong for certain; see the notes.",
    "ok": "All checks passed.",
}


def report(findings: Iterator[Finding], say: Callable[[str], None]) -> int:
    """Print findings; returns the exit status, 1 if the policy cannot be right."""
    found = []
    for finding in findings:
        found.append(finding)
        say(str(finding))
    verdict = verdict_of(found)
    say(SUMMARIES[verdict])
    return 1 if verdict == "FAIL" else 0
