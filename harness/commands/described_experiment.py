"""The experiment that the options of `simloop run` and its relatives describe."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simloop.harness.commands.run import RunOptions
    from simloop.harness.planning.experiment import Experiment
    from simloop.harness.planning.protocol import Protocol


def build_experiment(options: RunOptions, given: Experiment | None = None) -> tuple[Experiment, Path]:
    """Build the experiment that the options describe, and choose its run folder.

    Args:
      given: An experiment from a file, whose parts the options override.

    Raises:
      SimloopError: If the options contradict each other or name something unknown.
    """
    from simloop.envs import registry
    from simloop.harness import experiments
    from simloop.harness.planning.experiment import Experiment, ExperimentError, with_checkpoint
    from simloop.harness.planning.own_suites import use_suite
    from simloop.harness.planning.policy_names import is_policy
    from simloop.harness.planning.protocol import named_protocol

    options = dataclasses.replace(options, suite=options.suite and use_suite(options.suite))
    names, policies, suite = options.names, options.policies, options.suite
    named: Experiment | None = given
    if given is not None:
        chosen = given
    elif len(names) == 1 and (names[0] in experiments.names() or not is_policy(names[0])):
        _refuse_tasks(names, suite or "metaworld")
        chosen = named = experiments.find(names[0])
    else:
        if names and policies:
            raise ExperimentError("Policies are named twice: give them either first or after --policies.")
        policies = names or policies
        if not policies:
            raise ExperimentError(
                "Nothing to run: name an experiment (simloop list experiments) or give --policies (simloop list "
                "policies)."
            )
        suite = suite or "metaworld"
        _refuse_tasks(policies, suite)
        tasks = (registry.suite(suite).default_group,)
        chosen = Experiment("", suite, tasks, policies, episodes=10, protocol=named_protocol(suite))
    overrides = _given(
        suite=suite,
        tasks=options.tasks,
        policies=policies,
        episodes=options.episodes,
        seed=options.seed,
        batch_size=options.batch_size,
        limit=options.limit,
        executions=_several(options.executions()),
        prompt_sources=_several(options.prompt_source),
    )
    chosen = dataclasses.replace(chosen, protocol=_protocol(options, chosen), **overrides)
    if options.checkpoint is not None:
        chosen = with_checkpoint(chosen, options.checkpoint)
    rule = _given(alpha=options.alpha, margin=options.margin, max_pairs=options.max_episodes)
    if options.until_decided:
        chosen = _until_decided(chosen, rule, options.episodes)
    elif rule:
        raise ExperimentError("--alpha, --margin and --max-episodes belong to --until-decided.")
    default = chosen.name if chosen == named else f"{chosen.name or chosen.suite}-{chosen.short_hash}"
    return chosen, options.out or Path("runs") / default


def _protocol(options: RunOptions, experiment: Experiment) -> Protocol:
    from simloop.harness.adapters.adapter_file import use_adapter_file
    from simloop.harness.planning.paraphrases import Paraphrases
    from simloop.harness.planning.perturbation import Perturbation
    from simloop.harness.planning.protocol import DEFAULT, named_protocol

    protocol = experiment.protocol
    if options.protocol is not None or options.suite not in (None, experiment.suite):
        protocol = named_protocol(options.suite or experiment.suite, options.protocol or DEFAULT)
    if options.render is not None:
        profile = dataclasses.replace(protocol.render, profile=options.render)
        protocol = dataclasses.replace(protocol, render=profile)
    overrides = _given(
        replan_steps=options.replan_steps,
        max_steps=options.max_steps,
        undecodable=options.undecodable,
        perturbations=tuple(map(Perturbation.parse, options.perturb)) or None,
        paraphrases=None if options.paraphrases is None else Paraphrases.read(options.paraphrases),
        adapter=use_adapter_file(options.adapter) or None,
        execution=next(iter(options.executions()), None),
        prompt_source=next(iter(options.prompt_source), None),
    )
    return dataclasses.replace(protocol, **overrides)


def _refuse_tasks(names: tuple[str, ...], suite: str) -> None:
    """Raise `ExperimentError` if a name in the place of a policy or experiment is that of a task."""
    from simloop.envs.plugins import UnknownNameError
    from simloop.envs.registry import resolve_tasks
    from simloop.harness import experiments
    from simloop.harness.planning.experiment import ExperimentError
    from simloop.harness.planning.policy_names import is_policy

    for name in names:
        if is_policy(name) or name in experiments.names():
            continue
        try:
            resolve_tasks(suite, [name])
        except UnknownNameError:
            continue
        others = [other for other in names if other != name] or ["expert"]
        raise ExperimentError(
            f"{name!r} names tasks of {suite}, not a policy or an experiment. Name tasks after --tasks, as in: "
            f"simloop run {' '.join(others)} --tasks {name}"
        )


def _until_decided(experiment: Experiment, rule: dict[str, Any], episodes: int | None) -> Experiment:
    """Add a stopping rule, and as many episodes per task as the rule may need."""
    from simloop.harness.planning.experiment import ExperimentError
    from simloop.results.statistics.sequential import StoppingRule

    specs = experiment.task_specs()
    tasks = len(specs)
    recorded = [spec.initial_states for spec in specs if spec.initial_states is not None]
    if episodes is None and recorded:  # Further episodes would repeat initial states.
        rule.setdefault("max_pairs", min(StoppingRule().max_pairs, tasks * min(recorded)))
    if episodes is not None:
        rule["max_pairs"] = min(rule.get("max_pairs", episodes * tasks), episodes * tasks)
    try:
        stopping = StoppingRule(**rule)
    except ValueError as error:
        raise ExperimentError(str(error)) from error
    per_task = -(-stopping.max_pairs // tasks)
    return dataclasses.replace(experiment, stopping=stopping, episodes=per_task)


def _several(values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """What replaces the variants of an experiment: None, which keeps them, if no value is given."""
    return (values if len(values) > 1 else ()) if values else None


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}
