"""HTML report of one or several runs: a folder with a page, tables, figures and videos that opens from disk."""

from __future__ import annotations

import contextlib
import html
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from matplotlib.figure import Figure

from simloop.results.errors import ResultsError
from simloop.results.records.records import look_up, video_of
from simloop.results.records.runs import Runs, RunSource, load_runs
from simloop.results.report.figure_style import save
from simloop.results.report.figures import (
    evidence_figure,
    forest_figure,
    latency_figure,
    pareto_figure,
    perturbation_figure,
    success_figure,
    success_over_steps_figure,
)
from simloop.results.report.methods import Methods, methods
from simloop.results.statistics.contrasts import MARGIN, Contrast
from simloop.results.statistics.early_stopping import SequentialDecision, matrices, sequential_decisions
from simloop.results.statistics.families import comparisons_of, findings
from simloop.results.statistics.scores import score_means, score_tasks
from simloop.results.tables.decisions import decision_sentence
from simloop.results.tables.perturbation_curves import perturbation_curves
from simloop.results.tables.published import PUBLISHED, reproductions
from simloop.results.tables.run_tables import Table, render
from simloop.results.tables.statements import comparison, headline
from simloop.results.tables.typesetting import escape_tex, to_html
from simloop.untrusted import printable

TABLES: tuple[Table, ...] = ("success", "perturbations", "time", "published", "latency")
PAGE = "index.html"
SENTENCES_SHOWN = 4  # More sentences, as for all pairs of many policies, are folded.
MARK = ".simloop-report"  # Marks a folder as a report, which a newer one may replace.
_ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class _Drawn:
    name: str
    caption: str
    figure: Figure


def write_report(
    runs: Sequence[str | Path | RunSource],
    out: Path,
    *,
    margin: float = MARGIN,
    alpha: float = 0.05,
    looked_at: int | None = None,
) -> Path:
    """Write the report of runs into a folder; returns the path of its page.

    The same runs give the same bytes, and the page loads nothing from the network.

    Args:
      runs: Folders, each as `FOLDER` or `NAME=FOLDER`.
      out: Folder to create, or an earlier report to replace.
      margin: Differences of success rates below it are irrelevant.
      alpha: Family-wise significance level.
      looked_at: Number of policies and checkpoints that were evaluated, if more than the runs hold.

    Raises:
      ResultsError: If `out` holds files other than an earlier report or cannot be written, or no episode has finished.
        An earlier report is unchanged then.
      LedgerError: If a folder is not that of a run, its records were altered, or runs cannot be joined.
    """
    loaded = load_runs(list(runs))
    if loaded.episodes.empty:
        raise ResultsError("No episode of these runs has finished, so there is nothing to report yet.")
    with _replacing(out) as folder:
        _write(loaded, folder, margin, alpha, looked_at)
    return out / PAGE


def _write(loaded: Runs, out: Path, margin: float, alpha: float, looked_at: int | None) -> None:
    """Write the files of a report into an empty folder."""
    for name in ("tables", "figures", "videos"):
        (out / name).mkdir(parents=True)
    (out / MARK).touch()
    together = list(matrices(loaded, looked_at=looked_at).values())
    found = [one.contrast for here in findings(together, margin=margin, alpha=alpha) for one in here]
    decisions = sequential_decisions(loaded)
    means = score_means(score_tasks(loaded.episodes, loaded.plans))
    described = methods(loaded, means, found, decisions, comparisons_of(together))
    (out / "methods.tex").write_text(described.tex(escape_tex), encoding="utf-8")
    (out / "references.bib").write_text(described.bibtex, encoding="utf-8")
    lacking = {
        "perturbations": not perturbation_curves(loaded),
        "published": not reproductions(loaded, PUBLISHED),
    }
    tables = [table for table in TABLES if not lacking.get(table)]
    for table in tables:
        for format in ("md", "csv", "tex"):
            (out / "tables" / f"{table}.{format}").write_text(render(loaded, format, table), encoding="utf-8")
    drawn = _figures(loaded, found, decisions, margin)
    for one in drawn:
        save(one.figure, out / "figures", one.name)
    plays = _plays(loaded, out / "videos")
    sections = {
        "Summary": _summary(loaded, decisions, margin, alpha, looked_at),
        "Runs": _runs(loaded),
        "Tables": _tables(loaded, tables),
        "Figures": _figure_list(drawn),
        "Episodes": _EPISODES,
        "Provenance": _provenance(loaded),
        "Methods": _methods(described),
    }
    (out / PAGE).write_text(printable(_page(loaded, sections, plays)), encoding="utf-8")


