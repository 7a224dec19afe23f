"""Commands that play episodes, and look after those who do."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.console import Console
from tyro.conf import Positional
from tyro.conf import arg as _arg

from simloop.harness.commands.options import INTERRUPTED, arg
from simloop.harness.engine.resources import Resources

if TYPE_CHECKING:
    from simloop.harness.planning.experiment import Experiment


def run(
    names: Annotated[Positional[tuple[str, ...]], arg("[EXPERIMENT | POLICY ...]", "")] = (),
    *,
    suite: Annotated[str | None, arg("S", "metaworld")] = None,
    tasks: Annotated[tuple[str, ...] | None, arg("T [T ...]", "the suite's, such as MT10")] = None,
    policies: Annotated[tuple[str, ...] | None, arg("P [P ...]", "")] = None,
    checkpoint: Annotated[Path | None, arg("DIR", "")] = None,
    episodes: Annotated[int | None, arg("N", "10")] = None,
    limit: Annotated[int | None, arg("N", "all episodes")] = None,
    seed: Annotated[int | None, arg("S", "0")] = None,
    protocol: Annotated[str | None, arg("NAME", "default-v1")] = None,
    replan_steps: Annotated[int | None, arg("N", "10")] = None,
    max_steps: Annotated[int | None, arg("N", "the task's own")] = None,
    render: Annotated[Literal["official", "fast"] | None, arg("{official,fast}", "fast")] = None,
    undecodable: Annotated[
        Literal["end_episode", "hold"] | None, arg("{end_episode,hold}", "end_episode")
    ] = None,
    perturb: Annotated[str | None, arg("KIND=S", "nothing")] = None,
    batch_size: Annotated[int | None, arg("N", "4")] = None,
    until_decided: bool = False,
    alpha: Annotated[float | None, arg("A", "0.05")] = None,
    margin: Annotated[float | None, arg("D", "0.02")] = None,
    max_episodes: Annotated[int | None, arg("N", "2000")] = None,
    resources: Annotated[Resources, _arg(name="")] = Resources(),  # noqa: B008
    shard: Annotated[str, arg("I/N", "all of it")] = "1/1",
    throughput: bool = False,
    watch: Annotated[tuple[str, ...], arg("DASHBOARD [...]", "none")] = (),
    video_every: Annotated[int, arg("N", "10")] = 10,
    video: bool = True,
    allow_training_seeds: bool = False,
    out: Annotated[Path | None, arg("DIR", "runs/<experiment>")] = None,
) -> int:
    """Play episodes and write records, videos and tables into a run folder.

    Examples:

      simloop run demo                                    an experiment that ships with simloop

      simloop run --tasks MT10 --policies expert pi0-tiny --episodes 20

      simloop run --tasks reach push --policies pi0_libero@/ckpt/pi0_libero/29999

      simloop run pi05_libero_spatial --checkpoint /ckpt/pi05_libero           a published number

      simloop run pi0_libero@/a pi0_libero@/b --until-decided --max-episodes 500

    Ctrl-C keeps what is done; the same command goes on from there.

    Args:
      names: Name of an experiment (simloop list experiments), of which options override parts; or of policies,
        like --policies.
      suite: Suite of the tasks (simloop list suites); metaworld unless the experiment says otherwise.
      tasks: Tasks or groups of tasks such as MT10 (simloop list tasks).
      policies: Policies (simloop list policies), or PRESET@FOLDER for the weights of a checkpoint.
      checkpoint: Folder with the weights of the experiment's policy, as PRESET@FOLDER would say.
      episodes: Episodes per task and policy.
      limit: Play only the first episodes of each policy, to see whether an experiment works.
      seed: Root of all initial states and of all noise. The same for every policy, so episodes are paired.
      protocol: Named rules (simloop list protocols), of which the next four options override parts.
      replan_steps: Actions of a chunk that are executed before the policy is asked again.
      max_steps: Control steps per episode; the task's own limit unless given.
      render: official is the suite's own picture quality; fast is without shadows and multisampling.
      undecodable: What follows tokens that spell no action: the episode fails, or the robot holds still.
      perturb: Disturb what policies see or do on purpose, such as camera-noise=0.1 (simloop list perturbations).
        Runs at several strengths make a curve: simloop table RUN [RUN ...] --only perturbations.
      batch_size: Rows of every call of a policy worker, unused ones padded.
      until_decided: Compare two policies pair by pair, tasks mixed, and stop as soon as they are found to differ or
        to be equivalent, or neither by --max-episodes. The rule is written down before the first episode.
      alpha: With --until-decided: how often, at most, equal policies are said to differ, however often one looks.
      margin: With --until-decided: differences of success rates below this do not matter.
      max_episodes: With --until-decided: at most so many episodes per policy, over all tasks.
      shard: Play the I-th of N parts of the plan, each into a folder of its own, on as many machines as there
        are; simloop merge joins them.
      throughput: Let batches have as many rows as there are queries. Faster; but what a policy answers then
        depends, by rounding, on what else was waiting, so that no other run gives the same records.
      watch: Dashboards to report to: tensorboard, wandb, prometheus[:PORT].
      video_every: Control steps between two frames of the videos.
      video: Whether to write a video of every episode.
      allow_training_seeds: Play initial states that a policy was trained on, which is refused otherwise.
      out: Run folder; runs/<experiment> unless given.
    """
    from simloop.envs import registry
    from simloop.harness import experiments
    from simloop.harness.planning.experiment import Experiment, ExperimentError, with_checkpoint
    from simloop.harness.planning.perturbation import Perturbation
    from simloop.harness.planning.policy_names import is_policy
    from simloop.harness.planning.protocol import DEFAULT, named_protocol
    from simloop.harness.run import run as run_experiment
    from simloop.results.records.runs import load_runs
    from simloop.results.statistics.early_stopping import sequential_decisions
    from simloop.results.tables.decisions import decision_sentence
    from simloop.results.tables.published import reproductions
    from simloop.results.tables.run_tables import render as render_tables

    one_policy = len(names) == 1 and names[0] not in experiments.names() and is_policy(names[0])
    if len(names) > 1 or one_policy:
        if policies:
            raise ExperimentError("Policies are named twice: give them either first or after --policies.")
        policies = names
    if len(names) == 1 and not one_policy:
        chosen = named = experiments.find(names[0])
    elif not policies:
        raise ExperimentError(
            "Nothing to run: name an experiment (simloop list experiments) or give --policies (simloop list policies)."
        )
    else:
        named, suite = None, suite or "metaworld"
        chosen = Experiment(
            name="", suite=suite, tasks=(registry.suite(suite).default_group,), policies=policies, episodes=10,
            protocol=named_protocol(suite),
        )  # fmt: skip
    rules = chosen.protocol
    if protocol is not None or suite not in (None, chosen.suite):
        rules = named_protocol(suite or chosen.suite, protocol or DEFAULT)
    perturbation = Perturbation.parse(perturb) if perturb is not None else None
    overridden = _given(
        replan_steps=replan_steps, max_steps=max_steps, undecodable=undecodable, perturbation=perturbation
    )
    rules = dataclasses.replace(rules, **overridden)
    if render is not None:
        rules = dataclasses.replace(rules, render=dataclasses.replace(rules.render, profile=render))
    overrides = _given(
        suite=suite,
        tasks=tasks,
        policies=policies,
        episodes=episodes,
        seed=seed,
        batch_size=batch_size,
        limit=limit,
    )
    chosen = dataclasses.replace(chosen, protocol=rules, **overrides)
    if checkpoint is not None:
        chosen = with_checkpoint(chosen, checkpoint)
    rule = _given(alpha=alpha, margin=margin, max_pairs=max_episodes)
    if until_decided:
        chosen = _until_decided(chosen, rule, episodes)
    elif rule:
        raise ExperimentError("--alpha, --margin and --max-episodes belong to --until-decided.")
    if out is None:
        out = Path("runs") / (
            chosen.name if chosen == named else f"{chosen.name or chosen.suite}-{chosen.short_hash}"
        )

    console = Console()
    result = run_experiment(
        chosen,
        out,
        resources,
        video_every if video else None,
        console,
        allow_training_seeds=allow_training_seeds,
        throughput=throughput,
        watch=watch,
        shard=_shard(shard),
    )
    console.print(render_tables(result.folder, "terminal"), highlight=False, markup=False, soft_wrap=True)
    command = " ".join(["simloop", *sys.argv[1:]])
    if result.interrupted:
        console.print(
            f"Interrupted: {result.episodes} of {result.planned} episodes are kept in {result.folder}. "
            f"To go on: {command}",
            highlight=False,
            soft_wrap=True,
        )
        return INTERRUPTED
    runs = load_runs(result.folder)
    for answer in sequential_decisions(runs):
        console.print(decision_sentence(answer), highlight=False, markup=False)
    if reproductions(runs):
        console.print(
            render_tables(result.folder, "terminal", "published"),
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    console.print(
        f"{result.episodes} episodes are in {result.folder}: episodes.jsonl, queries.jsonl, videos/, "
        f"success.md, latency.md (also .csv and .tex). Again: simloop table {result.folder}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def status(
    run: Annotated[Positional[Path], arg("RUN")],
    *,
    follow: bool = False,
) -> int:
    """Say how far a run is, from any terminal: success so far, episodes per hour, time left, who is busy.

    The same figures are in RUN/status.json, and a line per minute of them in RUN/figures.jsonl.

    Args:
      run: A run folder, such as runs/demo, while the run goes on or after it.
      follow: Go on showing until the run has ended or Ctrl-C is pressed.
    """
    from simloop.harness.recording.show_status import show

    return show(run, Console(), follow=follow)


def merge(
    runs: Annotated[Positional[tuple[Path, ...]], arg("RUN [RUN ...]")],
    *,
    out: Annotated[Path, arg("DIR")],
) -> int:
    """Join run folders of several machines into a new one. Nothing is counted twice, nothing unlike is mixed.

    Example, after each of two machines has played its half:

      simloop run libero --shard 1/2 --out runs/a         simloop run libero --shard 2/2 --out runs/b

      simloop merge runs/a runs/b --out runs/libero

    Runs of different experiments, software, weights or statistics are refused, and so are runs that disagree
    about an episode which both have played.

    Args:
      runs: Run folders; they are only read.
      out: Folder of the joined run; must not exist. simloop run goes on with it if episodes are missing.
    """
    from simloop.harness.recording.merge import merge as merge_runs
    from simloop.results.tables.run_tables import write_tables

    merged = merge_runs(runs, out)
    write_tables(out)
    doubles = f"; {merged.doubles} were in several folders and count once" if merged.doubles else ""
    Console().print(
        f"{merged.episodes} of {merged.planned} planned episodes are in {out}{doubles}.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return 0


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _shard(text: str) -> tuple[int, int]:
    """Both numbers of I/N."""
    from simloop.harness.planning.experiment import ExperimentError

    part, slash, parts = text.partition("/")
    if not (slash and part.isdigit() and parts.isdigit()):
        raise ExperimentError(f"--shard takes I/N, such as 1/3 for the first of three parts; got {text!r}.")
    return int(part), int(parts)


def _until_decided(experiment: Experiment, rule: dict[str, Any], episodes: int | None) -> Experiment:
    """The experiment with a stopping rule, and as many episodes per task as the rule may need."""
    from simloop.harness.planning.experiment import ExperimentError
    from simloop.results.statistics.sequential import StoppingRule

    tasks = len(experiment.task_specs())
    if episodes is not None:
        rule["max_pairs"] = min(rule.get("max_pairs", episodes * tasks), episodes * tasks)
    try:
        stopping = StoppingRule(**rule)
    except ValueError as error:
        raise ExperimentError(str(error)) from error
    per_task = -(-stopping.max_pairs // tasks)
    return dataclasses.replace(experiment, stopping=stopping, episodes=per_task)
