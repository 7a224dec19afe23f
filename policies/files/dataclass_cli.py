"""Command lines from dataclasses, with nothing but the standard library."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Sequence
from typing import Any


def add_options(parser: argparse.ArgumentParser, config: type, optional: Sequence[str] = ()) -> None:
    """An option for each field of a config, with the text below the field as its help."""
    types_of = typing.get_type_hints(config)
    words = field_docstrings(config)
    for field in dataclasses.fields(config):
        required = field.default is dataclasses.MISSING and field.name not in optional
        text = words[field.name].replace("%", "%%")
        if not required and field.name not in optional and field.default not in ("", (), None):
            text += f" (default: {field.default})"
        options: dict[str, Any] = {"required": required, "help": text}
        if not required:
            options["default"] = None if field.default is dataclasses.MISSING else field.default
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", dest=field.name, **options, **_parsing(types_of[field.name])
        )


def field_docstrings(config: type) -> dict[str, str]:
    """The text below each field of a dataclass."""
    body = ast.parse(textwrap.dedent(inspect.getsource(config))).body[0]
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for before, node in zip(body.body, body.body[1:], strict=False):
        match before, node:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                texts[name] = " ".join(text.split())
    return texts


class _AsTuple(argparse.Action):
    """Stores several values as the tuple that a config wants."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Store them."""
        setattr(namespace, self.dest, tuple(values))


def _parsing(kind: Any) -> dict[str, Any]:
    """How argparse reads a value of this type."""
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return {"choices": inner}
    if origin is tuple:
        return {"nargs": "*", "action": _AsTuple, "type": inner[0], "metavar": inner[0].__name__.upper()}
    if origin in (typing.Union, types.UnionType):
        return _parsing(next(one for one in inner if one is not type(None)))
    return {"type": kind, "metavar": kind.__name__.upper()}
