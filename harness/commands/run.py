"""`simloop run`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Console
from tyro.conf import Positional

from simloop.harness.commands.described_experiment import build_experiment
from simloop.harness.commands.options import FLAT, arg, interrupted, say
from simloop.harness.engine.resources import Resources
from simloop.results.tables.options import DEFAULT_OPTIONS, TableOptions
from simloop.terminal import Terminal

if TYPE_CHECKING:
    import pandas

    from simloop.harness.planning.execution import Execution
    from simloop.harness.planning.experiment import Experiment
    from simloop.harness.preparation import RunSettings
    from simloop.harness.run import RunResult

NOTHING_COMPLETED = 1
"""Exit status of a run in which every episode ended with an error."""


@dataclass(frozen=True)
class RunOptions:
    """Options of `simloop run` beside those of the engine. None leaves the value of the experiment."""

    names: Annotated[Positional[tuple[str, ...]], arg("[EXPERIMENT | POLICY ...]", "")] = ()
    """An experiment (simloop list experiments), or a file FILE.toml or FILE.py with one, whose parts the options
    override, or policies."""
    suite: Annotated[str | None, arg("S", "metaworld")] = None
    """Suite of the tasks (simloop list suites), or one of your own: FILE.py:CLASS, or gym:ENVIRONMENT."""
    tasks: Annotated[
        tuple[str, ...] | None, arg("T [T ...]", "the default group of the suite, such as MT10")
    ] = None
    """Tasks or groups of tasks (simloop list tasks)."""
    policies: Annotated[tuple[str, ...] | None, arg("P [P ...]", "")] = None
    """Policies (simloop list policies), PRESET@FOLDER for the weights of a checkpoint, or code: FILE.py:CLASS."""
    checkpoint: Annotated[Path | None, arg("DIR", "")] = None
    """Folder with the weights of the experiment's only policy without weights."""
    episodes: Annotated[int | None, arg("N", "10")] = None
    """Episodes per task and policy."""
    limit: Annotated[int | None, arg("N", "all episodes")] = None
    """Play only the first episodes of each policy, to check that an experiment works."""
    seed: Annotated[int | None, arg("S", "0")] = None
    """Root of the seeds of initial states and noise; equal for all policies, so that episodes are paired."""
    protocol: Annotated[str | None, arg("NAME", "default-v1")] = None
    """Named rules (simloop list protocols), parts of which the next options override."""
    replan_steps: Annotated[int | None, arg("N", "10")] = None
    """Actions of a chunk that are executed before the next query."""
    max_steps: Annotated[int | None, arg("N", "the limit of the task")] = None
    """Control steps per episode."""
    render: Annotated[Literal["official", "fast"] | None, arg("{official,fast}", "fast")] = None
    """official is the suite's own image quality; fast is without shadows and multisampling."""
    undecodable: Annotated[
        Literal["end_episode", "hold"] | None, arg("{end_episode,hold}", "end_episode")
    ] = None
    """Effect of tokens that decode to no action: the episode fails, or the robot receives the zero action."""
    execution: Annotated[tuple[str, ...], arg("MODE [...]", "that of the protocol: synchronous")] = ()
    """Actions executed while the policy computes: synchronous (none, the robot holds still), naive (the rest of the
    previous chunk), rtc, rtc-identity, rtc-trained (real-time chunking),
    ensemble[:act|average|newest|exponential[:COEFFICIENT]]. All modes and delays are combined, without videos."""
    delay: Annotated[tuple[str, ...], arg("N|Tms|live [...]", "that of the protocol: 0")] = ()
    """Delay of a policy's answers: control steps, milliseconds, or what they take in this run (live, which no other run
    repeats)."""
    latency_of: Annotated[tuple[str, ...], arg("RUN[#POLICY]|FILE [...]", "none")] = ()
    """Further delays: the latencies that a run measured, such as one on the GPU of a robot, or a JSON file with a list
    of milliseconds. Success is then that of the policy on that device."""
    perturb: Annotated[tuple[str, ...], arg("KIND=S [...]", "no perturbation")] = ()
    """Perturb the scene, observations, instructions or actions, such as camera-noise=0.1 (simloop list perturbations);
    several kinds act together. simloop robustness varies them."""
    paraphrases: Annotated[Path | None, arg("FILE.toml", "templates")] = None
    """Wordings for the perturbation paraphrase, as in "push the button" = ["press the button"]; "*" stands for all
    other instructions and {instruction} for the instruction."""
    prompt_source: Annotated[tuple[str, ...], arg("SOURCE [...]", "that of the protocol: suite")] = ()
    """Which of a task's instructions the policy receives, where a suite has several: suite (its choice), filename or
    bddl. Several are played one after the other, without videos; simloop table RUN --only prompts compares them."""
    adapter: Annotated[str | None, arg("FILE:NAME", "the registered one")] = None
    """Adapter in a Python file, in place of the registered one of its suite and robot. Tables name it."""
    batch_size: Annotated[int | None, arg("N", "1 on a CPU, 4 on accelerators; resumed runs keep theirs")] = (
        None
    )
    """Batch size of all calls of a policy; unused rows are padded."""
    until_decided: bool = False
    """Compare two policies pair by pair and stop as soon as they are found to differ or to be equivalent."""
    alpha: Annotated[float | None, arg("A", "0.05")] = None
    """With --until-decided: probability, at most, that equal policies are reported to differ."""
    margin: Annotated[float | None, arg("D", "0.02")] = None
    """With --until-decided: differences of success rates below this do not matter."""
    max_episodes: Annotated[int | None, arg("N", "2000")] = None
    """With --until-decided: largest number of episodes per policy, over all tasks."""
    shard: Annotated[str, arg("I/N", "all of it")] = "1/1"
    """Play the I-th of N parts of the plan into a folder of its own; simloop merge joins the folders."""
    throughput: bool = False
    """Let batch sizes follow the number of waiting queries. Faster, but no other run gives equal records."""
    watch: Annotated[tuple[str, ...], arg("DASHBOARD [...]", "none")] = ()
    """Dashboards to report to: tensorboard, wandb, prometheus[:[HOST:]PORT], or a running viewer of Rerun,
    rerun[:[HOST:]PORT], which also shows the episodes while they are played."""
    video_every: Annotated[int, arg("N")] = 10
    """Control steps between two frames of the videos."""
    video_size: Annotated[int | None, arg("PIXELS", "as rendered")] = None
    """Height to which the images of each camera in videos are scaled."""
    video: bool = True
    """Write a video of each episode."""
    record: Annotated[Literal["none", "queries", "steps"], arg("{none,queries,steps}")] = "none"
    """Step records of each episode, for simloop replay, fork and debug; steps adds the scene at every step."""
    record_images: bool = False
    """Store the images in step records too, which are drawn again from the saved states otherwise."""
    gate: Annotated[Literal["refuse", "warn", "off"], arg("{refuse,warn,off}")] = "refuse"
    """Whether a policy that cannot be right on the suite (turned images, other units or signs, wrong statistics) ends
    the run before its first episode, is said, or is not looked for. simloop doctor --suite S --policy P checks more."""
    allow_training_seeds: bool = False
    """Play initial states that a policy was trained on, which is refused otherwise."""
    out: Annotated[Path | None, arg("DIR", "runs/EXPERIMENT")] = None
    """Run folder."""

    def executions(self) -> tuple[Execution, ...]:
        """Return the executions that the options name: every mode with every delay; none if they name neither.

        Raises:
          ExecutionError, DelayError: If one of them does not exist.
        """
        from simloop.harness.planning.execution import Execution

        delays = (*self.delay, *(f"measured:{path}" for path in self.latency_of))
        if not (self.execution or delays):
            return ()
        modes, delays = self.execution or ("synchronous",), delays or ("0",)
        return tuple(dict.fromkeys(Execution.parse(mode, delay) for mode in modes for delay in delays))

    def settings(self, resources: Resources, experiment: Experiment) -> RunSettings:
        """Return the part of the options that does not belong to the experiment, whose variants are not filmed."""
        from simloop.harness.preparation import RunSettings

        return RunSettings(
            resources,
            video_every=self.video_every if self.video and not experiment.variants else None,
            video_size=self.video_size,
            record=self.record,
            record_images=self.record_images,
            gate=self.gate,
            allow_training_seeds=self.allow_training_seeds,
            throughput=self.throughput,
            dashboards=self.watch,
            shard=_shard(self.shard),
        )


