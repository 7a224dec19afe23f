"""Run an experiment from its plan to its tables, resuming from what the run folder already holds."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from simloop.harness.actors.env_actor import EpisodeResult
from simloop.harness.actors.factories import AdapterFinder, Factories
from simloop.harness.actors.policy_worker import WorkerReport
from simloop.harness.adapters.adapter_file import adapter_file_in_use
from simloop.harness.engine.engine import Engine, EngineCallbacks
from simloop.harness.engine.episode_queue import Attempt
from simloop.harness.interrupts import sigterm_as_interrupt
from simloop.harness.machine import CPU_BATCH_SIZE, default_batch_size
from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.own_suites import EnvMaker, own_suites_in_use
from simloop.harness.planning.plan import EpisodeSpec, Plan
from simloop.harness.planning.policy_names import PolicyLoader
from simloop.harness.preparation import Prepared, Record, RunSettings, prepare
from simloop.harness.recording.dashboards import live_views, make_dashboard
from simloop.harness.recording.engine_metrics import EngineMetrics
from simloop.harness.recording.provenance import Provenance
from simloop.harness.recording.run_folder import RunFolder, with_batch_size
from simloop.harness.recording.run_progress import RunProgress
from simloop.harness.recording.run_status import RunStatus, State
from simloop.harness.rollout.observers import Recorder
from simloop.harness.rollout.result import RolloutResult
from simloop.harness.serving.batch_sizes import THROUGHPUT
from simloop.policies.interface import PolicySpec
from simloop.results.records.paths import attached_files, video_path
from simloop.results.records.records import EpisodeRecord

TRACES = "errors.log"


@dataclass(frozen=True)
class RunResult:
    """Counts at the end of a run."""

    folder: Path
    episodes: int
    planned: int
    interrupted: bool


def run(experiment: Experiment, out: Path, settings: RunSettings, console: Console) -> RunResult:
    """Play all episodes of the experiment that `out` does not hold yet, then write the tables.

    Ctrl-C and SIGTERM end the run cleanly: finished episodes are kept, and the same call resumes.

    Raises:
      ExperimentError, UnknownNameError, SuiteNotInstalledError, UnknownPolicyError, AdapterError, CheckpointError,
        GateError, DashboardError: If the experiment cannot be run; nothing has been started then.
      RenderingError: If images are needed and cannot be rendered on this machine.
      RunFolderError, LedgerError: If `out` cannot be used.
      EngineError: If a policy cannot be loaded; finished episodes are kept.
    """
    cluster = settings.resources.ray_address is not None
    experiment = with_batch_size(experiment, out, default_batch_size(cluster=cluster))
    prepared = prepare(experiment, settings)
    with RunFolder(out, experiment, prepared.plan) as folder:
        folder.require_shard([spec.id for spec in prepared.shard])
        for note in (*folder.notes, *prepared.notes):
            console.print(note, highlight=False, markup=False)
        state: State = "complete"
        if todo := prepared.missing(folder):
            state = _Session(prepared, folder, todo, console).play()
        if folder.done:
            from simloop.results.tables.run_tables import write_tables  # Imports pandas.

            write_tables(out, settings.table)
        return RunResult(out, len(folder.done), len(prepared.plan.episodes), state == "interrupted")


class _Session:
    """One start of a run: plays the missing episodes, records them, and reports progress."""

    def __init__(self, prepared: Prepared, folder: RunFolder, todo: list[EpisodeSpec], console: Console):
        self._prepared = prepared
        self._folder = folder
        self._todo = todo
        self._console = console
        experiment, settings = prepared.experiment, prepared.settings
        self._batch_sizes = THROUGHPUT if settings.throughput else (experiment.batch_size or CPU_BATCH_SIZE,)
        self._provenance = Provenance(
            folder.path,
            experiment.suite,
            prepared.plan.sha256,
            experiment.protocol.sha256,
            prepared.renderer,
            self._batch_sizes,
        )
        self._check_sources()
        dashboards = [make_dashboard(name, folder.path) for name in settings.dashboards]
        totals = Counter(spec.policy for spec in prepared.shard)
        done = [folder.done[spec.id] for spec in prepared.shard if spec.id in folder.done]
        self._status = RunStatus(folder.path, totals, done, dashboards)
        self._progress = RunProgress(console, self._status.now)

    def _check_sources(self) -> None:
        """Refuse changed source files before anything is played, and record those of policies without a worker."""
        for name, policy in self._prepared.experiment.named_policies().items():
            if policy.source is not None:
                hashes = policy.source.fingerprint()
                self._provenance.require_source(name, hashes)
                if policy.spec().runs_in == "actor":
                    self._provenance.add_policy(name, device="cpu", fingerprint=hashes)

    def play(self) -> State:
        """Play the missing episodes; returns how that ended, and raises what the engine raises."""
        self._announce()
        self._status.report()
        state: State = "failed"
        try:
            with sigterm_as_interrupt(), self._progress, self._engine() as engine:
                self._play(engine)
            state = "complete"
        except KeyboardInterrupt:
            state = "interrupted"
        except BaseException as error:
            self._provenance.finish(f"{type(error).__name__}: {error}")
            raise
        finally:
            self._status.end(state)
        self._provenance.finish(state)
        return state

    def _engine(self) -> Engine:
        settings = self._prepared.settings
        return Engine(
            self._prepared.experiment.protocol,
            self._prepared.policies,
            self._batch_sizes,
            settings.resources,
            self._prepared.video,
            EngineCallbacks(self._on_ready, self._on_retry, self._progress.say, self._on_metrics),
            factories=Factories(
                env=EnvMaker(own_suites_in_use()),
                policy=PolicyLoader.of(self._prepared.experiment.policies),
                adapter=AdapterFinder(adapter_file_in_use(), settings.tried_adapter),
                guidance=self._prepared.plan.guidance,
                start=self._prepared.settings.start,
                recorder=_recorder(settings.record, images=settings.record_images),
                live_view=live_views(settings.dashboards, self._folder.path.name),
            ),
        )

    def _play(self, engine: Engine) -> None:
        self._status.doing = "waiting for an episode to finish"
        stopped = False
        for attempt, result in engine.results(self._todo, in_order=self._prepared.early_stop is not None):
            self._record(attempt, result)
            self._progress.tick()
            if not stopped and self._prepared.decided(self._folder):
                stopped = True
                self._status.doing = "decided; waiting for the running episodes"
                engine.stop_starting()

    def _record(self, attempt: Attempt, result: EpisodeResult) -> None:
        policy = self._prepared.policies[attempt.spec.policy]
        limit = self._prepared.plan.max_steps[attempt.spec.task]
        record = record_of(result, policy, attempt, limit, filmed=self._prepared.video is not None)
        files = attached_files(record, result.attachments)
        self._folder.append(record, result.played.queries if result.played else [], files)
        if result.played is None:
            with (self._folder.path / TRACES).open("a", encoding="utf-8") as log:
                log.write(f"{_label(attempt)}\n{result.trace or result.error}\n\n")
            self._progress.say(f"{_label(attempt)} is an error: {result.error}")
        self._status.finished(record)

    def _announce(self) -> None:
        done, out, experiment = len(self._folder.done), self._folder.path, self._prepared.experiment
        extent = _extent(experiment, self._prepared.plan)
        stops = " The run stops as soon as the comparison of the two policies is decided."
        self._console.print(
            f"{len(self._todo)} episodes to play"
            + (f", {done} already in {out}" if done else f" into {out}")
            + f": {extent}, protocol {experiment.protocol.label}. Ctrl-C keeps finished episodes."
            + (stops if self._prepared.early_stop is not None else ""),
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def _on_ready(self, report: WorkerReport) -> None:
        kernels = None if report.kernels is None else report.kernels.names()
        self._provenance.add_policy(
            report.spec.name,
            device=report.device,
            fingerprint=report.fingerprint,
            load_s=report.load_s,
            compile_s=report.compile_s,
            batch_sizes=report.batch_sizes,
            kernels=kernels,
            settings=report.settings,
        )
        sizes = (
            f", batch sizes {', '.join(map(str, report.batch_sizes))}"
            if self._prepared.settings.throughput
            else ""
        )
        by_library = [
            f", {operation.replace('_', ' ')} by {name}"
            for operation, name in (kernels or {}).items()
            if name != "xla"
        ]
        self._progress.say(
            f"{report.spec.name} ({report.spec.weights}) ready on {report.device}: weights {report.load_s:.1f} s, "
            f"compilation {report.compile_s:.1f} s{sizes}{''.join(by_library)}"
        )

    def _on_retry(self, attempt: Attempt, error: str) -> None:
        self._progress.say(f"{_label(attempt)} failed and is repeated: {error}")

    def _on_metrics(self, metrics: EngineMetrics) -> None:
        self._status.metrics(metrics)
        self._progress.tick()


def _recorder(record: Record, *, images: bool) -> Callable[[EpisodeSpec], Recorder] | None:
    """Make the recorders of step records; importing pyarrow takes env actors 0.2 s and 40 MB."""
    if record == "none":
        return None
    from simloop.harness.rollout.step_recorder import StepRecorder

    return functools.partial(StepRecorder, level=record, images=images)


def record_of(
    result: EpisodeResult, policy: PolicySpec, attempt: Attempt, max_steps: int, *, filmed: bool
) -> EpisodeRecord:
    """Return the ledger's row of the last attempt at an episode: an error if it was not played to its end."""
    spec = attempt.spec
    if result.played is None:
        nothing = RolloutResult().record(spec, policy, attempts=attempt.number, video="", max_steps=max_steps)
        return dataclasses.replace(nothing, outcome="error", ended_by="error", error=result.error)
    video = video_path(spec.policy, spec.task, spec.episode, result.played.ended_by) if filmed else ""
    return result.played.record(spec, policy, attempts=attempt.number, video=video, max_steps=max_steps)


def _extent(experiment: Experiment, plan: Plan) -> str:
    if experiment.forks is not None:
        queries, samples = len(experiment.forks.queries), experiment.forks.samples
        variants = len(plan.episodes) // (queries * samples)
        return f"{variants} variants x {queries} queries x {samples} samples of {experiment.forks.source}"
    policies, tasks = len(experiment.policies), len(experiment.task_specs())
    kind = "executions" if experiment.executions else "points" if experiment.design else "prompt sources"
    times = f"{len(experiment.variants)} {kind} x " if experiment.variants else ""
    if experiment.limit is not None:
        return (
            f"{policies} policies, the first {experiment.limit} of {tasks} tasks x {experiment.episodes} each"
        )
    return f"{policies} policies x {times}{tasks} tasks x {experiment.episodes}"


def _label(attempt: Attempt) -> str:
    spec = attempt.spec
    return f"{spec.policy} on {spec.suite}/{spec.task}, episode {spec.episode}"
