"""Notes below tables of success: how to read them, what is missing, and what was left out by choice."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from simloop.results.records.planned import PlannedEpisodes
from simloop.results.records.runs import Runs
from simloop.results.statistics.early_stopping import SequentialDecision, sequential_decisions
from simloop.results.statistics.families import Standing
from simloop.results.statistics.scores import MeanScore
from simloop.results.tables.choice import naming_notes
from simloop.results.tables.decisions import decision_sentence
from simloop.results.tables.grid import legend, shows_intervals
from simloop.results.tables.options import TableOptions
from simloop.results.tables.published import Published


@dataclass(frozen=True)
class Shown:
    """What a table of success shows."""

    keys: tuple[tuple[str, str], ...]
    """Suites and protocols."""
    means: Sequence[MeanScore]
    names: Mapping[str, str]
    """Printed name of every policy by its label."""
    standings: Sequence[Standing]
    """Of every line; the last is that of a mean over all tasks."""
    families: str
    lines: Collection[str]
    """Tasks with a line, or in a group with one."""
    tasks: tuple[str, ...]
    """All tasks; empty in a table of suites."""
    quoted: Sequence[Published]


def notes_of(shown: Shown, runs: Runs, options: TableOptions) -> Iterator[str]:
    """All notes, in the order in which they are printed."""
    labels = {policy: shown.names[label] for policy, label in runs.labels.items() if label in shown.names}
    here = [
        plan
        for plan in runs.plans
        for suite, protocol in shown.keys
        if plan.suite == suite and plan.protocol in ("", protocol)
    ]
    decisions = sequential_decisions(runs)
    ruled = [one for one in decisions if (one.suite, one.protocol) in shown.keys]
    yield from reading_notes(shown, labels, options)
    for mean in shown.means:
        yield from policy_notes(mean, labels[mean.policy])
    yield from initial_success_notes(shown, runs)
    yield from run_notes(shown.means, here, hidden=set(runs.labels) - set(labels))
    yield from (f"Stopping rule: {decision_sentence(one, len(decisions))}" for one in ruled)
    yield from undecidable(here, ruled)
    yield from quoted_notes(shown.quoted)
    yield from omission_notes(shown, runs, options)
    yield from naming_notes(shown.names)


def omission_notes(shown: Shown, runs: Runs, options: TableOptions) -> Iterator[str]:
    """What the table leaves out by choice, and from how many policies those shown were chosen."""
    played = {mean.policy for mean in shown.means}
    hidden = [
        label for policy, label in runs.labels.items() if policy not in played and label not in shown.names
    ]
    if hidden and options.policies:
        yield f"Evaluated and not shown: {_listed(hidden)}; p-values are adjusted for all policies that were evaluated."
    if options.looked_at is not None and options.looked_at > len(runs.policies):
        yield (
            f"The policies were chosen after {options.looked_at} policies and checkpoints had been evaluated; p-values "
            "are adjusted for all of them."
        )
    left = [task for task in shown.tasks if task not in shown.lines]
    if left:
        yield f"Not shown: {len(left)} of {len(shown.tasks)} tasks; the mean is over all of them."
    if not shows_intervals(options) and "rank" not in options.parts:
        yield "Intervals are left out."
    if "counts" not in options.parts:
        yield f"{_episodes(shown)}."
        errors = sum(mean.errors for mean in shown.means)
        yield from ["Counts of episodes with errors are left out."] if errors else []


def _episodes(shown: Shown) -> str:
    counts = {score.completed for mean in shown.means for score in mean.tasks}
    least, most = min(counts), max(counts)
    number = f"{least}" if least == most else f"{least} to {most}"
    return f"Each policy completed {number} episode{'' if number == '1' else 's'} of each task"


def initial_success_notes(shown: Shown, runs: Runs) -> Iterator[str]:
    """Successes at the first control step, which say nothing about a policy."""
    episodes = runs.episodes
    first = episodes[(episodes["outcome"] == "success") & (episodes["steps"] <= 1)]
    here = first[[key in shown.keys for key in zip(first["suite"], first["protocol"], strict=True)]]
    if len(here):
        yield (
            f"{len(here)} of the successes came at the first control step ({_listed(sorted(set(here['task'])))}): the "
            "initial state may satisfy the condition of success already, so that any policy succeeds."
        )


def quoted_notes(quoted: Sequence[Published]) -> Iterator[str]:
    """Name the sources of quoted rates."""
    for source, protocol in dict.fromkeys((one.source, one.protocol) for one in quoted):
        yield (
            f"(quoted): published rates, not measured here, without interval and in no comparison. Source: {source}; "
            f"protocol: {protocol}."
        )


def reading_notes(shown: Shown, labels: Mapping[str, str], options: TableOptions) -> Iterator[str]:
    """Explain the intervals, the counts, the differences, the ranks, the letters and the emphasis."""
    means, intervals = shown.means, shows_intervals(options)
    methods = " or ".join(sorted({mean.method for mean in means if not mean.lacking}))
    weighing = "The mean weighs all tasks equally"
    if intervals:
        weighing += f"; its interval ({methods}) holds for these tasks"
    kinds = dict.fromkeys(
        "confidence sequence" if mean.anytime else "Wilson interval"
        for mean in sorted(means, key=lambda mean: mean.anytime)
    )
    read = legend(options, f"95 % {' or '.join(kinds)}", "successes / completed episodes")
    if "rate" not in options.parts and "difference" in options.parts:
        read = ""
    if note := " ".join(filter(None, (read, f"{weighing}." if methods else ""))):
        yield note
    yield from _extra_notes(labels, options)
    if any(mean.anytime for mean in means) and intervals:
        yield (
            "Where a stopping rule decides the number of episodes, intervals are confidence sequences: they hold at "
            "every look."
        )
    yield from _letter_notes(shown, labels, options)
    new = (
        {labels[mean.policy]: mean.interval_for_new_tasks() for mean in means} if len(shown.keys) == 1 else {}
    )
    known = [f"{name} [{100 * ends.low:.1f}, {100 * ends.high:.1f}]" for name, ends in new.items() if ends]
    if known and intervals and "rate" in options.parts:
        yield (
            "Mean for new tasks of the same kind (95 % bootstrap interval over tasks; too narrow for fewer than "
            f"about 15 tasks): {', '.join(known)}."
        )


def _extra_notes(labels: Mapping[str, str], options: TableOptions) -> Iterator[str]:
    if "difference" in options.parts:
        mark = "Δ: difference" if "rate" in options.parts else "Differences"
        yield (
            f"{mark} to {labels.get(options.baseline, options.baseline)} in the same episodes where both played them, "
            "with 95 % intervals that are not adjusted for the number of comparisons."
        )
    if "rank" in options.parts:
        yield (
            "Ranks are 95 % bootstrap intervals over episodes resampled within tasks, for each policy alone; there are "
            "none under a stopping rule."
        )


def _letter_notes(shown: Shown, labels: Mapping[str, str], options: TableOptions) -> Iterator[str]:
    *_, of_means = shown.standings
    if of_means.apart:
        yield f"Not compared with every other policy: {_listed([labels[name] for name in of_means.apart])}."
    if not any(place.letters for place in shown.standings):
        return
    line = options.line
    level = f"at the 5 % level ({shown.families})"
    if any(mean.errors for mean in shown.means):
        level += ", with errors counted against the better policy"
    if not any(place.differ for place in shown.standings):
        yield f"No two policies of a {line} differ significantly {level}."
        return
    said = "letters" in options.parts
    if said:
        others = (
            ""
            if all(place.differ for place in shown.standings)
            else f", nor do those of a {line} without letters"
        )
        yield f"Policies of a {line} that share a letter do not differ significantly {level}{others}."
    if any(place.best for place in shown.standings) and "bold" in options.stresses:
        better = "Bold, where typeset: significantly better than every other policy"
        yield f"{better}." if said else f"{better} {level}."
        said = True
    if "underline" in options.stresses:
        below = f"Underlined: not found to differ from the policy with the highest rate of the {line}"
        yield f"{below}, which does not show equality." if said else f"{below} {level}."


def policy_notes(mean: MeanScore, name: str) -> Iterator[str]:
    """What is missing from the rates of a policy."""
    if mean.lacking:
        yield f"{name} has no mean: no completed episode of {_listed(mean.lacking)}."
    if mean.errors:
        tasks = [f"{score.task}: {score.errors}" for score in mean.tasks if score.errors]
        note = (
            f"Excluded from the rates of {name}: {mean.errors} of {mean.episodes} episodes, which ended in an "
            f"error ({_listed(tasks)})"
        )
        if bounds := mean.bounds:
            note += (
                f"; the mean would be {100 * bounds.low:.1f} if all of them were failures, {100 * bounds.high:.1f} "
                "if all were successes"
            )
        yield f"{note}."
    if mean.missing:
        yield f"Not yet finished: {mean.missing} of {mean.episodes + mean.missing} planned episodes of {name}."
    if mean.invalid_actions:
        tasks = [f"{score.task}: {score.invalid_actions}" for score in mean.tasks if score.invalid_actions]
        yield (
            f"{name}: {mean.invalid_actions} of {mean.completed} completed episodes are failures because an action was "
            f"nan or infinite ({_listed(tasks)})."
        )
    if mean.undecodable:
        yield (
            f"{name}: in {mean.undecodable} of {mean.completed} completed episodes, the tokens of a query could not "
            "be decoded to actions."
        )


def run_notes(
    means: Sequence[MeanScore], plans: Sequence[PlannedEpisodes], hidden: Collection[str] = ()
) -> Iterator[str]:
    """What the plans of the runs left out.

    Args:
      hidden: Policies with finished episodes that are not shown.
    """
    if any(plan.stops_early == "limit" for plan in plans):
        yield "The run was limited to the first episodes of its plan."
    played = {mean.policy for mean in means}
    wanted = dict.fromkeys(policy for plan in plans for policy in plan.policies)
    if absent := [policy for policy in wanted if policy not in played and policy not in hidden]:
        yield f"Policies without a finished episode: {_listed(absent)}."
    if any(mean.weights == "untrained" for mean in means):
        yield "(untrained): random weights, so the rates do not characterise the model."
    if any(mean.weights == "unknown" for mean in means):
        yield (
            "(served): another program answered the queries. Its weights are not known, and its episodes need not "
            "repeat (provenance.json has what it told)."
        )


def undecidable(plans: Sequence[PlannedEpisodes], ruled: Sequence[SequentialDecision]) -> Iterator[str]:
    """Say that a run with a stopping rule has no order in which its pairs could be compared."""
    if any(plan.stops_early == "rule" for plan in plans) and not ruled:
        yield "The run had a stopping rule without a recorded order of pairs, so its policies are not compared."


def _listed(names: Sequence[str], limit: int = 5) -> str:
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
