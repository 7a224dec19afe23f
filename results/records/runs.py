"""Load several run folders for joint analysis; incompatible runs are refused."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from simloop.results.records.compatibility import RunIdentity, mixture, refusal
from simloop.results.records.frames import load, load_queries
from simloop.results.records.ledger import LedgerError, TornTail
from simloop.results.records.planned import PlannedEpisodes
from simloop.results.records.records import (
    CONFIG,
    PROVENANCE,
    load_json,
    policy_label,
)
from simloop.results.records.written_policies import code_without_folder, split_name

KEY = ["policy", "suite", "protocol", "task", "episode"]


@dataclass(frozen=True)
class RunSource:
    """A run folder, with a prefix for its policies to tell runs of the same policies apart."""

    folder: Path
    name: str = ""

    @classmethod
    def parse(cls, text: str | Path) -> RunSource:
        """Parse `FOLDER` or `NAME=FOLDER`; an existing path is a folder even if it contains `=`."""
        name, equals, folder = str(text).partition("=")
        if not equals or not name or Path(text).exists():
            return cls(Path(text))
        return cls(Path(folder), name)

    def own_name(self, policy: str) -> str:
        """Return the name that a policy has in the run itself."""
        return policy.removeprefix(f"{self.name}:") if self.name else policy

    def policy(self, name: str) -> str:
        """Return the name of a policy of this run: `NAME:policy`, or as in the run."""
        return f"{self.name}:{name}" if self.name else name


@dataclass(frozen=True)
class Runs:
    """Finished episodes of several runs, with policies named after their sources."""

    sources: tuple[RunSource, ...]
    episodes: pd.DataFrame
    """As from `simloop.results.records.frames.load`, with the index of the source in the column `run`."""
    plans: tuple[PlannedEpisodes, ...]
    configs: tuple[Mapping[str, Any], ...]
    provenance: tuple[Mapping[str, Any], ...]

    @cached_property
    def queries(self) -> pd.DataFrame:
        """As from `simloop.results.records.frames.load_queries`, for all runs; read on first use."""
        frames = []
        for number, source in enumerate(self.sources):
            episodes = self.episodes[self.episodes["run"] == number]
            if source.name:
                episodes = episodes.assign(policy=episodes["policy"].map(source.own_name))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TornTail)  # Reported when the episodes were read.
                frames.append(_named(load_queries(source.folder, episodes), source))
        return pd.concat(frames, ignore_index=True)

    @property
    def stopped_policies(self) -> frozenset[str]:
        """Policies of runs with a stopping rule, which decides how many episodes they play."""
        return frozenset(name for plan in self.plans if plan.stops_early == "rule" for name in plan.policies)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What decided the episodes of different policies and differs between them, in sentences for every table."""
        learned = set(self.episodes.loc[self.episodes["weights"] != "scripted", "policy"].unique())
        by_suite: dict[str, list[tuple[str, RunIdentity]]] = {}
        for run, suite in self.episodes[["run", "suite"]].drop_duplicates().itertuples(index=False):
            source, identity = self.sources[run], RunIdentity.of(self.configs[run], self.provenance[run])
            policies = {source.policy(name): policy for name, policy in identity.policies.items()}
            shown = {name: policy for name, policy in policies.items() if name in learned}
            here = str(source.folder), replace(identity, policies=shown)
            by_suite.setdefault(suite, []).append(here)
        return tuple(dict.fromkeys(note for here in by_suite.values() for note in mixture(here)))

    @cached_property
    def own_code(self) -> tuple[str, ...]:
        """Which policies are code of the user, with the start of its hash, in a sentence for every table."""
        found: dict[str, None] = {}
        for source, config, provenance in zip(self.sources, self.configs, self.provenance, strict=True):
            for written in config.get("experiment", {}).get("policies", ()):
                name, policy = split_name(written)
                if code := code_without_folder(policy):
                    hashes = provenance.get("policies", {}).get(name, {}).get("fingerprint", {})
                    file = code.partition(":")[0]
                    if hashes and file not in hashes:  # `process:FOLDER` looks like code.
                        continue
                    sha256 = str(hashes.get(file, "not known"))
                    found[f"{source.policy(name)} is {code} (SHA-256 {sha256[:12]})"] = None
        return (f"{'; '.join(found)}.",) if found else ()

    @property
    def compile_s(self) -> dict[str, float]:
        """Seconds to compile and warm up, by policy."""
        return {
            source.policy(name): seconds
            for source, provenance in zip(self.sources, self.provenance, strict=True)
            for name, seconds in provenance.get("compile_s", {}).items()
        }

    @property
    def policies(self) -> tuple[str, ...]:
        """Policies with episodes: first in the planned order, then by name."""
        found = set(self.episodes["policy"].unique())
        first = [name for plan in self.plans for name in plan.policies if name in found]
        return tuple(dict.fromkeys([*first, *sorted(found)]))

    @property
    def labels(self) -> dict[str, str]:
        """Label of each policy in tables, which marks untrained ones."""
        weights: dict[str, str] = dict(
            self.episodes[["policy", "weights"]].drop_duplicates().itertuples(index=False)
        )
        return {policy: policy_label(policy, weights[policy]) for policy in self.policies}

    def evaluated(self, suite: str, protocol: str) -> int:
        """Number of policies and checkpoints that these runs tried under a protocol, finished or not."""
        episodes = self.episodes
        played = set(
            episodes.loc[(episodes["suite"] == suite) & (episodes["protocol"] == protocol), "policy"].unique()
        )
        plans = (plan for plan in self.plans if plan.suite == suite and plan.protocol in ("", protocol))
        return len(played.union(*(plan.policies for plan in plans)))


