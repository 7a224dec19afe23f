"""Experiments: suite, tasks, policies, number of episodes and protocol of a run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from simloop.envs.interface import TaskSpec
from simloop.envs.registry import resolve_tasks
from simloop.harness.errors import SimloopError
from simloop.harness.machine import ACCELERATOR_BATCH_SIZE
from simloop.harness.planning.execution import Execution
from simloop.harness.planning.forks import Forks, plan_forks
from simloop.harness.planning.perturbation import Perturbation
from simloop.harness.planning.plan import Plan, make_plan
from simloop.harness.planning.policy_names import NamedPolicy, parse, takes_checkpoint
from simloop.harness.planning.protocol import Protocol, named_protocol
from simloop.policies.interface import PolicySpec
from simloop.results.records.written_policies import policy_identity, policy_name
from simloop.results.statistics.designs import Design, named
from simloop.results.statistics.sequential import StoppingRule
from simloop.untrusted import parse_json


class ExperimentError(SimloopError):
    """Raised for an experiment that cannot be run."""


@dataclass(frozen=True)
class Experiment:
    """Everything that determines the results of a run. Machines and processes are not part of it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    suite: str
    tasks: tuple[str, ...]
    """Task names or names of groups."""
    policies: tuple[str, ...]
    """Policies as on the command line: `[NAME=]POLICY[@FOLDER]`."""
    episodes: int
    """Episodes per task and policy."""
    seed: int = 0
    """Root seed of all initial states and all noise."""
    protocol: Protocol = field(default_factory=lambda: named_protocol("metaworld"))
    batch_size: int | None = None
    """Rows of every call of a policy worker, padded if fewer queries wait. Fixed for a run, because programs compiled
    for other batch sizes round differently. None until the run begins, which chooses by its device."""
    executions: tuple[Execution, ...] = ()
    """Play every episode under each of these executions instead of the protocol's own."""
    prompt_sources: tuple[str, ...] = ()
    """Play every episode with the instruction from each of these sources instead of the protocol's own."""
    design: Design | None = None
    """Play every episode unperturbed, and under the perturbations of every point of this design."""
    first: int = 0
    """Number of the first episode of each task; those before it are left to other experiments."""
    limit: int | None = None
    """Play only the first episodes of each policy, to try an experiment out."""
    stopping: StoppingRule | None = None
    """Stop once this rule has decided whether the two policies differ. Tasks are then interleaved, and each (task,
    episode) is played by both policies in turn."""
    forks: Forks | None = None
    """Continue a recorded episode from some of its queries, instead of playing episodes from their beginning.
    `policies` are then that of the recorded episode and, optionally, another."""

    def __post_init__(self) -> None:
        """Raise `ExperimentError` for values that cannot be planned."""
        if self.episodes < 1:
            raise ExperimentError(f"--episodes must be at least 1; got {self.episodes}.")
        if self.limit is not None and self.limit < 1:
            raise ExperimentError(f"--limit must be at least 1; got {self.limit}.")
        if self.limit is not None and self.stopping is not None:
            raise ExperimentError("--limit and --until-decided cannot be combined; give --max-episodes.")
        if self.batch_size is not None and self.batch_size < 1:
            raise ExperimentError(f"--batch-size must be at least 1; got {self.batch_size}.")
        if not self.policies:
            raise ExperimentError("--policies names no policy; simloop list policies shows them.")
        if not self.tasks:
            raise ExperimentError("--tasks names no task; simloop list tasks shows them.")
        names = self.policy_names
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ExperimentError(
                f"--policies names {', '.join(repeated)} twice; write NAME=POLICY to give one of them another name."
            )
        if self.stopping is not None and len(self.policies) != 2:
            raise ExperimentError(
                f"--until-decided compares two policies; got {len(self.policies)}: {', '.join(self.policies)}."
            )
        several = {
            "several executions": self.executions,
            "several prompt sources": self.prompt_sources,
            "a design of perturbations": self.design,
        }
        used = [name for name, values in several.items() if values]
        if used and (self.stopping or self.forks):
            raise ExperimentError(
                f"{used[0].capitalize()} cannot be combined with --until-decided or with forks."
            )
        if len(used) > 1:
            raise ExperimentError(f"{used[0].capitalize()} cannot be combined with {used[1]}.")
        if self.design and self.protocol.perturbations:
            raise ExperimentError(
                f"The design varies perturbations, so --perturb must be left out; got {self.protocol.label}."
            )
        if self.protocol.suite != self.suite:
            raise ExperimentError(
                f"Protocol {self.protocol.label!r} is for suite {self.protocol.suite!r}, the experiment for "
                f"{self.suite!r}."
            )

    def task_specs(self) -> list[TaskSpec]:
        """The tasks, with groups resolved.

        Raises:
          simloop.envs.registry.UnknownNameError: If the suite or a task does not exist.
        """
        return list(resolve_tasks(self.suite, self.tasks))

    @property
    def policy_names(self) -> tuple[str, ...]:
        """Names of the policies in records and tables."""
        return tuple(map(policy_name, self.policies))

    def named_policies(self) -> dict[str, NamedPolicy]:
        """The policies by name.

        Raises:
          UnknownPolicyError: If one of them or its checkpoint folder does not exist.
        """
        return dict(zip(self.policy_names, map(parse, self.policies), strict=True))

    def policy_specs(self) -> dict[str, PolicySpec]:
        """Interfaces of the policies by name, known before any weights are read."""
        return {name: policy.spec() for name, policy in self.named_policies().items()}

    @property
    def variants(self) -> tuple[Mapping[str, Any], ...]:
        """Rules of the protocol that are replaced, by name, for each way in which every episode is played; none if the
        protocol's own hold for all."""
        return (
            *({"execution": execution} for execution in self.executions),
            *({"prompt_source": source} for source in self.prompt_sources),
            *({"perturbations": point} for point in self._points()),
        )

    def _points(self) -> tuple[tuple[Perturbation, ...], ...]:
        """The control without perturbations and the distinct points of the design; none without a design."""
        if self.design is None:
            return ()
        strengths = (named(self.design.kinds, row) for row in self.design.strengths().tolist())
        points = (tuple(Perturbation(*one) for one in point.items()) for point in strengths)
        return tuple(dict.fromkeys([(), *points]))

    def plan(self) -> Plan:
        """The ordered episodes.

        Raises:
          simloop.envs.interface.InstructionError: If a task has no instruction from a source.
          ExperimentError: If there are more episodes of a task than initial states that were recorded for it.
        """
        tasks = self.task_specs()
        if self.forks is not None:
            return plan_forks(self.forks, self.policy_names, tasks[0], self.protocol)
        plan = make_plan(
            self.policy_names,
            tasks,
            self.protocol,
            self.episodes,
            self.seed,
            variants=self.variants,
            interleaved_pairs=None if self.stopping is None else self.stopping.max_pairs,
            limit=self.limit,
            first=self.first,
        )
        for rules in self.variants or ({"prompt_source": self.protocol.prompt_source},):
            for task in tasks:
                task.instruction_from(rules.get("prompt_source", self.protocol.prompt_source))
        states = {task.name: task.initial_states for task in tasks if task.initial_states is not None}
        repeated = [spec for spec in plan.episodes if spec.episode >= states.get(spec.task, spec.episode + 1)]
        if repeated:
            name = repeated[0].task
            raise ExperimentError(
                f"{name} has {states[name]} recorded initial states, so further episodes would repeat them and not be "
                f"independent; got {max(spec.episode for spec in repeated) + 1} episodes. Choose "
                f"--episodes {states[name]} or fewer."
            )
        return plan

    def to_dict(self) -> dict[str, Any]:
        """The experiment as plain JSON values."""
        plain: dict[str, Any] = json.loads(
            json.dumps(dataclasses.asdict(self) | {"protocol": self.protocol.to_dict()})
        )
        for later in (
            "forks",
            "executions",
            "prompt_sources",
            "design",
            "first",
        ):  # As written by versions without them.
            if not plain[later]:
                del plain[later]
        return plain

    def identity(self) -> dict[str, Any]:
        """`to_dict` with checkpoints named but not located: equal for two runs of one experiment on two machines.

        Without a batch size it is that of versions that had one by default, so that their run folders are found.
        That the checkpoints have the same content is for the fingerprints in the provenance to show.
        """
        batch_size = self.batch_size or ACCELERATOR_BATCH_SIZE
        return self.to_dict() | {
            "policies": list(map(policy_identity, self.policies)),
            "batch_size": batch_size,
        }

    @property
    def short_hash(self) -> str:
        """First eight hexadecimal digits of a hash of `identity`."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:8]


def with_checkpoint(experiment: Experiment, folder: Path) -> Experiment:
    """Add a checkpoint folder to the one policy of an experiment that has none.

    Raises:
      ExperimentError: If not exactly one policy lacks a checkpoint.
    """
    bare = list(filter(takes_checkpoint, experiment.policies))
    if len(bare) != 1:
        raise ExperimentError(
            f"--checkpoint names the weights of one policy; the experiment has {len(bare)} that could be meant "
            f"({', '.join(bare) or 'none'}). Write PRESET@FOLDER after --policies."
        )
    policies = tuple(f"{name}@{folder}" if name == bare[0] else name for name in experiment.policies)
    return dataclasses.replace(experiment, policies=policies)


_ADAPTER = TypeAdapter(Experiment)


def experiment_from_json(text: str, where: str) -> Experiment:
    """Parse an experiment. `bucket` is accepted for `batch_size`, as written by version 0.1.

    Raises:
      ExperimentError: If the text is no experiment or has unknown keys; `where` names it in the message.
    """
    try:
        content = parse_json(text, where, error=ExperimentError)
        if isinstance(content, dict) and "bucket" in content:
            content["batch_size"] = content.pop("bucket")
        return _ADAPTER.validate_json(json.dumps(content), strict=False)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}" for problem in error.errors()
        )
        raise ExperimentError(f"{where} is not an experiment this version can read: {problems}.") from error
