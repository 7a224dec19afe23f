"""Schema of run folders: episode and query records.

`episodes.jsonl` has a line per finished episode (`EpisodeRecord`). `queries.jsonl` has a line per episode with the
latencies of its queries (`QueryRecord`, by column), which is written first. `config.json` holds the experiment and
`provenance.json` the software and hardware that ran it.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from simloop.results.records.config_schema import schema_problem
from simloop.results.records.ledger import LedgerError, read_lines
from simloop.untrusted import inside, read_json_object

CONFIG = "config.json"
EPISODES = "episodes.jsonl"
QUERIES = "queries.jsonl"
PROVENANCE = "provenance.json"
VIDEOS = "videos"

Outcome = Literal["success", "failure", "error"]
EndedBy = Literal["success", "step_limit", "undecodable", "invalid_action", "error"]
"""`invalid_action`: an action of the policy was nan or infinite, which is a failure."""
EpisodeKey = tuple[str, str, str, str, int]
"""(policy, suite, protocol, task, episode), under which an episode counts once."""


@dataclass(frozen=True)
class EpisodeRecord:
    """Outcome of one episode, which counts once under its key (policy, suite, protocol, task, episode)."""

    policy: str
    weights: str
    """`scripted`, `untrained`, `trained` or `unknown` (behind a server); tables mark untrained and unknown ones."""
    suite: str
    protocol: str
    task: str
    episode: int
    """0-based number of the episode within its task."""
    seed: int
    """Seed of the initial state; equal for all policies, so that episodes are paired."""
    outcome: Outcome
    """An `error` is a fault of software or machine and never counts as a failure."""
    ended_by: EndedBy
    steps: int
    """Number of executed control steps."""
    queries: int
    """Number of policy queries."""
    undecodable: int
    """Number of queries whose tokens decoded to no valid chunk."""
    reward: float
    """Sum of the rewards of the suite."""
    attempts: int
    """Number of attempts; earlier ones ended in an error."""
    error: str
    """Error message for the outcome `error`; empty otherwise."""
    actions_sha256: str
    """Hash of all executed actions (float32, little-endian, in order)."""
    final_state_sha256: str
    """Hash of the final simulator state (float64, little-endian)."""
    wall_s: float
    """Seconds from the reset to the end, including waiting."""
    video: str
    """Path of the video within the run folder; empty without a video."""
    max_steps: int = 0
    """Step limit of the episode; 0 if unknown, in records of older versions, which also lack what follows."""
    held: int = 0
    """Number of control steps at which the robot held still because no chunk had an action."""
    age_steps: float = 0.0
    """Mean age of the executed actions: control steps since the observation that they answer."""
    jerk: float = 0.0
    """Mean magnitude of the third difference of commanded positions, in half ranges of the actions."""
    seam_jump: float = 0.0
    """Mean change of the action from one chunk to the next, in half ranges of the actions."""
    prompt_source: str = ""
    """Where the instruction is written that the policy received: `suite` where the suite has one sentence for the task,
    `episode` where it has one for each episode, `filename` or `bddl` where it has several, `changed` in forks with
    another; empty for errors."""

    @property
    def key(self) -> EpisodeKey:
        """Key under which the episode counts."""
        return (self.policy, self.suite, self.protocol, self.task, self.episode)

    def to_dict(self) -> dict[str, Any]:
        """Return the payload of the episode's line in the ledger; non-finite floats become text."""
        return {name: _to_json(value) for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any], where: str = "episode") -> EpisodeRecord:
        """Read an episode from a payload. `where` names it in errors.

        Raises:
          LedgerError: If fields are missing, unknown or of another type; the text names all of them.
        """
        types = FIELD_TYPES[cls]
        payload = {**_LATER_FIELDS, **payload}
        _want_names(set(types), set(payload), where)
        values = {name: _from_json(payload[name], kind) for name, kind in types.items()}
        wrong = [
            f"{name} = {payload[name]!r} (wanted {_type_name(kind)})"
            for name, kind in types.items()
            if not _is(values[name], kind)
        ]
        if wrong:
            raise LedgerError(f"{where}: {'; '.join(wrong)}. {_OTHER_VERSION}")
        record = cls(**values)
        if impossible := record.contradictions():
            raise LedgerError(
                f"{where}: no run writes {episode_name(record.key)} with {'; '.join(impossible)}. {_WHAT_TO_DO}"
            )
        return record

    def contradictions(self) -> list[str]:
        """Describe the fields that contradict each other or their meaning; empty for every record of a run."""
        found = [
            f"{name} = {getattr(self, name)}"
            for name, least in (
                ("episode", 0),
                ("steps", 0),
                ("queries", 0),
                ("undecodable", 0),
                ("attempts", 1),
            )
            if getattr(self, name) < least
        ]
        if self.undecodable > self.queries:
            found.append(f"{self.undecodable} undecodable of {self.queries} queries")
        for outcome in ("success", "error"):
            if (self.outcome == outcome) != (self.ended_by == outcome):
                found.append(f"the outcome {self.outcome} and the ending {self.ended_by}")
                break
        if self.error and self.outcome != "error":
            found.append(f"the outcome {self.outcome} and the error {self.error!r}")
        return found


