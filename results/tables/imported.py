"""Published rates from the result files of other programs, counted from episodes rather than from rounded rates.

Read are logs of openpi's LIBERO client, `eval_info.json` of lerobot-eval, results of vla-eval, lists of episodes with a
`success` each (JSON, JSON lines or CSV), and tables of successes and episodes by task (CSV).
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simloop.results.errors import ResultsError
from simloop.untrusted import MAX_JSON_BYTES, parse_json, read_bytes

GROUPS = ("task_group", "suite", "task_suite", "task_suite_name", "benchmark", "task")
"""Keys that name the tasks of the episodes below them, those that name more tasks first."""
TRUE, FALSE = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no")
DONE, WON, TOTAL = "# episodes completed so far:", "# successes:", "Total episodes:"


@dataclass(frozen=True)
class Counts:
    """Episodes of one set of tasks."""

    tasks: str
    """Empty if the file does not name them."""
    successes: int
    episodes: int
    program: str
    """Program that wrote the file, which stands for its protocol."""


def read_counts(path: Path) -> list[Counts]:
    """Successes and episodes by set of tasks.

    Raises:
      ResultsError: If the file is none of the known ones, is incomplete, or contradicts itself.
    """
    text = read_bytes(path, MAX_JSON_BYTES, error=ResultsError).decode(errors="replace")
    if TOTAL in text or DONE in text:
        found = list(_of_log(text, path))
    elif text.lstrip()[:1] in ("{", "["):
        found = list(_of_json(_json(text, path)))
    else:
        found = list(_of_table(text, path))
    if not found:
        raise ResultsError(
            f"{path} holds no episodes in a known form: a log of openpi's LIBERO client, eval_info.json of "
            "lerobot-eval, results of vla-eval, or a list of episodes with 'success'."
        )
    return _summed(found)


def _json(text: str, path: Path) -> Any:
    lines = text.strip().splitlines()
    if len(lines) > 1 and lines[0].rstrip().endswith("}") and lines[1].startswith("{"):
        return [parse_json(line, str(path), error=ResultsError) for line in lines if line.strip()]
    return parse_json(text, str(path), error=ResultsError)


def _of_json(node: Any, tasks: str = "", program: str = "a list of episodes") -> Iterator[Counts]:
    """Counts of all lists of episodes in a JSON value."""
    if isinstance(node, list):
        outcomes = [_outcome(one) for one in node]
        if node and None not in outcomes:
            for one, outcome in zip(node, outcomes, strict=True):
                yield Counts(_group(one, tasks), int(bool(outcome)), 1, program)
            return
        for one in node:
            yield from _of_json(one, tasks, program)
    elif isinstance(node, dict):
        tasks, program = _group(node, tasks), _program(node, program)
        successes = node.get("successes")
        if isinstance(successes, list) and successes:
            won = [_truth(one) for one in successes]
            if None in won:
                raise ResultsError(
                    f"'successes' of {tasks or 'a task'} must be true or false; got {successes[:5]!r}."
                )
            yield Counts(tasks, sum(map(bool, won)), len(won), program)
            return
        for key, one in node.items():
            if key not in ("config", "aggregated", "overall", "per_group"):
                yield from _of_json(one, tasks, program)


def _outcome(episode: Any) -> bool | None:
    """Whether an episode succeeded; None if the value describes none."""
    if not isinstance(episode, dict):
        return None
    metrics = episode.get("metrics")
    holder = metrics if isinstance(metrics, dict) and "success" in metrics else episode
    return _truth(holder.get("success"))


def _truth(value: Any) -> bool | None:
    text = str(value).strip().lower()
    return True if text in TRUE else False if text in FALSE else None


def _group(node: Mapping[str, Any], tasks: str) -> str:
    """The set of tasks that a node names; that of the node above it if it names none or a single task of it."""
    config = node.get("config")
    params = config.get("params") if isinstance(config, dict) else None
    if isinstance(params, dict) and isinstance(params.get("suite"), str):
        return str(params["suite"])
    named = next((node[key] for key in GROUPS if isinstance(node.get(key), str) and node[key]), "")
    return tasks or named


def _program(node: Mapping[str, Any], program: str) -> str:
    if "per_task" in node or "per_episode" in node:
        return "lerobot-eval"
    return f"vla-eval {node['harness_version']}" if isinstance(node.get("harness_version"), str) else program


def _of_log(text: str, path: Path) -> Iterator[Counts]:
    """Counts of a log of openpi's LIBERO client, which has one part for each suite."""
    parts = re.split(r"Task suite: *(\S+)", text)
    names = ["", *parts[1::2]]
    for name, part in zip(names, parts[::2], strict=True):
        done = [int(number) for number in re.findall(rf"{re.escape(DONE)} *(\d+)", part)]
        won = [int(number) for number in re.findall(rf"{re.escape(WON)} *(\d+)", part)]
        totals = [int(number) for number in re.findall(rf"{re.escape(TOTAL)} *(\d+)", part)]
        if not done and not totals:
            continue
        if not totals:
            raise ResultsError(
                f"{path} ends after {done[-1]} episodes of {name or 'its suite'}, without '{TOTAL}'. Import a log of a "
                "complete evaluation."
            )
        if len(done) != len(won) or not done or done[-1] != totals[-1] or not won[-1] <= done[-1]:
            raise ResultsError(
                f"{path} contradicts itself: {totals[-1]} episodes in all, and {done[-1:]} with {won[-1:]} successes "
                "by its last counts."
            )
        yield Counts(name, won[-1], done[-1], "openpi's LIBERO client")


def _of_table(text: str, path: Path) -> Iterator[Counts]:
    """Counts of a CSV file with a row per episode (`success`) or per task (`successes`, `episodes`)."""
    try:
        rows = list(csv.DictReader(io.StringIO(text)))
    except csv.Error as error:
        raise ResultsError(f"{path} is no table: {error}.") from error
    for line, row in enumerate(rows, 2):
        tasks = next((row[key] for key in GROUPS if row.get(key)), "")
        if "success" in row and "episodes" not in row:
            outcome = _truth(row["success"])
            if outcome is None:
                raise ResultsError(
                    f"{path}, line {line}: success must be true or false; got {row['success']!r}."
                )
            yield Counts(tasks, int(outcome), 1, "a list of episodes")
        elif {"successes", "episodes"} <= row.keys():
            try:
                won, done = int(str(row["successes"])), int(str(row["episodes"]))
            except ValueError as error:
                raise ResultsError(f"{path}, line {line}: {error}.") from error
            if not 0 <= won <= done:
                raise ResultsError(f"{path}, line {line}: {won} successes of {done} episodes.")
            yield Counts(tasks, won, done, "a table of tasks")


def _summed(found: Sequence[Counts]) -> list[Counts]:
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    for one in found:
        won, done = sums.get((one.tasks, one.program), (0, 0))
        sums[one.tasks, one.program] = won + one.successes, done + one.episodes
    return [Counts(tasks, won, done, program) for (tasks, program), (won, done) in sums.items() if done]


def rows_to_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Text of a CSV file of published rates, with plain numbers."""
    out = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(out, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow(
            {key: value if isinstance(value, str) else json.dumps(value) for key, value in row.items()}
        )
    return out.getvalue()
