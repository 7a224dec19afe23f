"""Robot policies of the pi0 family, evaluated closed-loop in simulation."""

# Every command imports only what it needs, so that help comes at once.

from __future__ import annotations

import dataclasses
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from tyro.conf import Positional
from tyro.conf import arg as _arg
from tyro.extras import SubcommandApp

from harness.bench.commands import bench
from harness.resources import Resources
from policies.training.config import TrainConfig

if TYPE_CHECKING:
    from harness.experiment import Experiment

app = SubcommandApp()
app.command(
    bench, name="bench", help="Measure how fast parts of simloop are, beside what this machine could do."
)


def arg(metavar: str | None = None, default: str = "") -> object:
    """An option whose help says in words what stands for None."""
    return _arg(metavar=metavar, help_behavior_hint=default and f"(default: {default})")


INTERRUPTED = 130  # What shells expect of a command that ended by Ctrl-C.
MISUSED = 2


@app.command
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
    bucket: Annotated[int | None, arg("N", "4")] = None,
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
      bucket: Rows of every call of a policy worker, unused ones padded.
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
    from envs import registry
    from harness import experiments
    from harness.experiment import Experiment, ExperimentError, with_checkpoint
    from harness.perturbation import Perturbation
    from harness.policy_catalog import is_policy
    from harness.protocol import DEFAULT, named_protocol
    from harness.run import run as run_experiment
    from results.early_stopping import answer_sentence, answers
    from results.published import reproductions
    from results.runs import load_runs
    from results.tables import render as render_tables

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
        suite=suite, tasks=tasks, policies=policies, episodes=episodes, seed=seed, bucket=bucket, limit=limit
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
    for answer in answers(runs):
        console.print(answer_sentence(answer), highlight=False, markup=False)
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


@app.command
def table(
    runs: Annotated[Positional[tuple[str, ...]], arg("RUN [RUN ...]")],
    *,
    format: Literal["terminal", "md", "csv", "tex", "html"] = "terminal",
    only: Annotated[
        Literal["success", "latency", "time", "published", "perturbations"] | None,
        arg("{success,latency,time,published,perturbations}", "success and latency; as csv success"),
    ] = None,
    published: Annotated[Path | None, arg("FILE", "what simloop knows of")] = None,
) -> int:
    """Print the tables of one run or several, also while they are still running.

    Args:
      runs: Run folders, such as runs/demo. NAME=FOLDER puts NAME: before its policies, to set runs of the
        same policies side by side.
      format: Markdown, CSV, LaTeX (booktabs) or HTML for a document, or the terminal's own layout.
      only: One table alone; time has the steps to success, published sets our rates beside published ones,
        perturbations has the success left at every strength.
      published: Published rates, as CSV with the columns policy, tasks, rate, episodes, protocol, source.
    """
    from results.published import PUBLISHED, read_published
    from results.tables import render

    known = PUBLISHED if published is None else read_published(published)
    # Tables are wider than a terminal may be; a wrapped table is not a table.
    Console().print(render(list(runs), format, only, known), highlight=False, markup=False, soft_wrap=True)
    return 0


@app.command
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
    from harness.watch_status import show

    return show(run, Console(), follow=follow)


@app.command
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
    from harness.merge import merge as merge_runs
    from results.tables import write_tables

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


