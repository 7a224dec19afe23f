"""The command line of training, with nothing but the standard library.

python -m policies.training train --preset pi0-tiny --data runs/demos --out runs/pi0-tiny
python -m policies.training prepare --preset pi0-tiny --data runs/demos
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import sys
import textwrap
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from policies.training.config import TrainConfig
from policies.training.errors import TrainingError
from policies.training.layout import DatasetError

MISUSED = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Train or prepare; returns the exit status. What a user did wrong is said in a sentence."""
    parser = argparse.ArgumentParser(prog="python -m policies.training", description="Train a policy.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in (
        ("train", "train, or go on training"),
        ("prepare", "decode a dataset, and stop there"),
    ):
        command = commands.add_parser(name, help=words, description=words)
        add_options(command, TrainConfig, optional=("out",) if name == "prepare" else ())
    chosen = vars(parser.parse_args(arguments))
    try:
        if chosen.pop("command") == "prepare":
            _prepare(TrainConfig(**{**chosen, "out": Path()}))
        else:
            from policies.training.loop import train

            train(TrainConfig(**chosen))
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on from the last checkpoint.", file=sys.stderr)
        return INTERRUPTED
    except _spoken_errors() as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return MISUSED
    return 0


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


def _parsing(kind: Any) -> dict[str, Any]:
    """How argparse reads a value of this type."""
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return {"choices": inner}
    if origin is tuple:
        return {"nargs": "*", "type": inner[0], "metavar": "X"}
    if origin in (typing.Union, types.UnionType):
        kind = next(one for one in inner if one is not type(None))
    return {"type": kind, "metavar": kind.__name__.upper()}


def _prepare(config: TrainConfig) -> None:
    from policies.presets import preset
    from policies.training.prepared import prepare

    chosen = preset(config.preset)
    data = prepare(
        config.data,
        config.camera_keys(chosen.cameras),
        chosen.model.image_size,
        state_key=config.state_key,
        action_key=config.action_key,
        told=print,
    )
    print(f"{data.size} frames of {data.episodes} episodes are in {data.folder}.")


def _spoken_errors() -> tuple[type[Exception], ...]:
    from policies.presets import UnknownPresetError

    spoken: list[type[Exception]] = [TrainingError, DatasetError, UnknownPresetError]
    try:
        from policies.checkpoints import CheckpointError

        spoken.append(CheckpointError)
    except ImportError:  # Without the packages of checkpoints nothing of theirs is raised.
        pass
    return tuple(spoken)