def load_runs(runs: str | Path | RunSource | Sequence[str | Path | RunSource]) -> Runs:
    """Read run folders, `FOLDER` or `NAME=FOLDER` each, finished or not.

    Protocols stay apart, by their column. Several runs may hold episodes of one policy if the episodes are distinct
    and the runs are compatible (`simloop.results.records.compatibility`).

    Raises:
      LedgerError: If a folder is no run folder, its records were altered, two runs hold the same episode, or
        incompatible runs hold episodes of one policy.
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
    _refuse_incompatible(episodes, sources, tuple(map(RunIdentity.of, configs, provenance)))
    _refuse_two_kinds_of_weights(episodes, sources)
    plans = tuple(
        plan
        for config, frame, source in zip(configs, frames, sources, strict=True)
        for plan in _plans(config, frame, source)
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


def _plans(config: Mapping[str, Any], frame: pd.DataFrame, source: RunSource) -> list[PlannedEpisodes]:
    """The plan of each protocol of a run; none if its configuration has none."""
    plan = PlannedEpisodes.from_config(config)
    if plan is None:
        return []
    plan = dataclasses.replace(plan, policies=tuple(map(source.policy, plan.policies)))
    protocols = config.get("protocols") or [
        plan.protocol or (frame["protocol"].iloc[0] if len(frame) else "")
    ]
    return [dataclasses.replace(plan, protocol=protocol) for protocol in protocols]


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


def _refuse_incompatible(
    episodes: pd.DataFrame, sources: Sequence[RunSource], identities: Sequence[RunIdentity]
) -> None:
    """Raise `LedgerError` if runs that may not be mixed hold episodes of one policy."""
    for policy, of_policy in episodes.groupby("policy")["run"]:
        for first, other in itertools.combinations(of_policy.unique(), 2):
            a, b = (identities[run].only(sources[run].own_name(str(policy))) for run in (first, other))
            if found := refusal(a, b, "table"):
                raise LedgerError(
                    f"Episodes of {policy!r} in {sources[first].folder} and {sources[other].folder} cannot share a "
                    f"column: {found}. To set the runs side by side, name them: one={sources[first].folder} "
                    f"two={sources[other].folder}."
                )


def _refuse_two_kinds_of_weights(episodes: pd.DataFrame, sources: Sequence[RunSource]) -> None:
    """Raise `LedgerError` if episodes of one policy have, for example, trained and untrained weights."""
    kinds = episodes[["policy", "weights", "run"]].drop_duplicates(["policy", "weights"])
    twice = kinds[kinds.duplicated("policy", keep=False)].sort_values("policy", kind="stable")
    if len(twice):
        policy = twice["policy"].iloc[0]
        found = [
            f"{weights!r} in {sources[run].folder}"
            for weights, run in twice.loc[twice["policy"] == policy, ["weights", "run"]].itertuples(
                index=False
            )
        ]
        raise LedgerError(
            f"Wanted one kind of weights for policy {policy!r}; got {' and '.join(found)}. Tabulate them separately, "
            "or name the runs: one=FOLDER two=FOLDER."
        )