@dataclass(frozen=True)
class QueryRecord:
    """Latency of one query by stage, in milliseconds; `simloop.harness.rollout.latency` defines the stages.

    total = render + adapt + retry + transport + queue + host + device + post + turn, up to rounding.

    Ledgers written before `retry_ms` and `turn_ms` were recorded are read with 0 for both: retries are then part of
    `adapt_ms` and `total_ms`, and the turn is part of `queue_ms` or `transport_ms`.
    """

    index: int
    """0-based number of the query within its episode."""
    render_ms: float
    """Rendering of the cameras."""
    adapt_ms: float
    """Conversion from the observation of the suite to the query, and of actions back."""
    retry_ms: float
    """Connecting, a restart of the policy worker with loading and compiling, and lost tries."""
    transport_ms: float
    """Both directions between env actor and policy."""
    queue_ms: float
    """Waiting for the policy, its host thread or its device."""
    host_ms: float
    """Resizing, normalization, tokenization and padding, and assembling of the batch."""
    device_ms: float
    """Copies and the model, until results are on the host."""
    post_ms: float
    """Unnormalization and decoding of actions."""
    turn_ms: float
    """From the arrival of the reply until the episode goes on, while the env actor simulates other environments."""
    total_ms: float
    """From the observation request to executable actions."""
    batch: int
    """Number of queries in the batch."""
    bucket: int
    """Batch size of the compiled program, padding included."""


_LATER_FIELDS: dict[str, Any] = {
    "max_steps": 0,
    "held": 0,
    "age_steps": 0.0,
    "jerk": 0.0,
    "seam_jump": 0.0,
    "prompt_source": "",
}
"""Fields of `EpisodeRecord` that older ledgers lack, with the values that they are read with."""

LATER_STAGES = frozenset({"retry_ms", "turn_ms"})
"""Fields of `QueryRecord` that older ledgers lack."""


def queries_to_dict(key: EpisodeKey, queries: Sequence[QueryRecord]) -> dict[str, Any]:
    """Return the payload of an episode's line in `queries.jsonl`: its key, and a list per field."""
    columns = {name: [getattr(query, name) for query in queries] for name in FIELD_TYPES[QueryRecord]}
    return {"key": list(key), "queries": columns}


def queries_from_dict(payload: Mapping[str, Any], where: str) -> tuple[EpisodeKey, list[QueryRecord]]:
    """Read an episode's key and queries from the payload of their line. `where` names it in errors.

    Raises:
      LedgerError: If fields are missing, unknown, of another type or of unequal length.
    """
    key, columns = query_columns(payload, where)
    return key, [
        QueryRecord(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)
    ]


def read_episodes(run: str | Path) -> list[EpisodeRecord]:
    """Read the finished episodes of a run, in the order in which they finished.

    A step limit that older versions did not record with the episode is taken from `config.json`, if it is there.

    Raises:
      LedgerError: If the folder is no run folder, or the ledger was altered or holds an episode twice.
    """
    path = file_of(run_folder(run), EPISODES)
    if not path.exists():  # No episode has finished yet.
        return []
    limits = load_json(run, CONFIG).get("max_steps", {})
    lines: dict[EpisodeKey, int] = {}
    episodes = []
    for number, payload in enumerate(read_lines(path), start=1):
        episode = EpisodeRecord.from_dict(payload, f"{path}, line {number}")
        if episode.key in lines:
            raise LedgerError(
                f"{path}: lines {lines[episode.key]} and {number} both record {episode_name(episode.key)}. "
                "An episode counts once: remove the line that another run wrote."
            )
        lines[episode.key] = number
        limit = episode.max_steps or limits.get(episode.task, 0)
        episodes.append(
            dataclasses.replace(episode, max_steps=limit) if limit != episode.max_steps else episode
        )
    return episodes


def load_json(run: str | Path, name: str) -> dict[str, Any]:
    """Read `config.json` or `provenance.json` of a run; empty if it is not written yet.

    Raises:
      LedgerError: If the folder is no run folder, or the file is not what a run writes.
    """
    path = file_of(run_folder(run), name)
    if not path.exists():
        return {}
    content = read_json_object(path, remedy="Restore the file from a copy.", error=LedgerError)
    if problem := schema_problem(name, content):
        raise LedgerError(f"{path}: {problem}. Restore the file from a copy.")
    return content


def file_of(run: Path, name: str) -> Path:
    """Return the path of a file of a run, which may not exist.

    Raises:
      LedgerError: If the name or a link leads out of the folder.
    """
    return inside(run, name, error=LedgerError)


def video_of(run: Path, record_video: str) -> Path | None:
    """Return the path of the video that a ledger names; None if it names none or there is no such file.

    Raises:
      LedgerError: If the name or a link leads out of the folder of videos.
    """
    if not record_video:
        return None
    if PurePosixPath(record_video).parts[:1] != (VIDEOS,):
        raise LedgerError(
            f"{run} names the video {record_video!r}: wanted a file in {VIDEOS}/. Do not trust this folder."
        )
    file = inside(run, record_video, error=LedgerError)
    return file if file.is_file() else None


