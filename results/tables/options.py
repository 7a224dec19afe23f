"""What a table shows and how: one set of options for the command line, experiment files and Python.

An option that is None or empty has not been given and takes the default of the table or the format.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError
from tyro.conf import arg

from simloop.results.errors import ResultsError
from simloop.untrusted import read_toml

TableName = Literal[
    "success", "latency", "time", "published", "perturbations", "delays", "prompts", "robustness", "axes"
]
Part = Literal["rate", "half-width", "interval", "counts", "letters", "rank", "difference"]
Emphasis = Literal["bold", "underline", "none"]
DocumentName = Literal["article", "ieeetran", "corl", "neurips", "iclr"]
FloatName = Literal["table", "table*", "none"]

DEFAULT_PARTS: tuple[Part, ...] = ("rate", "interval", "counts", "letters")


def _arg(metavar: str, default: str = "") -> Any:
    return arg(metavar=metavar, help_behavior_hint=default and f"(default: {default})")


@dataclass(frozen=True)
class TableOptions:
    """What a table shows and how it is typeset."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    only: Annotated[
        TableName | None,
        _arg(f"{{{','.join(get_args(TableName))}}}", "success, and latency in a terminal"),
    ] = None
    """Which table: time has steps to success, perturbations success by strength, delays success by delay, prompts
    success by source of the instruction, robustness success and sensitivity along the axes of a design, axes success by
    what LIBERO-plus changed, published a comparison with rates of others."""
    rows: Annotated[Literal["tasks", "policies"] | None, _arg("{tasks,policies}", "tasks")] = None
    """What the rows of the success table are; the other is its columns."""
    per: Annotated[Literal["task", "group", "suite"] | None, _arg("{task,group,suite}", "task")] = None
    """Rates per task, per group of tasks, or the means of all suites and protocols in one table."""
    policies: Annotated[tuple[str, ...], _arg("P [P ...]", "all")] = ()
    """Policies to show, in this order; * matches any text. The note names the others."""
    tasks: Annotated[tuple[str, ...], _arg("T [T ...]", "all")] = ()
    """Tasks to show, in this order; * matches any text. Means stay those of all tasks."""
    groups: Annotated[
        Mapping[str, str], _arg("NAME TASKS [NAME TASKS ...]", "those that the runs played")
    ] = field(default_factory=dict)
    """Groups of tasks, each with the tasks in it, separated by spaces; * matches any text."""
    cells: Annotated[tuple[Part, ...], _arg("PART [PART ...]", " ".join(DEFAULT_PARTS))] = ()
    """Parts of a cell: rate, half-width (after ±), interval, counts, letters, rank, difference (to the baseline)."""
    baseline: Annotated[str, _arg("P")] = ""
    """Policy from which differences are counted."""
    decimals: Annotated[int | None, _arg("N", "1 for success in percent")] = None
    """Digits after the decimal point."""
    emphasis: Annotated[tuple[Emphasis, ...], _arg("{bold,underline,none} [...]", "bold")] = ()
    """bold: significantly better than every other policy; underline: not found to differ from the highest rate."""
    unit: Annotated[Literal["percent", "fraction"] | None, _arg("{percent,fraction}", "percent")] = None
    """Unit of rates and of their differences."""
    order: Annotated[Literal["plan", "name", "rate"] | None, _arg("{plan,name,rate}", "plan")] = None
    """Order of the policies: as planned, by name, or the highest mean rate first."""
    names: Annotated[
        Mapping[str, str], _arg("NAME SHORT [NAME SHORT ...]", "checkpoints without folders")
    ] = field(default_factory=dict)
    """Names to print for policies, tasks, suites and protocols."""
    quote: bool = False
    """Set published rates beside the measured ones, marked as quoted, with their sources."""
    published: Annotated[Path | None, _arg("FILE", "the rates that simloop knows")] = None
    """Published rates as CSV with the columns policy, tasks, rate, episodes, protocol, source."""
    looked_at: Annotated[int | None, _arg("N", "the number of policies in the runs")] = None
    """Number of policies and checkpoints that were tried before these were chosen."""
    document: Annotated[DocumentName | None, _arg(f"{{{','.join(get_args(DocumentName))}}}", "article")] = (
        None
    )
    """Document class that LaTeX and figures are made for: widths, font and sizes."""
    float: Annotated[FloatName | None, _arg("{table,table*,none}", "the narrower one that fits")] = None
    """LaTeX environment around the table; none for a bare tabular."""
    caption: Annotated[str, _arg("TEXT", "what the table shows")] = ""
    """Caption in LaTeX."""
    label: Annotated[str, _arg("NAME", "tab: and the name of the table")] = ""
    """Label in LaTeX."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """Parts of a cell that are shown."""
        return self.cells or DEFAULT_PARTS

    @property
    def stresses(self) -> tuple[Emphasis, ...]:
        """How the best policies are marked."""
        return self.emphasis or ("bold",)

    @property
    def line(self) -> Literal["row", "column"]:
        """In which direction the policies of one task stand."""
        return "column" if self.rows == "policies" else "row"

    @property
    def given(self) -> dict[str, Any]:
        """Values of the options that are given, by name; 0 decimals are given."""
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value or type(value) is int}

    def over(self, other: TableOptions) -> TableOptions:
        """These options where they are given, elsewhere the other ones."""
        return dataclasses.replace(other, **self.given)


DEFAULT_OPTIONS = TableOptions()
_OPTIONS = TypeAdapter(TableOptions)


def table_options(values: Mapping[str, Any], where: str = "The options of the table") -> TableOptions:
    """Options from names and values, as of the table `[table]` of an experiment file.

    Raises:
      ResultsError: If an option is unknown or has a wrong value; names all of them.
    """
    try:
        return _OPTIONS.validate_python(dict(values))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']} (got {one['input']!r})" for one in error.errors()
        )
        raise ResultsError(f"{where} cannot be used: {problems}.") from error


def read_table_options(file: Path) -> TableOptions:
    """The options in the table `[table]` of an experiment file; paths in it are relative to the file.

    Raises:
      ResultsError: If the file is no TOML, or an option is wrong.
    """
    content = read_toml(file, error=ResultsError)
    found = table_options(content.get("table", {}), f"[table] in {file}")
    if found.published is None:
        return found
    return dataclasses.replace(found, published=file.parent / found.published)
