"""Merge the run folders of several machines, with videos and step records.

Each machine plays a part of the same plan (`simloop run ... --shard 1/3`). Episodes that several machines played
must have equal records.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simloop.harness.planning.code_of_runs import use_own_suite_of
from simloop.harness.planning.experiment import Experiment, experiment_from_json
from simloop.harness.planning.plan import Plan
from simloop.harness.recording.run_folder import RunFolder, RunFolderError, write_atomically
from simloop.results.records.compatibility import RunIdentity, refusal
from simloop.results.records.ledger import read_lines
from simloop.results.records.paths import step_files
from simloop.results.records.records import (
    CONFIG,
    PROVENANCE,
    QUERIES,
    EpisodeKey,
    EpisodeRecord,
    QueryRecord,
    episode_name,
    file_of,
    load_json,
    queries_from_dict,
    read_episodes,
    video_of,
)
from simloop.untrusted import inside, read_bytes

COMPARED = (
    "seed",
    "outcome",
    "ended_by",
    "steps",
    "queries",
    "undecodable",
    "actions_sha256",
    "final_state_sha256",
)
"""Fields in which records of the same episode must agree."""
MAX_VIDEO_BYTES = 1 << 30


class MergeError(RunFolderError):
    """Run folders cannot be merged."""


@dataclass(frozen=True)
class MergeSource:
    """One of the folders to merge."""

    folder: Path
    experiment: Experiment
    identity: RunIdentity
    provenance: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> MergeSource:
        """Read the configuration and provenance of a folder."""
        config = load_json(folder, CONFIG)
        if not config:
            raise MergeError(
                f"{folder} has no {CONFIG}, which states the experiment. Name a folder that `simloop run` wrote."
            )
        experiment = experiment_from_json(json.dumps(config.get("experiment")), str(folder / CONFIG))
        use_own_suite_of(experiment.protocol, str(folder))
        provenance = load_json(folder, PROVENANCE)
        identity = RunIdentity.of(config | {"experiment": experiment.to_dict()}, provenance)
        return cls(folder, experiment, identity, provenance)

    def queries(self) -> dict[EpisodeKey, list[QueryRecord]]:
        """Return the query records by episode; the last line of an episode counts."""
        path = file_of(self.folder, QUERIES)
        lines = enumerate(read_lines(path) if path.exists() else [], start=1)
        return dict(queries_from_dict(payload, f"{path}, line {number}") for number, payload in lines)


@dataclass(frozen=True)
class Merged:
    """Counts of a merge."""

    episodes: int
    planned: int
    doubles: int
    """Episodes found in more than one folder."""


def merge(folders: Sequence[Path], out: Path) -> Merged:
    """Copy the episodes of run folders into the new folder `out`, which appears once it is complete.

    Raises:
      MergeError: If `out` exists, or the folders may not be mixed (`results.records.compatibility`) or disagree
        about an episode.
      LedgerError: If the records of a folder were altered.
    """
    if out.exists():
        raise MergeError(f"{out} exists already. Choose another --out folder; it may be merged as well.")
    sources = [MergeSource.read(folder) for folder in folders]
    for a, b in itertools.combinations(sources, 2):
        if differing := refusal(a.identity, b.identity, "merge"):
            raise MergeError(f"{a.folder} and {b.folder} cannot be merged: {differing}.")
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
    folder.require_planned(records, source.folder)
    queries = source.queries() if records else {}
    for record in records:
        files = {
            name: read_bytes(inside(source.folder, name), MAX_VIDEO_BYTES, error=MergeError)
            for name in step_files(source.folder, record)
        }
        if video := video_of(source.folder, record.video):
            files[record.video] = read_bytes(video, MAX_VIDEO_BYTES, error=MergeError)
        kept = record if video else dataclasses.replace(record, video="")
        folder.append(kept, queries.get(record.key, []), files)


def _plan(source: MergeSource) -> Plan:
    plan = source.experiment.plan()
    if plan.sha256 != source.identity.plan_sha256:
        raise MergeError(
            f"{source.folder} was planned by another version of simloop, which derives other tasks or seeds from "
            "the same experiment. Merge with the version that ran it."
        )
    return plan


def _choose(sources: Sequence[MergeSource]) -> tuple[dict[Path, list[EpisodeRecord]], int]:
    """Choose the folder from which each episode is taken: one where it did not end in an error, if any."""
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
        for name in COMPARED
        if getattr(mine, name) != getattr(yours, name)
    ]
    if differing:
        raise MergeError(
            f"{a.folder} and {b.folder} disagree about {episode_name(mine.key)}: {'; '.join(differing)}. One of the "
            "machines computes other results; find out which before using either."
        )


def _provenance(sources: Sequence[MergeSource]) -> dict[str, Any]:
    """Return one provenance with the starts of all sources."""
    merged: dict[str, Any] = {"starts": []}
    for source in sources:
        content = source.provenance
        for key in ("plan_sha256", "protocol_sha256"):
            merged.setdefault(key, content.get(key))
        for key in ("policies", "compile_s"):
            merged[key] = {**content.get(key, {}), **merged.get(key, {})}
        merged["starts"] += [start for start in content.get("starts", []) if start not in merged["starts"]]
    return merged
