"""Methods paragraph for a paper, generated from the runs, with the references that it cites."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simloop.results.records.execution_labels import split_execution
from simloop.results.records.perturbation_kinds import KINDS, plain_kind, split_perturbations
from simloop.results.records.records import look_up
from simloop.results.records.runs import Runs
from simloop.results.records.written_policies import split_name
from simloop.results.statistics.contrasts import Contrast
from simloop.results.statistics.early_stopping import SequentialDecision
from simloop.results.statistics.scores import MeanScore

_BIBTEX = (Path(__file__).parent / "assets" / "references.bib").read_text(encoding="utf-8").strip()

REFERENCES: Mapping[str, str] = {
    entry.partition("{")[2].partition(",")[0]: entry for entry in _BIBTEX.split("\n\n")
}
"""BibTeX entries by key."""


@dataclass(frozen=True)
class Methods:
    """A paragraph with citations, as plain text and as LaTeX, and its BibTeX entries."""

    sentences: tuple[tuple[str, tuple[str, ...]], ...]
    """Sentences without the full stop, each with the keys of the references that it cites."""

    @property
    def text(self) -> str:
        """The paragraph as plain text, with citations as [key]."""
        return " ".join(f"{s} [{', '.join(keys)}]." if keys else f"{s}." for s, keys in self.sentences)

    def tex(self, escape: Callable[[str], str]) -> str:
        r"""The paragraph for `\input`, with citations as `\cite`."""
        parts = [
            f"{escape(s)}~\\cite{{{','.join(keys)}}}." if keys else f"{escape(s)}."
            for s, keys in self.sentences
        ]
        return "\n".join(parts) + "\n"

    @property
    def bibtex(self) -> str:
        """The BibTeX entries, in order of first citation."""
        keys = dict.fromkeys(key for _, keys in self.sentences for key in keys)
        return "\n\n".join(REFERENCES[key] for key in keys) + "\n"


_Sentence = tuple[
    str, tuple[str, ...]
]  # Without the full stop, and the keys of the references that it cites.


def methods(
    runs: Runs,
    means: Sequence[MeanScore],
    found: Sequence[Contrast],
    decisions: Sequence[SequentialDecision],
    family: int,
    names: Mapping[str, str] | None = None,
) -> Methods:
    """Describe the methods behind these means, comparisons and decisions, and no others.

    Args:
      family: Number of comparisons for which p-values are adjusted.
      names: Names to print by policy; None for their labels.
    """
    names = names or runs.labels
    return Methods(
        (
            *_evaluation(runs, names),
            *_rates(means),
            *_comparisons(found, family),
            *(_sequential(decision, names) for decision in decisions),
            *((note.removesuffix("."), ()) for note in runs.notes),
        )
    )


def _rates(means: Sequence[MeanScore]) -> Iterator[_Sentence]:
    if any(not mean.anytime for mean in means):
        yield "Success rates are given with 95 % Wilson score intervals", ("wilson1927",)
    if any(mean.anytime for mean in means):
        yield (
            "Where a stopping rule decided the number of episodes, success rates are given with 95 % confidence "
            "sequences, which hold at every number of episodes",
            ("ramdas2023",),
        )
    several = [mean for mean in means if not mean.lacking and len(mean.tasks) > 1]
    if any(mean.method == "MOVER-Wilson" for mean in several):
        yield (
            "Intervals of means over tasks with unequal numbers of episodes combine the intervals of the tasks",
            ("zou2008",),
        )
    if several:
        yield "Means weigh all tasks equally, and their intervals hold for these tasks", ()


def _comparisons(found: Sequence[Contrast], family: int) -> Iterator[_Sentence]:
    fixed = [one for one in found if not one.anytime]
    paired, unpaired = [one for one in fixed if one.pairs], [one for one in fixed if not one.pairs]
    if paired:
        summed = ", with pairs summed over tasks," if any(len(one.tasks) > 1 for one in paired) else ""
        yield (
            f"Policies evaluated on the same episodes were compared by McNemar's mid-p test{summed} with Tango's score "
            "interval for the difference",
            ("fagerland2013", "tango1998"),
        )
    if any(len(one.tasks) == 1 for one in unpaired):
        yield (
            "Policies evaluated on different episodes of one task were compared by Barnard's exact test, or the score "
            "test for large numbers of episodes, with the interval of Miettinen and Nurminen",
            ("barnard1947", "miettinen1985"),
        )
    if any(len(one.tasks) > 1 for one in unpaired):
        yield (
            "Policies evaluated on different episodes of several tasks were compared by the exact "
            "Cochran-Mantel-Haenszel test with Newcombe's interval",
            ("mantel1959", "newcombe1998"),
        )
    if fixed:
        yield (
            f"Equivalence within {100 * fixed[0].equivalence.margin:g} points was tested by two one-sided tests at the "
            "5 % level",
            ("schuirmann1987",),
        )
    if any(one.errors_a + one.errors_b for one in found):
        yield (
            "Policies were taken to differ, or to be equivalent, only if they would whatever the outcomes of the "
            "episodes with errors had been",
            (),
        )
    if found and family > 1:
        yield (
            "The p-values of differences and, separately, of equivalence are adjusted by Holm's method for the "
            f"{family} comparisons",
            ("holm1979",),
        )


def _sequential(decision: SequentialDecision, names: Mapping[str, str]) -> _Sentence:
    rule = decision.rule
    a, b = (names.get(policy, policy) for policy in (decision.a, decision.b))
    reached = {
        "differ": f"the decision that they differ used {decision.pairs} pairs",
        "equivalent": f"the decision that they are equivalent used {decision.pairs} pairs",
        "undecided": f"they remained undecided after {decision.pairs} pairs",
        "continue": f"they are undecided so far, after {decision.pairs} pairs",
    }[decision.decision]
    return (
        f"The policies {a} and {b} were compared sequentially, in a seeded order of pairs with tasks mixed: the "
        f"run was to stop once the e-value against equal rates on every task reached {1 / rule.alpha:g}, once the "
        f"confidence sequence lay within {100 * rule.margin:g} points of zero, or after {rule.max_pairs} pairs; this "
        f"rule was fixed before the first episode, and {reached}",
        ("ramdas2023", "waudbysmith2024"),
    )


def _evaluation(runs: Runs, names: Mapping[str, str]) -> Iterator[_Sentence]:
    """Describe what was evaluated: episodes, protocol, perturbation, software, errors."""
    software = [_software(provenance) for provenance in runs.provenance]
    for number, config in enumerate(runs.configs):
        episodes = runs.episodes[runs.episodes["run"] == number]
        if episodes.empty:
            continue
        errors = int((episodes["outcome"] == "error").sum())
        tasks = episodes["task"].nunique()
        played = [names[policy] for policy in runs.policies if policy in set(episodes["policy"])]
        subject = f"policies {_listed(played)} were" if len(played) > 1 else f"policy {played[0]} was"
        sentence = (
            f"The {subject} evaluated on {len(episodes)} episodes of {tasks} task{'s' if tasks > 1 else ''} of "
            f"{episodes['suite'].iloc[0]} under protocol {episodes['protocol'].iloc[0]}"
        )
        rules = _rules(config)
        cited = (*_cited(str(episodes["suite"].iloc[0]), SUITES), *_cited_policies(config))
        yield sentence + (f" ({rules})" if rules else ""), tuple(dict.fromkeys(cited))
        if delayed := _delays(episodes["protocol"].unique()):
            yield delayed, ("black2025",) if "real-time" in delayed else ()
        _, strengths = split_perturbations(episodes["protocol"].iloc[0])
        for name, strength in strengths.items():
            cited = ("machado2018",) if name == "sticky-actions" else ()
            says = KINDS[plain_kind(name)].says.format(s=f"{strength:g}")
            yield f"In these episodes, {says}", cited
        if software[number] not in ("", *software[number + 1 :]):
            yield f"The software was {software[number]}", ("simloop", "todorov2012")
        if errors:
            yield f"Rates exclude {errors} episodes that ended in a software error", ()


def _software(provenance: Mapping[str, Any]) -> str:
    start = (provenance.get("starts") or [{}])[-1]
    packages = (("MuJoCo", "mujoco"), ("simloop", "simloop"), ("JAX", "jax"))
    return _listed(
        [f"{name} {version}" for name, key in packages if (version := look_up(start, f"packages.{key}"))]
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


SUITES = {
    "metaworld": ("yu2020",),
    "libero_pro": ("liu2023", "zhou2025"),
    "libero_plus": ("liu2023", "fei2025"),
    "libero": ("liu2023",),
    "aloha_sim": ("zhao2023",),
}
"""References of suites, by the start of their names; the first one that fits."""
POLICIES = {"pi0_fast": ("pertsch2025",), "pi05": ("intelligence2025",), "pi0": ("black2024",)}
"""References of policies, by the start of the names of their presets; the first one that fits."""


def _cited(name: str, references: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return next((keys for start, keys in references.items() if name.startswith(start)), ())


def _cited_policies(config: Mapping[str, Any]) -> Iterator[str]:
    for written in look_up(config, "experiment.policies") or ():
        yield from _cited(split_name(str(written))[1], POLICIES)


def _delays(protocols: Iterable[str]) -> str:
    """State the delays of answers and how chunks were executed; empty if the world stood still."""
    labels = [label for protocol in protocols if (label := split_execution(protocol)).base != protocol]
    if not labels:
        return ""
    modes = ", ".join(dict.fromkeys(_MODES.get(label.mode.partition(":")[0], label.mode) for label in labels))
    delays = ", ".join(dict.fromkeys(label.delay for label in sorted(labels, key=lambda label: label.order)))
    return (
        f"The simulation went on while the policy computed, with delays of {delays} (control steps where no unit is "
        f"given), and chunks were executed by {modes}"
    )


_MODES = {
    "synchronous": "waiting for the answer",
    "naive": "skipping overdue actions",
    "rtc": "real-time chunking with the full vector-Jacobian product",
    "rtc-identity": "real-time chunking without the Jacobian",
    "ensemble": "temporal ensembling",
}


def _rules(config: Mapping[str, Any]) -> str:
    protocol = look_up(config, "experiment.protocol") or {}
    parts = []
    if "replan_steps" in protocol:
        parts.append(f"at most {protocol['replan_steps']} actions of a chunk executed before the next query")
    if protocol.get("max_steps"):
        parts.append(f"at most {protocol['max_steps']} control steps")
    if look_up(config, "experiment.seed") is not None:
        parts.append(f"seed {look_up(config, 'experiment.seed')}, the same initial states for every policy")
    return "; ".join(parts)
