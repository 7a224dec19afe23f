"""Arguments written `?KEY=VALUE&KEY=VALUE`, converted to the types of the function that takes them."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from simloop.harness.errors import SpecificationError


def typed_arguments(
    function: Callable[..., Any], arguments: Mapping[str, str], where: str, skip: int = 0
) -> dict[str, Any]:
    """Convert arguments by the annotations of a function or class, else by the types of its defaults.

    Args:
      where: What the arguments belong to, for messages.
      skip: Leading parameters that arguments do not set.

    Raises:
      SpecificationError: If the function has no such parameter, lacks one, or a text cannot be converted.
    """
    parameters = dict(list(inspect.signature(function).parameters.items())[skip:])
    named = {name: p for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if (unknown := sorted(arguments.keys() - named.keys())) and not takes_any:
        raise SpecificationError(
            f"{where} has no argument {', '.join(map(repr, unknown))}; it has {', '.join(named) or 'none'}."
        )
    if missing := [name for name, p in named.items() if p.default is p.empty and name not in arguments]:
        raise SpecificationError(f"{where} needs {', '.join(missing)}; write ?{missing[0]}=VALUE.")
    types = _types(function)
    return {
        name: _converted(text, name, types.get(name, _type_of_default(named.get(name))), where)
        for name, text in arguments.items()
    }


def _types(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations of the parameters of a function or class, as far as they can be resolved."""
    annotated = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    try:
        return typing.get_type_hints(annotated)
    except (NameError, TypeError):
        return {}


def _type_of_default(parameter: inspect.Parameter | None) -> Any:
    default = None if parameter is None else parameter.default
    return type(default) if isinstance(default, bool | int | float) else str


def _converted(text: str, name: str, kind: Any, where: str) -> Any:
    try:
        return TypeAdapter(kind).validate_strings(text)
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise SpecificationError(f"Argument {name} of {where}: {problem}; got {text!r}.") from error
    except Exception:  # An annotation that pydantic does not know.
        return text
