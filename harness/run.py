"""Run an experiment from its plan to its tables; go on where an earlier start of it ended."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from simloop.envs import registry
from simloop.envs.interface import RenderSettings, TaskSpec
from simloop.envs.rendering import draw_test_frame
from simloop.harness.actors.env_actor import EpisodeResult, VideoSettings
from simloop.harness.actors.factories import Factories
from simloop.harness.actors.policy_worker import WorkerReport
from simloop.harness.adapters.registry import checked_adapter
from simloop.harness.engine.engine import Engine, EngineCallbacks
from simloop.harness.engine.episode_queue import Attempt
from simloop.harness.engine.resources import Resources
from simloop.harness.planning.early_stop import EarlyStop
from simloop.harness.planning.experiment import Experiment, ExperimentError
from simloop.harness.planning.plan import Plan
from simloop.harness.planning.policy_names import PolicyLoader
from simloop.harness.planning.seed_overlap import refuse_training_seeds
from simloop.harness.recording.dashboards import make_dashboard
from simloop.harness.recording.engine_metrics import EngineMetrics
from simloop.harness.recording.provenance import Provenance
from simloop.harness.recording.run_folder import RunFolder, video_path
from simloop.harness.recording.run_progress import RunProgress
from simloop.harness.recording.run_status import RunStatus, State
from simloop.policies.interface import PolicySpec
from simloop.policies.models.kernels import Kernels
from simloop.results.records.records import EpisodeRecord
from simloop.results.tables.run_tables import write_tables

TRACES = "errors.log"
FREE_BATCH_SIZES = (1, 2, 4, 8, 16, 32)
"""Rows of a call where speed counts more than that every run gives the same records."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    folder: Path
    episodes: int
    planned: int
    interrupted: bool


def run(
    experiment: Experiment,
    out: Path,
    resources: Resources,
    video_every: int | None,
    console: Console,
    *,
    allow_training_seeds: bool = False,
    throughput: bool = False,
    watch: Sequence[str] = (),
    shard: tuple[int, int] = (1, 1),
) -> RunResult:
    """Play every episode of the experiment that `out` does not hold yet, then write the tables.

    Ctrl-C and SIGTERM end the run cleanly: what is finished is kept, and the same call goes on.

    Args:
      video_every: Control steps between two frames of the videos; None for no videos.
      allow_training_seeds: Play episodes whose initial states a policy was trained on.
      throughput: Batches have as many rows as there are queries, roughly. Answers then depend, by rounding,
        on who else was waiting; the provenance says so.
      shard: (i, n) plays every n-th episode of the plan from the i-th on, for `simloop.harness.recording.merge` to join.
      watch: Names of dashboards to report to, as `simloop.harness.recording.dashboards` knows them.

    Raises:
      ExperimentError, UnknownNameError, SuiteNotInstalledError, UnknownPolicyError, AdapterError: Before anything is
        started, if the experiment cannot be run.
      RenderingError: If pictures are needed and cannot be drawn here.
      RunFolderError, LedgerError: If `out` cannot be used.
      EngineError: If a policy cannot be loaded; what was played is kept.
    """
    tasks = experiment.task_specs()
    registry.suite(experiment.suite).require_installed()
    policies = experiment.policy_specs()
    for policy in policies.values():
        checked_adapter(policy, tasks)
    for named in experiment.named_policies().values():
        named.require_weights()
    plan = experiment.plan()
    if not 1 <= shard[0] <= shard[1] or (shard[1] > 1 and experiment.stopping is not None):
        raise ExperimentError(
            f"--shard I/N plays the I-th of N parts of a run that is played to its end; got {shard[0]}/{shard[1]}"
            + (" with --until-decided." if experiment.stopping is not None else ".")
        )
    if not allow_training_seeds:
        refuse_training_seeds(experiment, plan)
    video = _video_settings(policies, tasks, video_every)
    renderer = _renderer(policies, video)

    with RunFolder(out, experiment, plan) as folder:
        for note in folder.notes:
            console.print(note, highlight=False)
        question = _question(experiment, plan)
        answered = question is not None and question.answered(folder.done)
        ours = [spec for n, spec in enumerate(plan.episodes) if n % shard[1] == shard[0] - 1]
        todo = [] if answered else [spec for spec in ours if spec.id not in folder.done]
        interrupted = False
        if todo:
            batch_sizes = FREE_BATCH_SIZES if throughput else (experiment.batch_size,)
            provenance = Provenance(out, plan.sha256, experiment.protocol.sha256, renderer, batch_sizes)
            console.print(
                f"{len(todo)} episodes to play"
                + (f", {len(folder.done)} already in {out}" if folder.done else f" into {out}")
                + f": {_extent(experiment, len(policies), len(tasks))}, protocol "
                f"{experiment.protocol.label}. Ctrl-C keeps what is done."
                + ("" if question is None else " The run ends sooner if the two policies can be told apart."),
                highlight=False,
            )
            totals = Counter(spec.policy for spec in ours)
            dashboards = [make_dashboard(name, out) for name in watch]
            status = RunStatus(out, totals, folder.done.values(), dashboards)
            progress = RunProgress(console, status.now)

            def on_ready(report: WorkerReport) -> None:
                provenance.add_policy(
                    report.spec.name,
                    report.device,
                    report.fingerprint,
                    report.load_s,
                    report.compile_s,
                    report.batch_sizes,
                    report.kernels,
                )
                progress.say(
                    f"{report.spec.name} ({report.spec.weights}) ready on {report.device}: weights "
                    f"{report.load_s:.1f} s, compilation {report.compile_s:.1f} s"
                    + (f", batches of {' or '.join(map(str, report.batch_sizes))}" if throughput else "")
                    + _by_libraries(report.kernels)
                )

            def on_retry(attempt: Attempt, error: str) -> None:
                progress.say(f"{_label(attempt)} failed and is tried again: {error}")

            def on_metrics(figures: EngineMetrics) -> None:
                status.figures(figures)
                progress.tick()

            callbacks = EngineCallbacks(on_ready, on_retry, progress.say, on_metrics)
            ended: State = "failed"
            try:
                with (
                    sigterm_as_interrupt(),
                    progress,
                    Engine(
                        experiment.protocol,
                        policies,
                        batch_sizes,
                        resources,
                        video,
                        callbacks,
                        factories=Factories(policy=PolicyLoader.of(experiment.policies)),
                    ) as engine,
                ):
                    status.doing = "waiting for the first episode"
                    for attempt, result in engine.results(todo, in_order=question is not None):
                        record = record_of(result, policies[attempt.spec.policy], attempt, video is not None)
                        folder.append(record, result.played.queries if result.played else [], result.video)
                        if result.played is None:
                            _log_trace(out, attempt, result)
                            progress.say(f"{_label(attempt)} is an error: {result.error}")
                        status.finished(record)
                        progress.tick()
                        if question is not None and not answered:
                            answered = question.answered(folder.done)
                            if answered:
                                status.doing = "decided; waiting for the episodes under way"
                                engine.stop_starting()
                ended = "complete"
            except KeyboardInterrupt:
                interrupted = True
                ended = "interrupted"
            except BaseException as error:
                provenance.finish(f"{type(error).__name__}: {error}")
                raise
            finally:
                status.end(ended)
            provenance.finish(ended)
        if folder.done:
            write_tables(out)
        return RunResult(out, len(folder.done), len(plan.episodes), interrupted)