@app.command
def compare(
    policies: Annotated[Positional[tuple[str, ...]], arg("[POLICY ...]", "all of the runs")] = (),
    *,
    run: Annotated[tuple[str, ...], arg("RUN [RUN ...]")],
    margin: Annotated[float, arg("D")] = 0.02,
    alpha: Annotated[float, arg("A")] = 0.05,
    looked_at: Annotated[int | None, arg("N", "as many as the runs hold")] = None,
    by_task: bool = False,
) -> int:
    """Say in sentences which policies differ, which are equivalent, and what the episodes leave open.

    Examples:

      simloop compare pi0_libero@/a pi0_libero@/b --run runs/libero

      simloop compare before:expert after:expert --run before=runs/one after=runs/two

    Policies that met the same episodes are compared in pairs, others as strangers, which is said.

    Args:
      policies: Two or more policies, as the tables name them.
      run: Run folders; NAME=FOLDER puts NAME: before its policies.
      margin: Differences of success rates below this do not matter.
      alpha: How often, at most, any of all comparisons may find a difference that there is not.
      looked_at: Policies and checkpoints that were tried before these were chosen.
      by_task: Show every pair task by task, too.
    """
    from results.early_stopping import answer_sentence, answers
    from results.outcome_matrix import outcome_matrices
    from results.runs import load_runs
    from results.statements import comparison, task_grid
    from results.typesetting import to_text

    console, runs = Console(), load_runs(list(run))
    for answer in answers(runs):
        if not policies or {answer.a, answer.b} <= set(policies):
            console.print(f"{answer_sentence(answer)}\n", highlight=False, markup=False)
            console.print(
                "The run stopped by its rule: quote this, for p-values and intervals below suppose a number of "
                "episodes fixed beforehand.\n",
                highlight=False,
                markup=False,
            )
    for title, sentences, grid in comparison(runs, policies, margin=margin, alpha=alpha, looked_at=looked_at):
        console.print(title, style="bold", highlight=False, markup=False)
        for sentence in sentences:
            console.print(f"\n{sentence}", highlight=False, markup=False)
        console.print(f"\n{to_text(grid)}", highlight=False, markup=False, soft_wrap=True)
    if by_task:
        for outcomes in outcome_matrices(runs.episodes, policies or runs.policies).values():
            for a, b in itertools.combinations(outcomes.policies, 2):
                text = to_text(task_grid(outcomes, a, b))
                console.print(text, highlight=False, markup=False, soft_wrap=True)
    return 0


@app.command
def report(
    runs: Annotated[Positional[tuple[str, ...]], arg("RUN [RUN ...]")],
    *,
    out: Annotated[Path | None, arg("DIR", "report/ in the first run")] = None,
    margin: Annotated[float, arg("D")] = 0.02,
    alpha: Annotated[float, arg("A")] = 0.05,
    looked_at: Annotated[int | None, arg("N", "as many as the runs hold")] = None,
) -> int:
    """Write a folder with a page that opens from disk: the answer, tables, figures, every video, methods.

    Args:
      runs: Run folders; NAME=FOLDER puts NAME: before its policies.
      out: Folder of the report; an earlier report in it is replaced.
      margin: Differences of success rates below this do not matter.
      alpha: How often, at most, any of all comparisons may find a difference that there is not.
      looked_at: Policies and checkpoints that were tried before these were chosen.
    """
    from results.report import write_report
    from results.runs import Source

    folder = out or Source.parse(runs[0]).folder / "report"
    page = write_report(list(runs), folder, margin=margin, alpha=alpha, looked_at=looked_at)
    Console().print(f"Open {page} in a browser.", highlight=False, markup=False, soft_wrap=True)
    return 0


@app.command
def plan(
    *,
    difference: Annotated[float | None, arg("D", "a table of what can be found")] = None,
    episodes: Annotated[tuple[int, ...] | None, arg("N [N ...]", "10 to 2000")] = None,
    base: Annotated[float, arg("P")] = 0.9,
    tasks: Annotated[int, arg("N")] = 1,
    policies: Annotated[int, arg("N")] = 2,
    correlation: Annotated[float, arg("R")] = 0.15,
    power: Annotated[float, arg("P")] = 0.8,
    alpha: Annotated[float, arg("A")] = 0.05,
    margin: Annotated[float, arg("D")] = 0.02,
) -> int:
    """Say how many episodes a difference takes, or what so many can find, before anything is run.

    Examples:

      simloop plan --base 0.9 --difference 0.05 --tasks 10

      simloop plan --base 0.9 --episodes 500

    Args:
      difference: Difference of success rates that is to be found, such as 0.05.
      episodes: Episodes per policy, over all tasks, of which to say what they can find.
      base: Success rate of the better policy.
      tasks: Tasks among which the episodes are divided.
      policies: Policies that will be compared; all pairs share alpha.
      correlation: Of the outcomes of two policies in the same episode. 0.15 is usual between different policies;
        the same weights under another engine have more.
      power: How often a difference that is there is to be found.
      alpha: How often, at most, any comparison may find a difference that is not there.
      margin: Differences below this do not matter: policies that differ by less are equivalent.
    """
    from results.contrasts import family_size
    from results.errors import ResultsError
    from results.sample_size import Design
    from results.sample_size_table import EPISODES, detectable_grid, difference_grid, equivalence_grid
    from results.typesetting import to_text

    if tasks < 1 or policies < 2 or min(episodes or (1,)) < 1 or not 0 < margin < 1:
        raise ResultsError(
            "Wanted at least 1 task, 2 policies, 1 episode and a margin in (0, 1); got "
            f"--tasks {tasks} --policies {policies} --episodes {episodes} --margin {margin}."
        )
    design = Design(base, correlation, alpha, power, family_size(policies))
    grids = []
    if difference is not None:
        grids.append(difference_grid(design, difference, tasks))
    if difference is None or episodes:
        grids.append(detectable_grid(design, episodes or EPISODES))
    grids.append(equivalence_grid(design, margin, tasks))
    for grid in grids:
        Console().print(to_text(grid), highlight=False, markup=False, soft_wrap=True)
    return 0


