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

from policies.bench.config import BenchConfig
from policies.training.config import TrainConfig

if TYPE_CHECKING:
    from harness.experiment import Experiment

app = SubcommandApp()
bench = SubcommandApp()
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
    names: Annotated[Positional[tuple[str, ...]], arg("[EXPERIMENT | POLICY POLICY ...]", "")] = (),
    *,
    suite: Annotated[str | None, arg("S", "metaworld")] = None,
    tasks: Annotated[tuple[str, ...] | None, arg("T [T ...]", "MT10")] = None,
    policies: Annotated[tuple[str, ...] | None, arg("P [P ...]", "")] = None,
    episodes: Annotated[int | None, arg("N", "10")] = None,
    seed: Annotated[int | None, arg("S", "0")] = None,
    replan_steps: Annotated[int | None, arg("N", "10")] = None,
    max_steps: Annotated[int | None, arg("N", "the task's own")] = None,
    render: Annotated[Literal["official", "fast"] | None, arg("{official,fast}", "fast")] = None,
    undecodable: Annotated[
        Literal["end_episode", "hold"] | None, arg("{end_episode,hold}", "end_episode")
    ] = None,
    bucket: Annotated[int | None, arg("N", "4")] = None,
    until_decided: bool = False,
    alpha: Annotated[float | None, arg("A", "0.05")] = None,
    margin: Annotated[float | None, arg("D", "0.02")] = None,
    max_episodes: Annotated[int | None, arg("N", "2000")] = None,
    env_actors: Annotated[int | None, arg("N", "one per core")] = None,
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

      simloop run pi0_libero@/a pi0_libero@/b --until-decided --max-episodes 500

    Ctrl-C keeps what is done; the same command goes on from there.

    Args:
      names: Name of an experiment (simloop list experiments), of which options override parts; or two policies
        or more, like --policies.
      suite: Suite of the tasks (simloop list suites); metaworld unless the experiment says otherwise.
      tasks: Tasks or groups of tasks such as MT10 (simloop list tasks).
      policies: Policies (simloop list policies), or PRESET@FOLDER for the weights of a checkpoint.
      episodes: Episodes per task and policy.
      seed: Root of all initial states and of all noise. The same for every policy, so episodes are paired.
      replan_steps: Actions of a chunk that are executed before the policy is asked again.
      max_steps: Control steps per episode; the task's own limit unless given.
      render: official is the suite's own picture quality; fast is without shadows and multisampling.
      undecodable: What follows tokens that spell no action: the episode fails, or the robot holds still.
      bucket: Rows of every call of a policy worker, unused ones padded.
      until_decided: Compare two policies pair by pair, tasks mixed, and stop as soon as they are found to differ or
        to be equivalent, or neither by --max-episodes. The rule is written down before the first episode.
      alpha: With --until-decided: how often, at most, equal policies are said to differ, however often one looks.
      margin: With --until-decided: differences of success rates below this do not matter.
      max_episodes: With --until-decided: at most so many episodes per policy, over all tasks.
      env_actors: Simulators running at once; one per core unless given. Does not change results.
      video_every: Control steps between two frames of the videos.
      video: Whether to write a video of every episode.
      allow_training_seeds: Play initial states that a policy was trained on, which is refused otherwise.
      out: Run folder; runs/<experiment> unless given.
    """
    from harness.engine import Resources
    from harness.experiment import Experiment, ExperimentError
    from harness.experiments import find
    from harness.protocol import Protocol
    from harness.run import run as run_experiment
    from results.early_stopping import answer_sentence, answers
    from results.runs import load_runs
    from results.tables import render as render_tables

    if len(names) > 1:
        if policies:
            raise ExperimentError("Policies are named twice: give them either first or after --policies.")
        policies = names
    if len(names) == 1:
        chosen = named = find(names[0])
    elif not policies:
        raise ExperimentError(
            "Nothing to run: name an experiment (simloop list experiments) or give --policies (simloop list policies)."
        )
    else:
        named = None
        chosen = Experiment(
            name="", suite=suite or "metaworld", tasks=("MT10",), policies=policies, episodes=10,
            protocol=Protocol(suite or "metaworld"),
        )  # fmt: skip
    protocol = dataclasses.replace(chosen.protocol, suite=suite or chosen.suite)
    rules = _given(replan_steps=replan_steps, max_steps=max_steps, undecodable=undecodable)
    protocol = dataclasses.replace(protocol, **rules)
    if render is not None:
        protocol = dataclasses.replace(protocol, render=dataclasses.replace(protocol.render, profile=render))
    overrides = _given(
        suite=suite, tasks=tasks, policies=policies, episodes=episodes, seed=seed, bucket=bucket
    )
    chosen = dataclasses.replace(chosen, protocol=protocol, **overrides)
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
        Resources(env_actors=env_actors),
        video_every if video else None,
        console,
        allow_training_seeds=allow_training_seeds,
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
    for answer in answers(load_runs(result.folder)):
        console.print(answer_sentence(answer), highlight=False, markup=False)
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
        Literal["success", "latency", "time", "published"] | None,
        arg("{success,latency,time,published}", "success and latency; as csv success"),
    ] = None,
    published: Annotated[Path | None, arg("FILE", "what simloop knows of")] = None,
) -> int:
    """Print the tables of one run or several, also while they are still running.

    Args:
      runs: Run folders, such as runs/demo. NAME=FOLDER puts NAME: before its policies, to set runs of the
        same policies side by side.
      format: Markdown, CSV, LaTeX (booktabs) or HTML for a document, or the terminal's own layout.
      only: One table alone; time has the steps to success, published sets our rates beside published ones.
      published: Published rates, as CSV with the columns policy, tasks, rate, episodes, protocol, source.
    """
    from results.published import PUBLISHED, read_published
    from results.tables import render

    known = PUBLISHED if published is None else read_published(published)
    # Tables are wider than a terminal may be; a wrapped table is not a table.
    Console().print(render(list(runs), format, only, known), highlight=False, markup=False, soft_wrap=True)
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
    robot: Annotated[str, arg("R")] = "metaworld",
    cameras: Annotated[tuple[str, ...], arg("C [C ...]", "all of the robot's")] = (),
    image_size: Annotated[int, arg("N")] = 96,
    noise: Annotated[float, arg("X")] = 0.0,
    keep_failures: bool = False,
    render: Literal["official", "fast"] = "fast",
    env_actors: Annotated[int | None, arg("N", "one per core")] = None,
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
      keep_failures: Keep attempts that did not succeed as well.
      render: As in runs.
      env_actors: Simulators running at once. Does not change the dataset.
    """
    from envs.interface import RenderSettings
    from harness.collect import Collection
    from harness.collect import collect as collect_demonstrations
    from harness.engine import Resources

    wanted = Collection(
        suite, tasks, episodes, seed, robot, cameras, image_size, noise, keep_failures, RenderSettings(render)
    )
    console = Console()
    folder = collect_demonstrations(wanted, out, Resources(env_actors=env_actors), console)
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
def list_(what: Positional[Literal["suites", "tasks", "policies", "experiments"]]) -> int:
    """Show what can be named in a run.

    Args:
      what: Which kind of name.
    """
    from harness import listing

    listing.show(what, Console())
    return 0


@app.command
def doctor() -> int:
    """Check this machine, a line per thing: what works, and what to do about what does not."""
    from harness import doctor

    return doctor.main(Console())


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


@bench.command(name="policy")
def bench_policy(
    preset: Annotated[Positional[str], arg("PRESET")],
    config: Annotated[BenchConfig, _arg(name="")],
) -> int:
    """Measure how fast a policy answers; `python -m policies.bench` does the same with JAX and flax alone.

    Example:

      simloop bench policy pi05_libero --random-weights --batches 1 8 32

    Prints, as Markdown, latency and throughput by batch size, and each stage beside the least time that it
    takes on this device and the FLOPs that XLA counts in it.

    Args:
      preset: Which policy, such as pi0-tiny.
    """
    from policies.bench.command import bench as bench_preset

    return bench_preset(preset, config)


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
    return (*spoken, TrainingError, DatasetError, BenchError, UnknownPresetError)