def _by_libraries(kernels: Kernels | None) -> str:
    named = {} if kernels is None else kernels.names()
    on_progress = [
        f"{operation.replace('_', ' ')} by {name}" for operation, name in named.items() if name != "xla"
    ]
    return "".join(f", {one}" for one in on_progress)


def _extent(experiment: Experiment, policies: int, tasks: int) -> str:
    if experiment.limit is not None:
        return (
            f"{policies} policies, the first {experiment.limit} of {tasks} tasks x {experiment.episodes} each"
        )
    return f"{policies} policies x {tasks} tasks x {experiment.episodes}"


def _question(experiment: Experiment, plan: Plan) -> EarlyStop | None:
    if experiment.stopping is None:
        return None
    a, b = experiment.policy_names
    return EarlyStop(experiment.stopping, plan, (a, b))


def record_of(result: EpisodeResult, policy: PolicySpec, attempt: Attempt, filmed: bool) -> EpisodeRecord:
    """The ledger's row of the last attempt at an episode; an error where it was not played to its end."""
    spec = attempt.spec
    if result.played is not None:
        ending = result.played.ended_by
        video = video_path(spec.policy, spec.task, spec.episode, ending) if filmed else ""
        return result.played.record(spec, policy, attempts=attempt.number, video=video)
    return EpisodeRecord(
        policy=spec.policy,
        weights=policy.weights,
        suite=spec.suite,
        protocol=spec.protocol,
        task=spec.task,
        episode=spec.episode,
        seed=spec.seed,
        outcome="error",
        ended_by="error",
        steps=0,
        queries=0,
        undecodable=0,
        reward=0.0,
        attempts=attempt.number,
        error=result.error,
        actions_sha256="",
        final_state_sha256="",
        wall_s=0.0,
        video="",
    )


def _video_settings(
    policies: dict[str, PolicySpec], tasks: list[TaskSpec], every: int | None
) -> VideoSettings | None:
    """The cameras that the learned policies see, so that filming draws little that is not drawn anyway."""
    if every is None:
        return None
    if every < 1:
        raise ExperimentError(f"--video-every must be at least 1; got {every}.")
    seen = [
        adapter.cameras[camera]
        for policy in policies.values()
        for adapter in [checked_adapter(policy, tasks)]
        for camera in policy.cameras
    ]
    cameras = tuple(dict.fromkeys(seen)) or tasks[0].cameras[:2]
    return VideoSettings(cameras, every)


def _renderer(policies: dict[str, PolicySpec], video: VideoSettings | None) -> str:
    """What draws the pictures, after drawing one; `none` where nobody will look."""
    if video is None and not any(policy.cameras for policy in policies.values()):
        return "none"
    return draw_test_frame(RenderSettings("fast", 64, 64)).gl_renderer


def _label(attempt: Attempt) -> str:
    spec = attempt.spec
    return f"{spec.policy} on {spec.suite}/{spec.task}, episode {spec.episode}"


def _log_trace(out: Path, attempt: Attempt, result: EpisodeResult) -> None:
    with (out / TRACES).open("a", encoding="utf-8") as log:
        log.write(f"{_label(attempt)}\n{result.trace or result.error}\n\n")


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Treat a polite kill, such as a cluster's, like Ctrl-C."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # Not in the main thread, where signals arrive elsewhere.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
