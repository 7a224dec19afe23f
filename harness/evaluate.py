"""Python interface of simloop; `import simloop` re-exports it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import gymnasium
import pandas as pd

from simloop.envs import registry
from simloop.envs.interface import RenderProfile
from simloop.harness.adapters.registry import checked_adapter
from simloop.harness.engine.resources import Resources
from simloop.harness.machine import default_batch_size
from simloop.harness.planning.code_policy import policy_of
from simloop.harness.planning.experiment import Experiment
from simloop.harness.planning.own_suites import use_suite
from simloop.harness.planning.policy_names import load_policy
from simloop.harness.planning.protocol import DEFAULT, Protocol, named_protocol
from simloop.harness.recording.provenance import Provenance
from simloop.harness.recording.run_folder import RunFolder, with_batch_size
from simloop.policies.interface import BatchedPolicy, Policy
from simloop.results.records import runs as records
from simloop.results.statistics.intervals import wilson
from simloop.results.tables.run_tables import WRITTEN, render, table
from simloop.terminal import Terminal


@dataclass(frozen=True)
class Evaluation:
    """Finished episodes of one run or several."""

    runs: records.Runs

    @property
    def folders(self) -> tuple[Path, ...]:
        """The run folders."""
        return tuple(source.folder for source in self.runs.sources)

    @property
    def episodes(self) -> pd.DataFrame:
        """One row per episode, with the fields of `simloop.results.records.records.EpisodeRecord`."""
        return self.runs.episodes

    @property
    def queries(self) -> pd.DataFrame:
        """One row per query, with its latencies in milliseconds (`QueryRecord`)."""
        return self.runs.queries

    def success_rates(self) -> pd.DataFrame:
        """Success rates in [0, 1] by policy and task, with 95 % Wilson intervals. Errors are not counted.

        Returns:
          Columns `successes`, `episodes`, `rate`, `low` and `high`; index `policy`, `task`.
        """
        played = self.episodes[self.episodes["outcome"] != "error"]
        succeeded = (played["outcome"] == "success").groupby([played["policy"], played["task"]])
        rates = succeeded.agg(["sum", "size"]).set_axis(["successes", "episodes"], axis=1)
        intervals = [wilson(int(k), int(n)) for k, n in rates.itertuples(index=False)]
        return rates.assign(
            rate=rates["successes"] / rates["episodes"],
            low=[interval.low for interval in intervals],
            high=[interval.high for interval in intervals],
        )

    def __str__(self) -> str:
        """The tables of success rates and latencies, as text."""
        return render(self.runs, "terminal")

    def _repr_html_(self) -> str:
        return "\n".join(table(self.runs, only=name).to_html() for name in WRITTEN)


OwnPolicy: TypeAlias = "str | Policy | BatchedPolicy | type | Callable[..., Any]"
"""A policy as on the command line, or an object, a class or a function of this process."""


def evaluate(
    policies: OwnPolicy | Sequence[OwnPolicy],
    tasks: str | Sequence[str] = (),
    *,
    episodes: int = 10,
    suite: str = "metaworld",
    protocol: str | Protocol = DEFAULT,
    seed: int = 0,
    out: str | Path | None = None,
    batch_size: int | None = None,
    resources: Resources | None = None,
    video_every: int | None = None,
) -> Evaluation:
    """Play episodes of policies in simulation and return their outcomes.

    Policies that are named run as `simloop run` does: on Ray actors, in parallel. If one of this process is among
    them, all are played one episode after another in this process, without Ray.

    Args:
      policies: Names as on the command line (`expert`, `mine=pi05_libero@FOLDER`, `my_policy.py:MyPolicy`), objects
        or classes with the attribute `spec` and the method `infer`, or functions of an observation (`simloop.policy`).
      tasks: Tasks or groups of tasks of the suite; by default the suite's default group.
      episodes: Episodes per policy and task.
      suite: Name of the suite, or one of your own: `my_suite.py:MySuite`, `gym:ENV_ID`.
      protocol: Rules of the episodes, or their name.
      seed: Root of initial states and policy noise, equal for all policies: episodes are paired.
      out: Run folder. An existing one is resumed: only its missing episodes are played. By default a new temporary
        folder, which is not deleted.
      batch_size: Rows of each call of a policy worker: by default one on a CPU and four on accelerators, or as before
        if the run is resumed; not used in this process.
      resources: Processes and devices to use; not used in this process.
      video_every: Control steps between two frames of videos, None for no videos; not used in this process.

    Raises:
      UnknownPolicyError, UnknownNameError, AdapterError, ExperimentError: If the evaluation cannot be planned.
      RunFolderError: If `out` belongs to another experiment.
    """
    suite = use_suite(suite)
    several = list(policies) if isinstance(policies, list | tuple) else [cast(OwnPolicy, policies)]
    here = (
        {}
        if all(isinstance(policy, str) for policy in several)
        else {i: _load(p) for i, p in enumerate(several)}
    )
    experiment = Experiment(
        name="",
        suite=suite,
        tasks=(tasks,) if isinstance(tasks, str) else tuple(tasks) or (registry.suite(suite).default_group,),
        policies=tuple(p if isinstance(p, str) else here[i].spec.name for i, p in enumerate(several)),
        episodes=episodes,
        seed=seed,
        protocol=protocol if isinstance(protocol, Protocol) else named_protocol(suite, protocol),
        batch_size=batch_size,
    )
    folder = Path(tempfile.mkdtemp(prefix="simloop-")) if out is None else Path(out)
    experiment = with_batch_size(experiment, folder, default_batch_size())
    if not here:
        from simloop.harness.preparation import RunSettings
        from simloop.harness.run import run  # Imports Ray.

        settings = RunSettings(resources or Resources(), video_every=video_every)
        run(experiment, folder, settings, Terminal(stderr=True))
    else:
        _play_here(experiment, folder, list(here.values()))
    return load_runs(folder)


def _load(policy: OwnPolicy) -> BatchedPolicy:
    return load_policy(policy) if isinstance(policy, str) else policy_of(policy)


def _play_here(experiment: Experiment, folder: Path, policies: Sequence[BatchedPolicy]) -> None:
    """Play the missing episodes of an experiment in this process."""
    from simloop.harness.rollout.loop import run_episode

    tasks, plan, suite = experiment.task_specs(), experiment.plan(), registry.suite(experiment.suite)
    adapters = {policy.spec.name: checked_adapter(policy.spec, tasks) for policy in policies}
    by_name = {policy.spec.name: policy for policy in policies}
    draws = any(policy.spec.cameras for policy in policies)
    renderer = suite.renderer() if draws else "none"
    with RunFolder(folder, experiment, plan) as run_folder:
        missing = [spec for spec in plan.episodes if spec.id not in run_folder.done]
        provenance = Provenance(
            folder, experiment.suite, plan.sha256, experiment.protocol.sha256, renderer, (1,)
        )
        for name, policy in by_name.items():
            compile_s = policy.prepare(1)
            provenance.add_policy(
                name,
                device=policy.device(),
                fingerprint=policy.identity(),
                compile_s=compile_s,
                batch_sizes=(1,),
                settings=policy.settings(),
            )
        for task in tasks:
            env = suite.make(task.name, experiment.protocol.render)
            try:
                for spec in missing:
                    if spec.task == task.name:
                        policy = by_name[spec.policy]
                        played = run_episode(env, spec, policy, adapters[spec.policy], experiment.protocol)
                        limit = plan.max_steps[spec.task]
                        record = played.record(spec, policy.spec, attempts=1, video="", max_steps=limit)
                        run_folder.append(record, played.queries)
            finally:
                env.close()
        provenance.finish("complete")


def load_runs(*folders: str | Path) -> Evaluation:
    """Read run folders, finished or not.

    Args:
      folders: Run folders; `NAME=FOLDER` puts `NAME:` before the policies of a run, to set runs side by side.

    Raises:
      LedgerError: If a folder is not that of a run, its records were altered, or the runs cannot be joined.
    """
    return Evaluation(records.load_runs(list(folders)))


def make(
    task: str,
    *,
    suite: str = "metaworld",
    cameras: Sequence[str] | None = None,
    render_mode: str | None = "rgb_array",
    height: int = 224,
    width: int = 224,
    profile: RenderProfile = "fast",
) -> gymnasium.Env[dict[str, Any], Any]:
    """Create a task as a `gymnasium.Env`, truncated at its step limit.

    Args:
      task: Name of the task, with or without its version.
      suite: Name of the suite.
      cameras: Cameras of the observation; by default the first camera of the task.
      render_mode: `rgb_array`, or None if `render` is not needed.
      height: Height of images in pixels.
      width: Width of images in pixels.
      profile: Render profile; see `simloop.envs.interface.RenderSettings`.

    Raises:
      UnknownNameError: If there is no such suite or task.
    """
    from simloop.envs.gym import GymEnv

    env = GymEnv(
        use_suite(suite),
        task,
        cameras=cameras,
        render_mode=render_mode,
        height=height,
        width=width,
        profile=profile,
    )
    return gymnasium.wrappers.TimeLimit(env, env.spec_of_task.max_steps)
