"""The console on which every command prints."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from simloop.untrusted import printable


class Terminal(Console):
    """A console that shows strings as they are: without markup, emoji codes, highlighting or control characters.

    Names of policies, tasks and files may contain any of them. Styles are given as `rich.text.Text`.
    """

    def __init__(self, *, stderr: bool = False):
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def on_broken_pipe(self) -> None:
        """Raise the error of a closed pipe, which the command line handles for all commands; rich would exit here."""
        raise BrokenPipeError

    def render_str(self, text: str, **options: Any) -> Text:
        """Turn a string into styled text, as rich does for everything that is printed or in a cell of a table."""
        return super().render_str(printable(text), **options)
