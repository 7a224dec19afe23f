"""Several run folders as one body of evidence; what must not be mixed is refused."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simloop.results.records.ledger import LedgerError, TornTail
from simloop.results.records.planned import PlannedEpisodes
from simloop.results.records.records import (
    CONFIG,
    DECIDING_SOFTWARE,
    PROVENANCE,
    load,
    load_json,
    load_queries,
    look_up,
    policy_label,
)

KEY = ["policy", "suite", "protocol", "task", "episode"]


@dataclass(frozen=True)
class RunSource:
    """A run folder, and a name in front of its policies where runs share policy names."""

    folder: Path
    name: str = ""

    @classmethod
    def parse(cls, text: str | Path) -> RunSource:
        """Read `FOLDER` or `NAME=FOLDER`; a folder that exists is a folder, whatever its name."""
        name, equals, folder = str(text).partition("=")
        if not equals or not name or Path(text).exists():
            return cls(Path(text))
        return cls(Path(folder), name)

    def policy(self, name: str) -> str:
        """What a policy of this run is called: `NAME:policy`, or as in the run."""
        return f"{self.name}:{name}" if self.name else name


@dataclass(frozen=True)
class Runs:
    """The finished episodes of some runs, policies named as their sources say."""

    sources: tuple[RunSource, ...]
    episodes: pd.DataFrame
    """As from `simloop.results.records.records.load`, with a column `run` that counts the sources from 0."""
    plans: tuple[PlannedEpisodes, ...]
    configs: tuple[Mapping[str, Any], ...]
    provenance: tuple[Mapping[str, Any], ...]

    @cached_property
    def queries(self) -> pd.DataFrame:
        """As from `simloop.results.records.records.load_queries`, of all runs. Read when asked for."""
        frames = []
        for source in self.sources:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TornTail)  # Told once, when the episodes were read.
                frames.append(_named(load_queries(source.folder), source))
        return pd.concat(frames, ignore_index=True)

    @property
    def compile_s(self) -> dict[str, float]:
        """Seconds each policy took to compile and warm up."""
        return {
            source.policy(name): seconds
            for source, provenance in zip(self.sources, self.provenance, strict=True)
            for name, seconds in provenance.get("compile_s", {}).items()
        }

    @property
    def policies(self) -> tuple[str, ...]:
        """The policies with episodes, as planned, then by name."""
        found = set(self.episodes["policy"])
        first = [name for plan in self.plans for name in plan.policies if name in found]
        return tuple(dict.fromkeys([*first, *sorted(found)]))

    @property
    def labels(self) -> dict[str, str]:
        """How tables name each policy: an untrained one never without saying so."""
        weights = dict(zip(self.episodes["policy"], self.episodes["weights"], strict=True))
        return {policy: policy_label(policy, weights[policy]) for policy in self.policies}

    @property
    def looked_at(self) -> int:
        """How many policies and checkpoints these runs tried, whether or not they finished."""
        return len({*self.policies, *(name for plan in self.plans for name in plan.policies)})


def load_runs(runs: str | Path | RunSource | Sequence[str | Path | RunSource]) -> Runs:
    """Read run folders, `FOLDER` or `NAME=FOLDER` each, finished or not.

    Different protocols stay apart, by their column. One policy may be spread over several runs if
    they hold different episodes and had the same weights and software.

    Raises:
      LedgerError: If a folder is not that of a run, its records were altered, two runs hold the same
        episode, or a policy is spread over runs that are not alike.
    """
    several = [runs] if isinstance(runs, (str, Path, RunSource)) else list(runs)
    if not several:
        raise LedgerError("Wanted at least one run folder; got none.")
    sources = tuple(run if isinstance(run, RunSource) else RunSource.parse(run) for run in several)
    frames = [_named(load(source.folder), source).assign(run=i) for i, source in enumerate(sources)]
    episodes = pd.concat(frames, ignore_index=True)
    _refuse_twice(episodes, sources)
    configs = tuple(load_json(source.folder, CONFIG) for source in sources)
    provenance = tuple(load_json(source.folder, PROVENANCE) for source in sources)
    _refuse_unlike(episodes, sources, provenance)
    plans = tuple(
        plan
        for config, frame, source in zip(configs, frames, sources, strict=True)
        if (plan := _plan(config, frame, source)) is not None
    )
    return Runs(
        sources,
        episodes.sort_values(["suite", "protocol", "policy", "task", "episode"], ignore_index=True),
        plans,
        configs,
        provenance,
    )


def _named(frame: pd.DataFrame, source: RunSource) -> pd.DataFrame:
    return frame.assign(policy=f"{source.name}:" + frame["policy"]) if source.name else frame


def _plan(config: Mapping[str, Any], frame: pd.DataFrame, source: RunSource) -> PlannedEpisodes | None:
    plan = PlannedEpisodes.from_config(config)
    if plan is None:
        return None
    protocol = plan.protocol or (frame["protocol"].iloc[0] if len(frame) else "")
    policies = tuple(map(source.policy, plan.policies))
    return PlannedEpisodes(plan.suite, policies, plan.episodes, plan.tasks, protocol, plan.stops_early)


def _refuse_twice(episodes: pd.DataFrame, sources: Sequence[RunSource]) -> None:
    twice = episodes[episodes.duplicated(KEY, keep=False)]
    if twice.empty:
        return
    first = twice.sort_values(KEY, kind="stable").iloc[:2]
    folders = [sources[run].folder for run in first["run"]]
    row = first.iloc[0]
    raise LedgerError(
        f"Both {folders[0]} and {folders[1]} hold episode {row['episode']} of task {row['task']!r} by policy "
        f"{row['policy']!r} (protocol {row['protocol']!r}), and an episode counts once. To set the runs side "
        f"by side, name them: one={folders[0]} two={folders[1]}."
    )


def _refuse_unlike(
    episodes: pd.DataFrame, sources: Sequence[RunSource], provenance: Sequence[Mapping[str, Any]]
) -> None:
    """Refuse a policy whose episodes were not all played by the same weights and software."""
    for policy, of_policy in episodes.groupby("policy")["run"]:
        first, *others = np.unique(of_policy)
        for other in others:
            a, b = (_identity(provenance[run], sources[run], str(policy)) for run in (first, other))
            unlike = [f"{key}: {a[key]} and {b[key]}" for key in a if a[key] != b[key]]
            if unlike:
                raise LedgerError(
                    f"Episodes of {policy!r} in {sources[first].folder} and {sources[other].folder} are "
                    f"not alike and share no column: {'; '.join(unlike)}. To set the runs side by side, name "
                    f"them: one={sources[first].folder} two={sources[other].folder}."
                )


def _identity(provenance: Mapping[str, Any], source: RunSource, policy: str) -> dict[str, Any]:
    own_name = policy.removeprefix(f"{source.name}:") if source.name else policy
    start = (provenance.get("starts") or [{}])[-1]
    software = {key: look_up(start, key) for key in DECIDING_SOFTWARE}
    weights = provenance.get("policies", {}).get(own_name, {}).get("fingerprint")
    return software | {"weights and statistics": weights}