def command(options: Annotated[RunOptions, FLAT], resources: Annotated[Resources, FLAT]) -> int:
    """Play episodes and write records, videos and tables into a run folder.

    Examples:

      simloop run demo                                    an experiment that ships with simloop

      simloop run --tasks MT10 --policies expert pi0-tiny --episodes 20

      simloop run --tasks reach push --policies pi0_libero@/ckpt/pi0_libero/29999

      simloop run pi05_libero_spatial --checkpoint /ckpt/pi05_libero           a published number

      simloop run my_experiment.toml                                           an experiment of your own

      simloop run pi0_libero@/a pi0_libero@/b --until-decided --max-episodes 500

    Ctrl-C keeps finished episodes; the same command resumes the run.
    """
    from simloop.harness.experiment_file import is_experiment_file

    if len(options.names) == 1 and is_experiment_file(options.names[0]):
        return _run_file(Path(options.names[0]), options, resources, Terminal())
    experiment, out = build_experiment(options)
    return play(experiment, out, options, resources)


def play(experiment: Experiment, out: Path, options: RunOptions, resources: Resources) -> int:
    """Play an experiment into a folder, print its tables, and return the exit status."""
    from simloop.harness.run import run

    console = Terminal()
    result = run(experiment, out, options.settings(resources, experiment), console)
    return _print_result(result, console)