def look_up(content: Any, dotted: str) -> Any:
    """Return the entry of nested mappings at `a.b.c`; None if there is none."""
    for part in dotted.split("."):
        content = content.get(part) if isinstance(content, Mapping) else None
    return content


def run_folder(run: str | Path) -> Path:
    """Return the folder of a run.

    Raises:
      LedgerError: If it does not exist or holds no file of a run.
    """
    folder = Path(run)
    if not any((folder / name).exists() for name in (CONFIG, PROVENANCE, EPISODES)):
        raise LedgerError(
            f"{folder} is no run folder: wanted {CONFIG}, {PROVENANCE} or {EPISODES} in it. "
            "Name a folder that `simloop run` wrote, such as runs/demo."
        )
    return folder


def policy_label(policy: str, weights: str) -> str:
    """Return the label of a policy in tables, which marks untrained ones and those of policy servers."""
    marks = {"untrained": "untrained", "unknown": "served"}
    return f"{policy} ({marks[weights]})" if weights in marks else policy


def episode_name(key: EpisodeKey) -> str:
    """Describe an episode in messages."""
    policy, suite, protocol, task, episode = key
    return f"episode {episode} of task {task!r} by policy {policy!r} ({suite}, protocol {protocol!r})"


_OTHER_VERSION = "Read it with the version of simloop that wrote it."
_WHAT_TO_DO = "Restore the file from a copy."

FIELD_TYPES: Mapping[type, dict[str, Any]] = {
    record: typing.get_type_hints(record) for record in (EpisodeRecord, QueryRecord)
}
"""The fields of the records with their types: str, int, float, or a Literal of strings."""

_LITERALS: Mapping[Any, tuple[str, ...]] = {
    kind: typing.get_args(kind) for types in FIELD_TYPES.values() for kind in types.values()
}
"""Strings of each type that is a Literal, looked up once per field of large runs."""


def _want_names(wanted: set[str], got: set[str], where: str) -> None:
    if wanted != got:
        raise LedgerError(
            f"{where}: missing fields: {', '.join(sorted(wanted - got)) or 'none'}; unknown fields: "
            f"{', '.join(sorted(got - wanted)) or 'none'}. {_OTHER_VERSION}"
        )


def _type_name(kind: Any) -> str:
    literals = typing.get_args(kind)
    return f"one of {', '.join(literals)}" if literals else kind.__name__


def _is(value: Any, kind: Any) -> bool:
    if literals := _LITERALS[kind]:
        return value in literals
    return type(value) is kind and (kind is not int or -(2**63) <= value < 2**63)


def _to_json(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(value: Any, kind: Any) -> Any:
    if kind is float and (type(value) is int or value in ("nan", "inf", "-inf")):
        return float(value)
    return value


def query_columns(payload: Mapping[str, Any], where: str) -> tuple[EpisodeKey, dict[str, list[Any]]]:
    """Return the key and, by field, the checked values of a line of queries."""
    _want_names({"key", "queries"}, set(payload), where)
    key, found = payload["key"], payload["queries"]
    if not isinstance(key, list) or [type(part) for part in key] != [str, str, str, str, int]:
        raise LedgerError(f"{where}: wanted the key [policy, suite, protocol, task, episode]; got {key!r}.")
    if not isinstance(found, dict) or not all(isinstance(column, list) for column in found.values()):
        raise LedgerError(f"{where}: wanted a list for every field of the queries; got {found!r}.")
    types = FIELD_TYPES[QueryRecord]
    for name in LATER_STAGES - set(found):
        found[name] = [0.0] * len(found.get("index", ()))
    _want_names(set(types), set(found), where)
    columns = {name: [_from_json(value, kind) for value in found[name]] for name, kind in types.items()}
    if len({len(column) for column in columns.values()}) != 1:
        lengths = {name: len(column) for name, column in columns.items()}
        raise LedgerError(
            f"{where}: wanted equal numbers of values for all fields of the queries; got {lengths}."
        )
    for name, kind in types.items():
        wrong = [value for value in columns[name] if not _is(value, kind)]
        if wrong:
            raise LedgerError(f"{where}: {name} = {wrong[0]!r} (wanted {_type_name(kind)}). {_OTHER_VERSION}")
        least = 1 if name in ("batch", "bucket") else -math.inf
        odd = [value for value in columns[name] if not (kind is int or math.isfinite(value)) or value < least]
        if odd:
            raise LedgerError(f"{where}: no run writes a query with {name} = {odd[0]}. {_WHAT_TO_DO}")
    if columns["index"] != list(range(len(columns["index"]))):
        raise LedgerError(f"{where}: wanted indices from 0 in order; got {columns['index']}.")
    policy, suite, protocol, task, episode = key
    return (policy, suite, protocol, task, episode), columns