@contextlib.contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """Yield a new folder that takes the place of `out`, an earlier report, once all its files are written.

    Raises:
      ResultsError: If `out` is something else, or a file cannot be written; `out` is unchanged then.
    """
    if out.is_symlink():
        raise ResultsError(f"{out} is a symbolic link. Name the folder that it points to with --out.")
    if out.exists() and any(out.iterdir()) and not (out / MARK).exists():
        raise ResultsError(f"{out} holds files other than a report. Choose another folder with --out.")
    out = out.absolute()
    new, old = (out.with_name(f".{out.name}-{os.getpid()}-{age}") for age in ("new", "old"))
    try:
        new.mkdir(parents=True)
        yield new
        if out.exists():
            out.rename(old)
        new.rename(out)
    except OSError as error:
        raise ResultsError(f"The report cannot be written, and {out} is unchanged: {error}.") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _figures(
    runs: Runs, found: Sequence[Contrast], decisions: Sequence[SequentialDecision], margin: float
) -> list[_Drawn]:
    drawn = []
    scores = score_tasks(runs.episodes, runs.plans)
    means = score_means(scores)
    for number, key in enumerate(dict.fromkeys((mean.suite, mean.protocol) for mean in means)):
        of = f", protocol {key[1]}"
        end = f"-{number + 1}" if number else ""
        here = [mean for mean in means if (mean.suite, mean.protocol) == key]
        pairs = [one for one in found if (one.suite, one.protocol) == key]
        episodes, queries = (
            frame[(frame["suite"] == key[0]) & (frame["protocol"] == key[1])]
            for frame in (runs.episodes, runs.queries)
        )
        drawn.append(
            _Drawn(f"success{end}", f"Success with 95 % intervals{of}.", success_figure(here, runs.labels))
        )
        if pairs:
            caption = f"Differences of success with 95 % intervals; hollow where episodes are not paired{of}."
            drawn.append(_Drawn(f"differences{end}", caption, forest_figure(pairs, runs.labels, margin)))
        caption = f"Share of episodes that have succeeded by a step, tasks pooled{of}."
        drawn.append(
            _Drawn(
                f"success-over-steps{end}",
                caption,
                success_over_steps_figure(episodes, runs.labels, runs.stopped_policies),
            )
        )
        if len(queries):
            caption = f"Success against the median latency of a query{of}."
            drawn.append(_Drawn(f"pareto{end}", caption, pareto_figure(here, queries, runs.labels)))
            caption = f"Share of queries answered within a time{of}."
            drawn.append(_Drawn(f"latency{end}", caption, latency_figure(queries, runs.labels)))
    for number, curves in enumerate(perturbation_curves(runs)):
        caption = f"Success under {curves.kind}, with 95 % intervals, protocol {curves.protocol}."
        drawn.append(_Drawn(f"perturbation-{number + 1}", caption, perturbation_figure(curves, runs.labels)))
    for number, decision in enumerate(decisions):
        end = f"-{number + 1}" if number else ""
        caption = f"Evidence that {decision.a} and {decision.b} differ, after every pair."
        drawn.append(_Drawn(f"evidence{end}", caption, evidence_figure(decision)))
    return drawn


def _plays(runs: Runs, videos: Path) -> list[dict[str, str]]:
    """Describe every finished episode for the page, and copy its video."""
    plays = []
    policy_order = {policy: i for i, policy in enumerate(runs.policies)}
    planned = dict.fromkeys(task for plan in runs.plans for task in plan.tasks)
    tasks = [*planned, *sorted(set(runs.episodes["task"]) - planned.keys())]
    task_order = {task: i for i, task in enumerate(tasks)}
    rows = sorted(
        runs.episodes.to_dict("records"),
        key=lambda row: (
            row["suite"], row["protocol"], task_order[row["task"]], row["episode"], policy_order[row["policy"]]
        ),
    )  # fmt: skip
    several = runs.episodes["protocol"].nunique() > 1
    for row in rows:
        video = ""
        source = video_of(runs.sources[row["run"]].folder, row["video"])
        if source is not None:
            video = f"videos/{row['run']}/{Path(row['video']).relative_to('videos').as_posix()}"
            target = videos.parent / video
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        plays.append(
            {
                "policy": runs.labels[row["policy"]],
                "task": row["task"],
                "outcome": row["outcome"],
                "episode": f"{row['task']}, episode {row['episode']}"
                + (f", {row['protocol']}" if several else ""),
                "detail": row["error"]
                or f"{row['ended_by']}, steps: {row['steps']}, queries: {row['queries']}",
                # Paths contain names of policies, which may have characters with a meaning in URLs.
                "video": "/".join(quote(part) for part in video.split("/")),
            }
        )
    return plays


