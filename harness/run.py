"""Run an experiment from its plan to its tables, resuming from what the run folder already holds."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console

from simloop.envs import registry
from simloop.envs.interface import RenderSettings, TaskSpec
from simloop.envs.rendering import render_test_frame
from simloop.harness.actors.env_actor import EpisodeResult, VideoSettings
from simloop.harness.actors.factories import AdapterFinder, Factories, no_start
from simloop.harness.actors.policy_worker import WorkerReport
from simloop.harness.adapters.adapter_file import AdapterFile, adapter_file_in_use
from simloop.harness.adapters.registry import checked_adapter
from simloop.harness.engine.engine import Engine, EngineCallbacks
from simloop.harness.engine.episode_queue import Attempt
from simloop.harness.engine.resources import Resources
from simloop.harness.interrupts import sigterm_as_interrupt
from simloop.harness.machine import CPU_BATCH_SIZE, default_batch_size
from simloop.harness.planning.early_stop import EarlyStop
from simloop.harness.planning.experiment import Experiment, ExperimentError
from simloop.harness.planning.own_suites import EnvMaker, own_suites_in_use
from simloop.harness.planning.plan import EpisodeSpec, Plan
from simloop.harness.planning.policy_names import NamedPolicy, PolicyLoader
from simloop.harness.planning.seed_overlap import refuse_training_seeds
from simloop.harness.recording.dashboards import make_dashboard, require_dashboard
from simloop.harness.recording.engine_metrics import EngineMetrics
from simloop.harness.recording.provenance import Provenance
from simloop.harness.recording.run_folder import RunFolder, with_batch_size
from simloop.harness.recording.run_progress import RunProgress
from simloop.harness.recording.run_status import RunStatus, State
from simloop.harness.rollout.chunking import require_executable
from simloop.harness.rollout.loop_state import EpisodeState
from simloop.harness.rollout.observers import Recorder
from simloop.harness.rollout.result import RolloutResult
from simloop.harness.rollout.video import size_problem
from simloop.harness.serving.batch_sizes import THROUGHPUT
from simloop.policies.interface import PolicySpec
from simloop.policies.presets import preset
from simloop.results.records.paths import attached_files, video_path
from simloop.results.records.records import EpisodeRecord
from simloop.results.tables.run_tables import write_tables

TRACES = "errors.log"


Record = Literal["none", "queries", "steps"]


@dataclass(frozen=True)
class RunSettings:
    """How the episodes of an experiment are played; the plan does not depend on it."""

    resources: Resources = field(default_factory=Resources)
    video_every: int | None = None
    """Control steps between two frames of the videos; None for no videos."""
    video_size: int | None = None
    """Pixels to which the images in videos are scaled; None to leave them as they are rendered."""
    record: Record = "none"
    """Step records to write: of queries, or of queries and every step."""
    record_images: bool = False
    """Store the images of the queries beside step records, for machines that draw others from the saved states."""
    allow_training_seeds: bool = False
    """Play episodes whose initial states a policy was trained on."""
    throughput: bool = False
    """Let batch sizes follow the number of waiting queries. Actions then depend on it, by rounding."""
    dashboards: Sequence[str] = ()
    """Dashboards to report to, by their names in `simloop.harness.recording.dashboards`."""
    shard: tuple[int, int] = (1, 1)
    """(i, n) plays every n-th episode of the plan from the i-th on; `simloop.harness.recording.merge` joins them."""
    start: Callable[[EpisodeSpec], EpisodeState | None] = no_start
    """Moments from which the episodes of forks continue."""
    tried_adapter: AdapterFile | None = None
    """Adapter of forks whose changes name another one than the run's."""


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
        DashboardError: If the experiment cannot be run; nothing has been started then.
      RenderingError: If images are needed and cannot be rendered on this machine.
      RunFolderError, LedgerError: If `out` cannot be used.
      EngineError: If a policy cannot be loaded; finished episodes are kept.
    """
    cluster = settings.resources.ray_address is not None
    experiment = with_batch_size(experiment, out, default_batch_size(cluster=cluster))
    prepared = _prepare(experiment, settings)
    with RunFolder(out, experiment, prepared.plan) as folder:
        folder.require_shard([spec.id for spec in prepared.shard])
        for note in folder.notes:
            console.print(note, highlight=False, markup=False)
        state: State = "complete"
        if todo := prepared.missing(folder):
            state = _Session(prepared, folder, todo, console).play()
        if folder.done:
            write_tables(out)
        return RunResult(out, len(folder.done), len(prepared.plan.episodes), state == "interrupted")


@dataclass(frozen=True)
class _Prepared:
    """A checked experiment and everything that follows from it before the run folder is opened."""

    experiment: Experiment
    settings: RunSettings
    policies: dict[str, PolicySpec]
    plan: Plan
    early_stop: EarlyStop | None
    video: VideoSettings | None
    renderer: str

    @property
    def shard(self) -> Sequence[EpisodeSpec]:
        """Episodes of the plan that this process is to play."""
        index, parts = self.settings.shard
        return self.plan.episodes[index - 1 :: parts]

    def decided(self, folder: RunFolder) -> bool:
        """Whether the comparison that may stop the run is decided."""
        return self.early_stop is not None and self.early_stop.answered(folder.done)

    def missing(self, folder: RunFolder) -> list[EpisodeSpec]:
        """Episodes to play that the folder does not hold yet."""
        return [] if self.decided(folder) else [spec for spec in self.shard if spec.id not in folder.done]


def _prepare(experiment: Experiment, settings: RunSettings) -> _Prepared:
    tasks = experiment.task_specs()
    registry.suite(experiment.suite).require_installed()
    policies = experiment.policy_specs()
    adapters = [checked_adapter(policy, tasks) for policy in policies.values()]
    if (file := adapter_file_in_use()) and file.load() not in adapters:
        raise ExperimentError(
            f"No policy of the run uses {file.name}, which is for {file.load().suite}/{file.load().robot}. Leave "
            "--adapter out, or correct its suite and robot."
        )
    for named in experiment.named_policies().values():
        named.require_weights()
        _require_checkpoint(named)
    plan = experiment.plan()
    _check(settings, experiment, plan)
    for execution in experiment.executions or (experiment.protocol.execution,):
        for task, policy in itertools.product(tasks, policies.values()):
            require_executable(execution, experiment.protocol.replan_steps, policy, task)
    early_stop = None
    if experiment.stopping is not None:
        a, b = experiment.policy_names
        early_stop = EarlyStop(experiment.stopping, plan, (a, b))
    video = _video_settings(policies, tasks, settings)
    return _Prepared(experiment, settings, policies, plan, early_stop, video, _renderer(policies, video))


class _Session:
    """One start of a run: plays the missing episodes, records them, and reports progress."""

    def __init__(self, prepared: _Prepared, folder: RunFolder, todo: list[EpisodeSpec], console: Console):
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


def _require_checkpoint(policy: NamedPolicy) -> None:
    """Raise `CheckpointError` if a policy of a preset names a folder that is no checkpoint of that preset."""
    if (
        policy.checkpoint is not None
        and policy.is_preset
        and policy.checkpoint != preset(policy.base).bundled
    ):
        from simloop.policies.checkpoints.opening import open_checkpoint  # Imports JAX.

        open_checkpoint(policy.checkpoint).require_preset(policy.base)


def _check(settings: RunSettings, experiment: Experiment, plan: Plan) -> None:
    """Raise if the settings do not fit the experiment."""
    index, parts = settings.shard
    if not 1 <= index <= parts or (parts > 1 and experiment.stopping is not None):
        raise ExperimentError(
            f"--shard I/N plays the I-th of N parts of a run that is played to its end; got {index}/{parts}"
            + (" with --until-decided." if experiment.stopping is not None else ".")
        )
    if experiment.forks is not None and settings.video_every is not None:
        raise ExperimentError(
            "Forks are played without videos, whose file names do not tell their queries and changes apart. Leave out "
            "video_every; simloop debug opens and films the moments of the episode."
        )
    if settings.record_images and settings.record == "none":
        raise ExperimentError(
            "--record-images stores images beside step records; add --record queries or steps."
        )
    if experiment.executions and (settings.record != "none" or settings.video_every is not None):
        raise ExperimentError(
            "Several executions are played without step records and videos, whose file names do not tell them apart. "
            "Play one execution to record it."
        )
    for name in settings.dashboards:
        require_dashboard(name)
    if not settings.allow_training_seeds:
        refuse_training_seeds(experiment, plan)


def _extent(experiment: Experiment, plan: Plan) -> str:
    if experiment.forks is not None:
        queries, samples = len(experiment.forks.queries), experiment.forks.samples
        variants = len(plan.episodes) // (queries * samples)
        return f"{variants} variants x {queries} queries x {samples} samples of {experiment.forks.source}"
    policies, tasks = len(experiment.policies), len(experiment.task_specs())
    executions = f"{len(experiment.executions)} executions x " if experiment.executions else ""
    if experiment.limit is not None:
        return (
            f"{policies} policies, the first {experiment.limit} of {tasks} tasks x {experiment.episodes} each"
        )
    return f"{policies} policies x {executions}{tasks} tasks x {experiment.episodes}"


def _video_settings(
    policies: dict[str, PolicySpec], tasks: list[TaskSpec], settings: RunSettings
) -> VideoSettings | None:
    """Film the cameras that the learned policies observe, which are rendered anyway."""
    every, size = settings.video_every, settings.video_size
    if every is None:
        return None
    if every < 1:
        raise ExperimentError(f"--video-every must be at least 1; got {every}.")
    if problem := size_problem(size):
        raise ExperimentError(problem)
    observed = [
        adapter.cameras[camera]
        for policy in policies.values()
        for adapter in [checked_adapter(policy, tasks)]
        for camera in policy.cameras
    ]
    return VideoSettings(tuple(dict.fromkeys(observed)) or tasks[0].cameras[:2], every, size)


def _renderer(policies: dict[str, PolicySpec], video: VideoSettings | None) -> str:
    """Name the OpenGL renderer, after rendering a test image; `none` if the run renders nothing."""
    if video is None and not any(policy.cameras for policy in policies.values()):
        return "none"
    return render_test_frame(RenderSettings("fast", 64, 64)).gl_renderer


def _label(attempt: Attempt) -> str:
    spec = attempt.spec
    return f"{spec.policy} on {spec.suite}/{spec.task}, episode {spec.episode}"
