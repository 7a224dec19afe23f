"""The documentation of the architecture lists the packages that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("harness", "policies", "envs", "results")
BEGIN, END = "<!-- packages: begin -->", "<!-- packages: end -->"


def packages_table() -> str:
    """A row for each package, with the first sentence of its docstring."""
    rows = ["| package | content |", "|---|---|"]
    for folder in FOLDERS:
        for init in sorted((ROOT / folder).rglob("__init__.py")):
            if (ROOT / folder / "simloop") in init.parents:
                continue  # The parent package, which holds no code.
            docstring = ast.get_docstring(ast.parse(init.read_text())) or ""
            sentence = re.split(r"(?<=\.)\s", " ".join(docstring.split()), maxsplit=1)[0]
            rows.append(f"| `{init.parent.relative_to(ROOT)}` | {sentence} |")
    return "\n".join(rows)


def test_architecture_lists_every_package_with_the_first_sentence_of_its_docstring():
    text = (ROOT / "docs" / "architecture.md").read_text()
    listed = text.split(BEGIN)[1].split(END)[0].strip()
    assert listed == packages_table(), f"Write this table into docs/architecture.md:\n{packages_table()}"