def _summary(
    runs: Runs, decisions: Sequence[SequentialDecision], margin: float, alpha: float, looked_at: int | None
) -> str:
    together = list(matrices(runs, looked_at=looked_at).values())
    headlines = [
        (f"{outcomes.protocol}: " if len(together) > 1 else "") + headline(outcomes, here, runs.labels)
        for outcomes, here in zip(together, findings(together, margin=margin, alpha=alpha), strict=True)
    ]
    parts = [f'<p class="headline">{html.escape(text)}</p>' for text in headlines]
    parts += [
        f'<p class="statement">{html.escape(decision_sentence(decision, len(decisions)))}</p>'
        for decision in decisions
    ]
    try:
        compared = comparison(runs, margin=margin, alpha=alpha, looked_at=looked_at)
    except ResultsError as error:
        return "\n".join([*parts, f"<p>{html.escape(str(error))}</p>"])
    for title, sentences, grid in compared:
        text = "\n".join(f'<p class="statement">{html.escape(sentence)}</p>' for sentence in sentences)
        parts.append(f"<h3>{html.escape(title)}</h3>")
        parts.append(to_html(grid))
        if len(sentences) > SENTENCES_SHOWN:
            text = f"<details><summary>All comparisons in sentences</summary>\n{text}</details>"
        parts.append(text)
    return "\n".join(parts)


def _runs(runs: Runs) -> str:
    items = []
    for number, (source, config) in enumerate(zip(runs.sources, runs.configs, strict=True)):
        episodes = runs.episodes[runs.episodes["run"] == number]
        counts = episodes["outcome"].value_counts().to_dict()
        outcomes = ", ".join(
            f"{counts.get(outcome, 0)} {outcome}" for outcome in ("success", "failure", "error")
        )
        policies = ", ".join(runs.labels[name] for name in runs.policies if name in set(episodes["policy"]))
        seed = look_up(config, "experiment.seed")
        items.append(
            f"<li><strong>{html.escape(source.folder.resolve().name)}</strong>: {len(episodes)} episodes ({outcomes}) "
            f"of {episodes['task'].nunique()} tasks by {html.escape(policies) or 'no policy'}"
            + ("" if seed is None else f", seed {html.escape(str(seed))}")
            + f"; protocol {html.escape(', '.join(sorted(set(episodes['protocol']))) or 'unknown')}.</li>"
        )
    return f"<ul>\n{chr(10).join(items)}\n</ul>"


def _tables(runs: Runs, tables: Sequence[Table]) -> str:
    parts = []
    for table in tables:
        files = ", ".join(
            f'<a href="tables/{table}.{format}">{format}</a>' for format in ("md", "csv", "tex")
        )
        body = render(runs, "html", table)
        parts.append(f'{body}\n<p class="small">{table}: {files}</p>')
    return "\n".join(parts)


def _figure_list(drawn: Sequence[_Drawn]) -> str:
    figures = []
    for one in drawn:
        caption = html.escape(one.caption)
        files = ", ".join(f'<a href="figures/{one.name}.{f}">{f}</a>' for f in ("svg", "pdf", "png"))
        figures.append(
            f'<figure><img src="figures/{one.name}.svg" alt="{caption}" loading="lazy">'
            f"<figcaption>{caption} {files}</figcaption></figure>"
        )
    return f'<div class="figures">\n{chr(10).join(figures)}\n</div>'


_EPISODES = """<div class="filters">
<label>Policy <select id="filter-policy"><option value="">all</option></select></label>
<label>Task <select id="filter-task"><option value="">all</option></select></label>
<label>Outcome <select id="filter-outcome"><option value="">all</option></select></label>
<label>Policies disagree <input type="checkbox" id="disagree"></label>
</div>
<p class="small"><span id="count" role="status"></span> <a id="all" href="#episodes" hidden>Show all</a></p>
<div id="list"></div>
<p><button id="more" hidden>Show more</button></p>"""


def _provenance(runs: Runs) -> str:
    parts = []
    for source, provenance in zip(runs.sources, runs.provenance, strict=True):
        name = html.escape(source.folder.resolve().name)
        text = html.escape(json.dumps(provenance, indent=2, sort_keys=True))
        parts.append(f"<details><summary>{name}</summary>\n<pre>{text}</pre></details>")
    return "\n".join(parts)


def _methods(described: Methods) -> str:
    return (
        f"<p>{html.escape(described.text)}</p>\n"
        '<p class="small">For a paper: <a href="methods.tex">methods.tex</a>, '
        '<a href="references.bib">references.bib</a></p>\n'
        f"<details><summary>References</summary>\n<pre>{html.escape(described.bibtex)}</pre></details>"
    )


def _page(runs: Runs, sections: Mapping[str, str], plays: Sequence[Mapping[str, str]]) -> str:
    names = ", ".join(dict.fromkeys(source.folder.resolve().name for source in runs.sources))
    links = " ".join(f'<a href="#{name.lower()}">{name}</a>' for name in sections)
    body = "\n".join(
        f'<section id="{name.lower()}">\n<h2>{name}</h2>\n{content}\n</section>'
        for name, content in sections.items()
    )
    # Within a script element only the character that could close it needs escaping.
    data = json.dumps(plays).replace("<", "\\u003c")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{html.escape(names)} – simloop</title>
<style>
{(_ASSETS / "report.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<h1>{html.escape(names)}</h1>
<nav>{links}</nav>
{body}
<script type="application/json" id="plays">{data}</script>
<script>
{(_ASSETS / "report.js").read_text(encoding="utf-8")}</script>
</body>
</html>
"""