def _run_file(file: Path, options: RunOptions, resources: Resources, console: Console) -> int:
    """Run the parts of an experiment file, each into a folder of its own if there are several."""
    from simloop.harness.experiment_file import read_experiments
    from simloop.harness.planning.experiment import ExperimentError
    from simloop.harness.run import run
    from simloop.results.records.runs import load_runs
    from simloop.results.tables.options import read_table_options
    from simloop.results.tables.run_tables import render

    parts, folders = read_experiments(file), []
    table = read_table_options(file) if file.suffix == ".toml" else DEFAULT_OPTIONS
    if len(parts) > 1 and (options.suite or options.tasks):
        raise ExperimentError(
            f"{file} has {len(parts)} parts, each with its suite; leave out --suite and --tasks."
        )
    base: Path | None = None
    for number, part in enumerate(parts):
        chosen = dataclasses.replace(options, names=(), adapter=options.adapter or part.adapter)
        experiment, out = build_experiment(chosen, part.experiment)
        if len(parts) > 1:
            base = base or out
            out = base / f"{number}-{experiment.suite}"
        settings = dataclasses.replace(chosen.settings(resources, experiment), table=table)
        result = run(experiment, out, settings, console)
        folders.append(result.folder)
        if len(parts) == 1:
            return _print_result(result, console, table)
        if result.interrupted:
            return interrupted(result.episodes, result.planned, out, console)
    say(render(load_runs(folders), "terminal", table), console)
    say(f"To print the tables again: simloop table {' '.join(map(str, folders))}", console)
    return 0


def _shard(text: str) -> tuple[int, int]:
    """Parse I/N."""
    from simloop.harness.planning.experiment import ExperimentError

    part, slash, parts = text.partition("/")
    if not (slash and part.isdigit() and parts.isdigit()):
        raise ExperimentError(f"--shard takes I/N, such as 1/3 for the first of three parts; got {text!r}.")
    return int(part), int(parts)


def _print_result(result: RunResult, console: Console, table: TableOptions = DEFAULT_OPTIONS) -> int:
    """Print the tables of a run and where its files are; returns the exit status."""
    from simloop.results.records.paths import STEPS
    from simloop.results.records.records import VIDEOS
    from simloop.results.records.runs import load_runs
    from simloop.results.statistics.early_stopping import sequential_decisions
    from simloop.results.statistics.robustness import design_outcomes
    from simloop.results.tables.decisions import decision_sentence
    from simloop.results.tables.published import reproductions
    from simloop.results.tables.run_tables import render

    folder = result.folder
    runs = load_runs(folder)
    again = f"simloop table {folder}"
    if not table.only and design_outcomes(runs):
        table, again = dataclasses.replace(table, only="robustness"), f"{again} --only robustness"
    say(render(runs, "terminal", table), console)
    if result.interrupted:
        return interrupted(result.episodes, result.planned, folder, console)
    for decision in sequential_decisions(runs):
        console.print(decision_sentence(decision), highlight=False, markup=False)
    if reproductions(runs):
        say(render(runs, "terminal", TableOptions(only="published")), console)
    videos = "".join(f"{name}/, " for name in (VIDEOS, STEPS) if (folder / name).is_dir())
    say(
        f"{result.episodes} episodes are in {folder}: episodes.jsonl, queries.jsonl, {videos}success.md, "
        f"latency.md (also .csv and .tex). To print the tables again: {again}",
        console,
    )
    if cause := _common_error(runs.episodes):
        say(f"No episode was completed. The most frequent error: {cause}", console)
        return NOTHING_COMPLETED
    return 0


def _common_error(episodes: pandas.DataFrame) -> str:
    """Last line of the most frequent error, if every episode ended with one; else empty."""
    if not len(episodes) or (episodes.outcome != "error").any():
        return ""
    message = str(episodes.error.mode().iloc[0]).strip()
    return message.splitlines()[-1] if message else "unknown"
