"""Make the gallery of tables and figures in the documentation from the recorded runs in docs/gallery/runs.

.venv/bin/python scripts/draw_gallery.py           # writes docs/gallery.md and the files beside it
.venv/bin/python scripts/draw_gallery.py --check   # ends with an error if they would change
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from simloop.results.figures.catalog import drawings
from simloop.results.figures.style import figure_bytes
from simloop.results.records.runs import load_runs
from simloop.results.tables.document_class import DOCUMENT_CLASSES
from simloop.results.tables.options import TableOptions
from simloop.results.tables.run_tables import table

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "docs" / "gallery" / "runs"
MAIN = (RUNS / "main",)
DOCUMENT = DOCUMENT_CLASSES["neurips"]
INTRODUCTION = """# Gallery

Tables and figures of recorded runs, each with the command that made it. `scripts/draw_gallery.py` makes this page
from `docs/gallery/runs`, and `.ci/run` fails where the page is not what the script makes. The runs: four policies on
six tasks of Meta-World, ten episodes each, on two CPU cores, `pi0-tiny` again under camera noise, and, with six
episodes of two tasks, under delays. To keep them small, the records of further policies (`random`, and an unfinished
one under noise) were removed. [Put results into a paper](how_to/papers.md) has all options; the tables here are the
Markdown of what `--format tex` typesets.
"""


@dataclass(frozen=True)
class TableEntry:
    """A table of the gallery."""

    title: str
    options: TableOptions
    runs: tuple[Path, ...] = MAIN


@dataclass(frozen=True)
class FigureEntry:
    """A figure of the gallery."""

    title: str
    name: str
    runs: tuple[Path, ...] = MAIN


ENTRIES: tuple[TableEntry | FigureEntry, ...] = (
    TableEntry(
        "Policies by task, with the interval of the mean",
        TableOptions(rows="policies", cells=("rate", "half-width")),
    ),
    TableEntry("Tasks by policy, with everything that is known", TableOptions()),
    TableEntry(
        "Groups of tasks",
        TableOptions(
            per="group",
            rows="policies",
            groups={"move": "reach* push-v3 pick-place*", "operate": "drawer* button* window*"},
            cells=("rate", "interval", "letters"),
            order="rate",
        ),
    ),
    TableEntry(
        "Means, ranks, and differences to a baseline",
        TableOptions(per="suite", rows="policies", cells=("rate", "rank", "difference"), baseline="pi0-tiny"),
    ),
    TableEntry(
        "Some policies and tasks, underlined where not found to differ from the best",
        TableOptions(
            policies=("pi0-tiny", "pi05-tiny", "pi0_fast-tiny"),
            tasks=("reach-v3", "pick-place-v3"),
            emphasis=("bold", "underline"),
            names={"pi0-tiny": "pi0", "pi05-tiny": "pi0.5", "pi0_fast-tiny": "pi0-FAST"},
            cells=("rate", "interval"),
            decimals=0,
        ),
    ),
    TableEntry("Steps to success", TableOptions(only="time", cells=("rate", "half-width"))),
    FigureEntry("Success with intervals", "success"),
    FigureEntry("Differences", "differences"),
    FigureEntry("Outcome of every episode", "outcomes"),
    FigureEntry("Time to success", "success-over-steps"),
    FigureEntry("Latency by stage", "latency-stages"),
    FigureEntry("Success under camera noise", "perturbation-1", (*MAIN, RUNS / "noise")),
    FigureEntry("Success against the delay of answers", "delay-1", (RUNS / "delays",)),
)


def gallery() -> Iterator[tuple[str, bytes]]:
    """Files of the gallery by path within docs."""
    parts = [INTRODUCTION]
    for entry in ENTRIES:
        runs = load_runs(list(entry.runs))
        names = " ".join(f"runs/{folder.name}" for folder in entry.runs)
        if isinstance(entry, TableEntry):
            made = table(runs, entry.options)
            command = shlex.join(["simloop", "table", *names.split(), *arguments(entry.options)])
            parts.append(f"## {entry.title}\n\n    {command}\n\n{made.to_markdown()}")
            continue
        drawing = drawings(runs)[entry.name]
        figure, _ = drawing.figure(DOCUMENT.inches(1), DOCUMENT)
        file = f"gallery/{entry.name}.svg"
        yield file, figure_bytes(figure, "svg")
        command = f"simloop report {names} --paper paper --document neurips"
        parts.append(
            f"## {entry.title}\n\n    {command}    # figures/{entry.name}-column.pdf\n\n![{drawing.caption}]({file})\n"
        )
    yield "gallery.md", ("\n".join(parts)).encode()


def arguments(options: TableOptions) -> list[str]:
    """The options as on the command line."""
    made: list[str] = []
    for name, value in options.given.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, dict):
            made += [flag, *(text for pair in value.items() for text in pair)]
        else:
            made += [flag, *map(str, value if isinstance(value, tuple) else (value,))]
    return made


def main() -> int:
    """Write the gallery, or compare it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file would change")
    check = parser.parse_args().check
    changed = []
    for name, content in gallery():
        file = ROOT / "docs" / name
        if not file.is_file() or file.read_bytes() != content:
            changed.append(name)
            if not check:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
    if check and changed:
        print(f"Not what scripts/draw_gallery.py makes: {', '.join(changed)}. Run it.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