@app.command
def collect(
    *,
    out: Annotated[Path, arg("DIR")],
    suite: Annotated[str, arg("S")] = "metaworld",
    tasks: Annotated[tuple[str, ...], arg("T [T ...]")] = ("MT10",),
    episodes: Annotated[int, arg("N")] = 50,
    seed: Annotated[int, arg("S")] = 0,
    robot: Annotated[str, arg("R")] = "metaworld_hand",
    cameras: Annotated[tuple[str, ...], arg("C [C ...]", "all of the robot's")] = (),
    image_size: Annotated[int, arg("N")] = 96,
    noise: Annotated[float, arg("X")] = 0.0,
    roll_in: Annotated[str, arg("P[@DIR]", "nobody")] = "",
    roll_in_steps: Annotated[int, arg("N")] = 150,
    keep_failures: bool = False,
    render: Literal["official", "fast"] = "fast",
    resources: Annotated[Resources, _arg(name="")] = Resources(),  # noqa: B008
) -> int:
    """Record demonstrations of scripted experts as a LeRobotDataset.

    Example:

      simloop collect --tasks MT10 --episodes 50 --noise 0.2 --out runs/mt10-demonstrations

    Ctrl-C keeps what is done; the same command goes on from there. Runs refuse to test a policy on the
    initial states that it was trained on.

    Args:
      out: Folder of the dataset; must not exist.
      suite: Suite of the tasks.
      tasks: Tasks or groups of tasks (simloop list tasks).
      episodes: Demonstrations per task.
      seed: Root of the initial states, which are other ones than those of runs.
      robot: Robot convention of cameras and state.
      cameras: Model camera names, such as base_0_rgb.
      image_size: Height and width of the frames.
      noise: Standard deviation of the noise on executed actions, in half ranges; 0.1 to 0.3 makes policies
        sturdier. What is recorded is what the expert would have done.
      roll_in: Policy that plays first in every episode, so that the expert shows the way back from where that
        policy gets to (DAgger). Its own steps are not recorded.
      roll_in_steps: It plays for 0 to N steps, every number as likely.
      keep_failures: Keep attempts that did not succeed as well.
      render: As in runs.
    """
    from envs.interface import RenderSettings
    from harness.collect import Collection
    from harness.collect import collect as collect_demonstrations

    wanted = Collection(
        suite,
        tasks,
        episodes,
        seed,
        robot,
        cameras,
        image_size,
        noise,
        keep_failures,
        RenderSettings(render),
        roll_in=roll_in,
        roll_in_steps=roll_in_steps,
    )
    console = Console()
    folder = collect_demonstrations(wanted, out, resources, console)
    console.print(f"The dataset is in {folder}.", highlight=False, soft_wrap=True)
    return 0


