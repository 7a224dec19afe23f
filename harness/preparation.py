"""Check an experiment, and everything that follows from it, before anything is created or started."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from simloop.envs import registry
from simloop.envs.interface import TaskSpec
from simloop.harness.actors.env_actor import VideoSettings
from simloop.harness.actors.factories import no_start
from simloop.harness.adapters.adapter_file import AdapterFile, adapter_file_in_use
from simloop.harness.adapters.registry import checked_adapter, filmed_cameras
from simloop.harness.engine.resources import Resources
from simloop.harness.gate.gate import Gate, pass_gate
from simloop.harness.planning.execution import Execution, ExecutionError
from simloop.harness.planning.experiment import Experiment, ExperimentError
from simloop.harness.planning.plan import EpisodeSpec, Plan
from simloop.harness.planning.policy_names import NamedPolicy
from simloop.harness.planning.seed_overlap import refuse_training_seeds
from simloop.harness.recording.dashboards import require_dashboard
from simloop.harness.recording.run_folder import RunFolder
from simloop.harness.rollout.chunking import require_executable
from simloop.harness.rollout.loop_state import EpisodeState
from simloop.harness.rollout.perturber import require_perturbable
from simloop.harness.rollout.video import size_problem
from simloop.policies.interface import PolicySpec
from simloop.policies.presets import preset
from simloop.results.tables.options import DEFAULT_OPTIONS, TableOptions

if TYPE_CHECKING:
    from simloop.harness.planning.early_stop import EarlyStop

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
    gate: Gate = "refuse"
    """What becomes of a policy that cannot be right on the suite."""
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
    table: TableOptions = DEFAULT_OPTIONS
    """How the tables in the run folder are made."""
    tried_adapter: AdapterFile | None = None
    """Adapter of forks whose changes name another one than the run's."""


@dataclass(frozen=True)
class Prepared:
    """A checked experiment and everything that follows from it before the run folder is opened."""

    experiment: Experiment
    settings: RunSettings
    policies: dict[str, PolicySpec]
    plan: Plan
    early_stop: EarlyStop | None
    video: VideoSettings | None
    renderer: str
    notes: tuple[str, ...] = ()
    """What is worth knowing of the policies on the suite."""

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


def prepare(experiment: Experiment, settings: RunSettings) -> Prepared:
    """Check that an experiment can be run.

    Raises:
      ExperimentError, UnknownNameError, SuiteNotInstalledError, UnknownPolicyError, AdapterError, CheckpointError,
        GateError, DashboardError: If it cannot.
      RenderingError: If images are needed and cannot be rendered on this machine.
    """
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
    for rules in experiment.variants or ({},):
        protocol = dataclasses.replace(experiment.protocol, **rules)
        require_perturbable(protocol, registry.suite(experiment.suite), tasks)
    early_stop = None
    if experiment.stopping is not None:
        from simloop.harness.planning.early_stop import EarlyStop  # Imports pandas.

        a, b = experiment.policy_names
        early_stop = EarlyStop(experiment.stopping, plan, (a, b))
    video = _video_settings(policies, tasks, settings)
    renderer, notes = _renderer(experiment.suite, policies, video), _gate_notes(experiment, settings, tasks)
    return Prepared(experiment, settings, policies, plan, early_stop, video, renderer, notes)


def _gate_notes(experiment: Experiment, settings: RunSettings, tasks: Sequence[TaskSpec]) -> tuple[str, ...]:
    """Check that policies and suite fit; forks continue episodes that were played, with changes on purpose."""
    sources = experiment.prompt_sources or (experiment.protocol.prompt_source,)
    gate = "off" if experiment.forks is not None else settings.gate
    return pass_gate(gate, experiment.named_policies(), tasks, sources)


def possible_executions(experiment: Experiment) -> tuple[Experiment, list[str]]:
    """Leave out the executions that none of the policies can be evaluated under.

    Returns:
      The experiment with the others, and a sentence on each that was left out.

    Raises:
      ExecutionError: If none is left.
    """
    tasks, policies = experiment.task_specs(), experiment.policy_specs().values()
    refusals: dict[Execution, ExecutionError] = {}
    for execution in experiment.executions:
        found = [_refusal(execution, experiment, policy, tasks) for policy in policies]
        if found and found[0] is not None and all(found):
            refusals[execution] = found[0]
    if refusals and len(refusals) == len(experiment.executions):
        raise next(iter(refusals.values()))
    kept = tuple(execution for execution in experiment.executions if execution not in refusals)
    return dataclasses.replace(experiment, executions=kept), [str(error) for error in refusals.values()]


def _refusal(
    execution: Execution, experiment: Experiment, policy: PolicySpec, tasks: Sequence[TaskSpec]
) -> ExecutionError | None:
    try:
        for task in tasks:
            require_executable(execution, experiment.protocol.replan_steps, policy, task)
    except ExecutionError as error:
        return error
    return None


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
    if experiment.variants and (settings.record != "none" or settings.video_every is not None):
        raise ExperimentError(
            "Several executions, prompt sources or perturbations are played without step records and videos, whose "
            "file names do not tell them apart. Play one of them to record it."
        )
    for name in settings.dashboards:
        require_dashboard(name)
    if not settings.allow_training_seeds:
        refuse_training_seeds(experiment, plan)


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
    return VideoSettings(filmed_cameras(policies.values(), tasks), every, size)


def _renderer(suite: str, policies: dict[str, PolicySpec], video: VideoSettings | None) -> str:
    """Name what draws the images of the suite, after a test image; `none` if the run renders nothing."""
    if video is None and not any(policy.cameras for policy in policies.values()):
        return "none"
    return registry.suite(suite).renderer()
