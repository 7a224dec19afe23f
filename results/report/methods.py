"""A methods paragraph for a paper, of what was actually done, with the references it cites."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simloop.results.records.perturbation_kinds import KINDS, split_label
from simloop.results.records.records import look_up
from simloop.results.records.runs import Runs
from simloop.results.statistics.contrasts import Contrast, family_size
from simloop.results.statistics.early_stopping import SequentialDecision
from simloop.results.statistics.scores import MeanScore

REFERENCES: Mapping[str, str] = {
    "wilson1927": """@article{wilson1927,
  author = {Wilson, Edwin B.}, title = {Probable inference, the law of succession, and statistical inference},
  journal = {Journal of the American Statistical Association}, volume = {22}, number = {158}, pages = {209--212},
  year = {1927}, doi = {10.1080/01621459.1927.10502953}
}""",
    "zou2008": """@article{zou2008,
  author = {Zou, Guang Yong and Donner, Allan},
  title = {Construction of confidence limits about effect measures: A general approach},
  journal = {Statistics in Medicine}, volume = {27}, number = {10}, pages = {1693--1702}, year = {2008},
  doi = {10.1002/sim.3095}
}""",
    "fagerland2013": """@article{fagerland2013,
  author = {Fagerland, Morten W. and Lydersen, Stian and Laake, Petter},
  title = {The {McNemar} test for binary matched-pairs data: mid-p and asymptotic are better than exact conditional},
  journal = {BMC Medical Research Methodology}, volume = {13}, number = {91}, year = {2013},
  doi = {10.1186/1471-2288-13-91}
}""",
    "tango1998": """@article{tango1998,
  author = {Tango, Toshiro},
  title = {Equivalence test and confidence interval for the difference in proportions for the paired-sample design},
  journal = {Statistics in Medicine}, volume = {17}, number = {8}, pages = {891--908}, year = {1998},
  doi = {10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B}
}""",
    "barnard1947": """@article{barnard1947,
  author = {Barnard, George A.}, title = {Significance tests for 2 x 2 tables}, journal = {Biometrika},
  volume = {34}, number = {1--2}, pages = {123--138}, year = {1947}, doi = {10.1093/biomet/34.1-2.123}
}""",
    "miettinen1985": """@article{miettinen1985,
  author = {Miettinen, Olli and Nurminen, Markku}, title = {Comparative analysis of two rates},
  journal = {Statistics in Medicine}, volume = {4}, number = {2}, pages = {213--226}, year = {1985},
  doi = {10.1002/sim.4780040211}
}""",
    "mantel1959": """@article{mantel1959,
  author = {Mantel, Nathan and Haenszel, William},
  title = {Statistical aspects of the analysis of data from retrospective studies of disease},
  journal = {Journal of the National Cancer Institute}, volume = {22}, number = {4}, pages = {719--748},
  year = {1959}, doi = {10.1093/jnci/22.4.719}
}""",
    "newcombe1998": """@article{newcombe1998,
  author = {Newcombe, Robert G.},
  title = {Interval estimation for the difference between independent proportions: comparison of eleven methods},
  journal = {Statistics in Medicine}, volume = {17}, number = {8}, pages = {873--890}, year = {1998},
  doi = {10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I}
}""",
    "holm1979": """@article{holm1979,
  author = {Holm, Sture}, title = {A simple sequentially rejective multiple test procedure},
  journal = {Scandinavian Journal of Statistics}, volume = {6}, number = {2}, pages = {65--70}, year = {1979}
}""",
    "schuirmann1987": """@article{schuirmann1987,
  author = {Schuirmann, Donald J.},
  title = {A comparison of the two one-sided tests procedure and the power approach for assessing the equivalence of
    average bioavailability},
  journal = {Journal of Pharmacokinetics and Biopharmaceutics}, volume = {15}, number = {6}, pages = {657--680},
  year = {1987}, doi = {10.1007/BF01068419}
}""",
    "machado2018": """@article{machado2018,
  author = {Machado, Marlos C. and Bellemare, Marc G. and Talvitie, Erik and Veness, Joel and Hausknecht, Matthew and
    Bowling, Michael},
  title = {Revisiting the {Arcade Learning Environment}: Evaluation protocols and open problems for general agents},
  journal = {Journal of Artificial Intelligence Research}, volume = {61}, pages = {523--562}, year = {2018},
  doi = {10.1613/jair.5699}
}""",
    "ramdas2023": """@article{ramdas2023,
  author = {Ramdas, Aaditya and Gr{\\"u}nwald, Peter and Vovk, Vladimir and Shafer, Glenn},
  title = {Game-theoretic statistics and safe anytime-valid inference}, journal = {Statistical Science},
  volume = {38}, number = {4}, pages = {576--601}, year = {2023}, doi = {10.1214/23-STS894}
}""",
    "waudbysmith2024": """@article{waudbysmith2024,
  author = {Waudby-Smith, Ian and Ramdas, Aaditya},
  title = {Estimating means of bounded random variables by betting},
  journal = {Journal of the Royal Statistical Society Series B}, volume = {86}, number = {1}, pages = {1--27},
  year = {2024}, doi = {10.1093/jrsssb/qkad009}
}""",
}


@dataclass(frozen=True)
class Methods:
    """A paragraph with citations, as plain text with [key] and as LaTeX, and the entries they need."""

    sentences: tuple[tuple[str, tuple[str, ...]], ...]
    """Each with the references that it cites."""

    @property
    def text(self) -> str:
        """For reading."""
        return " ".join(f"{s} [{', '.join(keys)}]." if keys else f"{s}." for s, keys in self.sentences)

    def tex(self, escape: Callable[[str], str]) -> str:
        r"""For `\\input`, with `\\cite`."""
        parts = [
            f"{escape(s)}~\\cite{{{','.join(keys)}}}." if keys else f"{escape(s)}."
            for s, keys in self.sentences
        ]
        return "\n".join(parts) + "\n"

    @property
    def bibtex(self) -> str:
        """The references, in order of first citation."""
        keys = dict.fromkeys(key for _, keys in self.sentences for key in keys)
        return "\n\n".join(REFERENCES[key] for key in keys) + "\n"


def methods(
    runs: Runs,
    means: Sequence[MeanScore],
    found: Sequence[Contrast],
    answers: Sequence[SequentialDecision],
    looked_at: int,
) -> Methods:
    """What was done to come to these means, comparisons and answers; nothing else is mentioned."""
    sentences: list[tuple[str, tuple[str, ...]]] = [*_played(runs)]
    sentences.append(("Success rates are given with 95 % Wilson score intervals", ("wilson1927",)))
    if any(mean.method == "MOVER-Wilson" for mean in means if not mean.lacking and len(mean.tasks) > 1):
        sentences.append(
            (
                "Intervals of means over tasks with unequal numbers of episodes combine those of the tasks",
                ("zou2008",),
            )
        )
    if any(not mean.lacking and len(mean.tasks) > 1 for mean in means):
        sentences.append(("Means weigh every task the same, and their intervals hold for these tasks", ()))
    paired, unpaired = [one for one in found if one.pairs], [one for one in found if not one.pairs]
    if paired:
        sentences.append(
            (
                "Policies that met the same episodes were compared by McNemar's mid-p test"
                + (", pairs added up over tasks," if any(len(one.tasks) > 1 for one in paired) else "")
                + " with Tango's score interval for the difference",
                ("fagerland2013", "tango1998"),
            )
        )
    if any(len(one.tasks) == 1 for one in unpaired):
        sentences.append(
            (
                "Policies that met different episodes of one task were compared by Barnard's exact test, or the score "
                "test where episodes were many, with the interval of Miettinen and Nurminen",
                ("barnard1947", "miettinen1985"),
            )
        )
    if any(len(one.tasks) > 1 for one in unpaired):
        sentences.append(
            (
                "Policies that met different episodes of several tasks were compared by the Cochran-Mantel-Haenszel "
                "test with Newcombe's interval",
                ("mantel1959", "newcombe1998"),
            )
        )
    if found:
        margin = 100 * found[0].equivalence.margin
        sentences.append(
            (
                f"Equivalence within {margin:g} points was tested by two one-sided tests at the 5 % level",
                ("schuirmann1987",),
            )
        )
        if family_size(looked_at) > 1:
            sentences.append(
                (
                    f"{looked_at} policies were looked at; p-values are adjusted for the {family_size(looked_at)} "
                    "pairs among them",
                    ("holm1979",),
                )
            )
    for answer in answers:
        rule = answer.rule
        sentences.append(
            (
                f"{answer.a} and {answer.b} were compared sequentially: in a seeded order of pairs, tasks mixed, the "
                f"run was to stop once the e-value against equal rates reached {1 / rule.alpha:g}, once the confidence "
                f"sequence lay within {100 * rule.margin:g} points of zero, or after {rule.max_pairs} pairs; this was "
                f"fixed before the first episode, and the run used {answer.pairs} pairs",
                ("ramdas2023", "waudbysmith2024"),
            )
        )
    return Methods(tuple(sentences))


def _played(runs: Runs) -> list[tuple[str, tuple[str, ...]]]:
    sentences: list[tuple[str, tuple[str, ...]]] = []
    for number, (config, provenance) in enumerate(zip(runs.configs, runs.provenance, strict=True)):
        episodes = runs.episodes[runs.episodes["run"] == number]
        if episodes.empty:
            continue
        errors = int((episodes["outcome"] == "error").sum())
        tasks = episodes["task"].nunique()
        names = ", ".join(runs.labels[name] for name in runs.policies if name in set(episodes["policy"]))
        sentence = (
            f"{names} played {len(episodes)} episodes of {tasks} task{'s' if tasks > 1 else ''} of "
            f"{episodes['suite'].iloc[0]} under protocol {episodes['protocol'].iloc[0]}"
        )
        rules = _rules(config)
        sentences.append((sentence + (f" ({rules})" if rules else ""), ()))
        _, kind, strength = split_label(episodes["protocol"].iloc[0])
        if kind:
            cited = ("machado2018",) if kind == "sticky-actions" else ()
            sentences.append((f"In these episodes {KINDS[kind].says.format(s=f'{strength:g}')}", cited))
        start = (provenance.get("starts") or [{}])[-1]
        software = [
            f"{name} {look_up(start, f'packages.{key}')}"
            for name, key in (("MuJoCo", "mujoco"), ("simloop", "simloop"), ("JAX", "jax"))
            if look_up(start, f"packages.{key}")
        ]
        if software:
            sentences.append((f"Software was {', '.join(software)}", ()))
        if errors:
            sentences.append((f"{errors} episodes ended in an error of the software and are in no rate", ()))
    return sentences


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