@app.command
def train(
    config: Annotated[TrainConfig, _arg(name="")],
    *,
    eval_every: Annotated[int | None, arg("N", "never")] = None,
    eval_suite: Annotated[str, arg("S")] = "metaworld",
    eval_tasks: Annotated[tuple[str, ...], arg("T [T ...]")] = ("MT10",),
    eval_episodes: Annotated[int, arg("N")] = 5,
) -> int:
    """Train a policy on demonstrations; `python -m policies.training` does the same without simulators.

    Example:

      simloop train --preset pi0-tiny --data runs/mt10-demonstrations --out runs/pi0-tiny

    Ctrl-C or a kill loses what came after the last checkpoint; the same command goes on from there.

    Args:
      eval_every: Steps between two closed-loop evaluations of the averaged weights.
      eval_suite: Suite of these evaluations.
      eval_tasks: Tasks of these evaluations.
      eval_episodes: Episodes per task in each of them.
    """
    from harness.train import train as train_policy

    train_policy(config, eval_every, eval_suite, eval_tasks, eval_episodes, Console())
    return 0


@app.command(name="list")
def list_(
    what: Positional[Literal["suites", "tasks", "protocols", "policies", "experiments", "perturbations"]],
) -> int:
    """Show what can be named in a run.

    Args:
      what: Which kind of name.
    """
    from harness import listing

    listing.show(what, Console())
    return 0


@app.command
def doctor(*, suite: Annotated[tuple[str, ...], arg("S [S ...]", "the machine itself")] = ()) -> int:
    """Check this machine, a line per thing: what works, and what to do about what does not.

    Args:
      suite: Compare pictures and states of these suites with those that come with simloop, instead.
    """
    from harness import doctor

    return doctor.main(Console(), suite)


@app.command
def parity(
    golden_dir: Annotated[Positional[Path], arg("GOLDEN_DIR")],
    *,
    only: Annotated[str | None, arg("NAME")] = None,
) -> int:
    """Compare the models with recorded outputs of the reference, array by array.

    Args:
      golden_dir: Folder with cases.json and the recordings it names (it may hold only some of them).
      only: Run only the cases and files whose name contains this.
    """
    from harness.parity.run import main as run_parity

    return run_parity(golden_dir, only)


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _shard(text: str) -> tuple[int, int]:
    """Both numbers of I/N."""
    from harness.experiment import ExperimentError

    part, slash, parts = text.partition("/")
    if not (slash and part.isdigit() and parts.isdigit()):
        raise ExperimentError(f"--shard takes I/N, such as 1/3 for the first of three parts; got {text!r}.")
    return int(part), int(parts)


def _until_decided(experiment: Experiment, rule: dict[str, Any], episodes: int | None) -> Experiment:
    """The experiment with a stopping rule, and as many episodes per task as the rule may need."""
    from harness.experiment import ExperimentError
    from results.sequential import StoppingRule

    tasks = len(experiment.task_specs())
    if episodes is not None:
        rule["max_pairs"] = min(rule.get("max_pairs", episodes * tasks), episodes * tasks)
    try:
        stopping = StoppingRule(**rule)
    except ValueError as error:
        raise ExperimentError(str(error)) from error
    per_task = -(-stopping.max_pairs // tasks)
    return dataclasses.replace(experiment, stopping=stopping, episodes=per_task)


def main() -> None:
    """Entry point: what a user did wrong is said in a sentence, without a trace of our insides."""
    try:
        sys.exit(app.cli(prog="simloop", description=__doc__, config=(tyro.conf.AvoidSubcommands,)))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not isinstance(error, _spoken_errors()):
            raise
        Console(stderr=True).print(f"simloop: {error}", highlight=False, markup=False, soft_wrap=True)
        sys.exit(MISUSED)


def _spoken_errors() -> tuple[type[Exception], ...]:
    """Errors whose text is written for the person at the keyboard. Imported when there is one."""
    from envs.interface import SuiteNotInstalledError
    from envs.registry import UnknownNameError
    from envs.rendering import RenderingError
    from harness.errors import SimloopError
    from policies.bench.config import BenchError
    from policies.presets import UnknownPresetError
    from policies.training.errors import TrainingError
    from policies.training.layout import DatasetError
    from results.errors import ResultsError
    from results.ledger import LedgerError

    spoken = (SimloopError, LedgerError, ResultsError, RenderingError, UnknownNameError)
    return (*spoken, TrainingError, DatasetError, SuiteNotInstalledError, BenchError, UnknownPresetError)
