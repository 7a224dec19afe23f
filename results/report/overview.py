"""Data of the first screen of a run: means with intervals, and the outcome of every episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simloop.results.records.records import look_up
from simloop.results.records.runs import Runs
from simloop.results.report.page_data import episode_id, number, text
from simloop.results.statistics.scores import MeanScore, Score, score_means, score_tasks

OUTCOMES = ("success", "failure", "error")


def overview(runs: Runs) -> dict[str, Any]:
    """Everything that the first screen of a run shows, columns rather than rows: runs have thousands of episodes."""
    means = score_means(score_tasks(runs.episodes, runs.plans))
    labels = runs.labels
    policies = list(dict.fromkeys([name for plan in runs.plans for name in plan.policies] + list(labels)))
    tasks = ordered_tasks(runs)
    protocols = list(
        dict.fromkeys(
            [(mean.suite, mean.protocol) for mean in means]
            or [(plan.suite, plan.protocol) for plan in runs.plans]
        )
    )
    places = {name: i for i, name in enumerate(policies)}, {name: i for i, name in enumerate(tasks)}
    return {
        "title": text(", ".join(dict.fromkeys(source.folder.resolve().name for source in runs.sources))),
        "runs": _runs(runs),
        "policies": [text(labels.get(name, name)) for name in policies],
        "names": [text(name) for name in policies],
        "tasks": [text(task) for task in tasks],
        "protocols": [{"suite": text(suite), "protocol": text(protocol)} for suite, protocol in protocols],
        "means": [_mean(mean, protocols, *places) for mean in means],
        "plans": _plans(runs, protocols, *places),
        "episodes": _episodes(runs, protocols, *places),
    }


def ordered_tasks(runs: Runs) -> list[str]:
    """Tasks in the planned order, then those that no plan names."""
    planned = dict.fromkeys(task for plan in runs.plans for task in plan.tasks)
    return [*planned, *sorted(set(runs.episodes["task"]) - planned.keys())]


def _runs(runs: Runs) -> list[dict[str, Any]]:
    found = []
    for index, (source, config) in enumerate(zip(runs.sources, runs.configs, strict=True)):
        of_run = runs.episodes[runs.episodes["run"] == index]
        seed = look_up(config, "experiment.seed")
        found.append(
            {
                "name": text(source.folder.resolve().name),
                "episodes": len(of_run),
                "seed": None if seed is None else text(str(seed)),
                "protocols": sorted(map(text, set(of_run["protocol"]))),
            }
        )
    return found


def _score(score: Score | MeanScore) -> dict[str, Any]:
    interval = score.interval()
    return {
        "rate": number(score.rate),
        "low": number(interval.low) if interval else None,
        "high": number(interval.high) if interval else None,
        "successes": score.successes,
        "completed": score.completed,
        "errors": score.errors,
    }


def _mean(
    mean: MeanScore, protocols: Sequence[tuple[str, str]], policies: dict[str, int], tasks: dict[str, int]
) -> dict[str, Any]:
    return {
        "policy": policies[mean.policy],
        "protocol": protocols.index((mean.suite, mean.protocol)),
        **_score(mean),
        "tasks": [{"task": tasks[score.task], **_score(score)} for score in mean.tasks],
    }


def _plans(
    runs: Runs, protocols: Sequence[tuple[str, str]], policies: dict[str, int], tasks: dict[str, int]
) -> list[dict[str, Any]]:
    return [
        {
            "policies": [policies[name] for name in plan.policies],
            "tasks": [tasks[name] for name in plan.tasks],
            "protocol": protocols.index((plan.suite, plan.protocol)),
            "episodes": plan.episodes,
        }
        for plan in runs.plans
        if (plan.suite, plan.protocol) in protocols
    ]


def _episodes(
    runs: Runs, protocols: Sequence[tuple[str, str]], policies: dict[str, int], tasks: dict[str, int]
) -> dict[str, list[Any]]:
    names = ("policy", "suite", "protocol", "task", "episode", "outcome", "steps")
    columns = {name: runs.episodes[name].tolist() for name in names}  # Arrow's columns iterate slowly.
    keys = zip(*(columns[name] for name in names[:5]), strict=True)
    of_protocol = {key: i for i, key in enumerate(protocols)}
    return {
        "id": [episode_id((p, s, r, t, int(n))) for p, s, r, t, n in keys],
        "policy": [policies[name] for name in columns["policy"]],
        "task": [tasks[name] for name in columns["task"]],
        "protocol": [of_protocol[key] for key in zip(columns["suite"], columns["protocol"], strict=True)],
        "number": columns["episode"],
        "outcome": [OUTCOMES.index(outcome) for outcome in columns["outcome"]],
        "steps": columns["steps"],
    }
