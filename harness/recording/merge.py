"""Run folders of several machines as one: nothing counted twice, nothing unlike mixed.

Each machine plays its share of the same plan (`simloop run ... --shard 1/3`), or what it was told to; episodes
that several of them played must have come out alike.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simloop.harness.planning.experiment import Experiment, differences, experiment_from_json
from simloop.harness.planning.plan import Plan
from simloop.harness.recording.run_folder import RunFolder, RunFolderError, write_atomically
from simloop.results.records.ledger import read_lines
from simloop.results.records.records import (
    CONFIG,
    DECIDING_SOFTWARE,
    PROVENANCE,
    QUERIES,
    EpisodeKey,
    EpisodeRecord,
    QueryRecord,
    episode_name,
    load_json,
    look_up,
    queries_from_dict,
    read_episodes,
)

ALIKE = (
    "seed",
    "outcome",
    "ended_by",
    "steps",
    "queries",
    "undecodable",
    "actions_sha256",
    "final_state_sha256",
)
"""What two machines that played the same episode must agree in."""


class MergeError(RunFolderError):
    """Run folders that do not belong together."""


@dataclass(frozen=True)
class MergeSource:
    """One of the folders."""

    folder: Path
    experiment: Experiment
    plan_sha256: str
    provenance: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> MergeSource:
        """Open a folder for reading."""
        config = load_json(folder, CONFIG)
        if not config:
            raise MergeError(f"{folder} has no {CONFIG}, so nobody knows what its episodes are.")
        experiment = experiment_from_json(json.dumps(config.get("experiment")), str(folder / CONFIG))
        return cls(folder, experiment, config.get("plan_sha256", ""), load_json(folder, PROVENANCE))

    def queries(self) -> dict[EpisodeKey, list[QueryRecord]]:
        """By episode; the last line of each counts."""
        path = self.folder / QUERIES
        lines = enumerate(read_lines(path) if path.exists() else [], start=1)
        return dict(queries_from_dict(payload, f"{path}, line {number}") for number, payload in lines)


@dataclass(frozen=True)
class Merged:
    """What a merge came to."""

    episodes: int
    planned: int
    doubles: int
    """Episodes that more than one folder held."""


def merge(folders: Sequence[Path], out: Path) -> Merged:
    """Put the episodes of run folders into a new one, `out`, which appears when it is whole.

    Raises:
      MergeError: If `out` exists, or the folders are of different experiments, software, weights or
        statistics, or disagree about an episode.
      LedgerError: If a folder was altered.
    """
    if out.exists():
        raise MergeError(f"{out} exists already. Choose another --out folder; it may be merged as well.")
    sources = [MergeSource.read(folder) for folder in folders]
    for other in sources[1:]:
        _require_alike(sources[0], other)
    chosen, doubles = _choose(sources)
    plan = _plan(sources[0])
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as parent:
        part = Path(parent) / out.name
        with RunFolder(part, sources[0].experiment, plan) as folder:
            write_atomically(part / PROVENANCE, json.dumps(_provenance(sources), indent=2) + "\n")
            for source in sources:
                _copy(source, chosen.get(source.folder, []), folder)
            merged = Merged(len(folder.done), len(plan.episodes), doubles)
        part.rename(out)
    return merged


def _copy(source: MergeSource, records: Sequence[EpisodeRecord], folder: RunFolder) -> None:
    queries = source.queries() if records else {}
    for record in records:
        video = source.folder / record.video
        content = video.read_bytes() if record.video and video.is_file() else None
        kept = record if content is not None else dataclasses.replace(record, video="")
        folder.append(kept, queries.get(record.key, []), content)


def _plan(source: MergeSource) -> Plan:
    plan = source.experiment.plan()
    if plan.sha256 != source.plan_sha256:
        raise MergeError(
            f"{source.folder} was planned by another version of simloop, which derives other tasks or seeds from "
            "the same experiment. Merge with the version that ran it."
        )
    return plan


def _require_alike(first: MergeSource, other: MergeSource) -> None:
    """Raise `MergeError` unless the episodes of both could have been played by either."""
    differing = differences(first.experiment.identity(), other.experiment.identity())
    if not differing and first.plan_sha256 != other.plan_sha256:
        differing = ["plan_sha256: the two derive other tasks or seeds from the same experiment"]
    differing += _unlike_starts(first, other) + _unlike_policies(first, other)
    if differing:
        raise MergeError(
            f"{first.folder} and {other.folder} are not alike: {'; '.join(differing)}. Only runs of the same "
            "experiment, software and weights make one."
        )


def _unlike_starts(first: MergeSource, other: MergeSource) -> list[str]:
    """In what the software of two runs differs, and whether one of them gave up order for speed."""
    differing = []
    for a in first.provenance.get("starts", []):
        for b in other.provenance.get("starts", []):
            pairs = [(key, look_up(a, key), look_up(b, key)) for key in DECIDING_SOFTWARE]
            pairs.append(("throughput", len(a.get("buckets", [0])) > 1, len(b.get("buckets", [0])) > 1))
            differing += [f"{key}: {mine} -> {yours}" for key, mine, yours in pairs if mine != yours]
    return list(dict.fromkeys(differing))


def _unlike_policies(first: MergeSource, other: MergeSource) -> list[str]:
    """In what the policies differ that both have loaded: weights, statistics, kind of device, kernels."""
    ours, theirs = (source.provenance.get("policies", {}) for source in (first, other))
    return [
        f"{name}.{key}: {ours[name].get(key)} -> {theirs[name].get(key)}"
        for name in sorted(ours.keys() & theirs.keys())
        for key in ("fingerprint", "device", "kernels")
        if ours[name].get(key) != theirs[name].get(key)
    ]


def _choose(sources: Sequence[MergeSource]) -> tuple[dict[Path, list[EpisodeRecord]], int]:
    """Which folder each episode is taken from: one where it came to an end, if there is one."""
    found: dict[EpisodeKey, tuple[MergeSource, EpisodeRecord]] = {}
    doubles = set()
    for source in sources:
        for record in read_episodes(source.folder):
            if record.key not in found:
                found[record.key] = (source, record)
                continue
            doubles.add(record.key)
            holder, known = found[record.key]
            if known.outcome == "error":
                found[record.key] = (source, record)
            elif record.outcome != "error":
                _require_agreement(holder, known, source, record)
    chosen: dict[Path, list[EpisodeRecord]] = {}
    for source, record in found.values():
        chosen.setdefault(source.folder, []).append(record)
    return chosen, len(doubles)


def _require_agreement(a: MergeSource, mine: EpisodeRecord, b: MergeSource, yours: EpisodeRecord) -> None:
    differing = [
        f"{name}: {getattr(mine, name)} -> {getattr(yours, name)}"
        for name in ALIKE
        if getattr(mine, name) != getattr(yours, name)
    ]
    if differing:
        raise MergeError(
            f"{a.folder} and {b.folder} disagree about {episode_name(mine.key)}: {'; '.join(differing)}. One of the "
            "machines computes otherwise; find out which before either is believed."
        )


def _provenance(sources: Sequence[MergeSource]) -> dict[str, Any]:
    """One that tells of all starts."""
    merged: dict[str, Any] = {"starts": []}
    for source in sources:
        content = source.provenance
        for key in ("plan_sha256", "protocol_sha256"):
            merged.setdefault(key, content.get(key))
        for key in ("policies", "compile_s"):
            merged[key] = {**content.get(key, {}), **merged.get(key, {})}
        merged["starts"] += [start for start in content.get("starts", []) if start not in merged["starts"]]
    return merged
