"""The command line of training, with nothing but the standard library.

python -m simloop.policies.training train --preset pi0-tiny --data runs/demos --out runs/pi0-tiny
python -m simloop.policies.training prepare --preset pi0-tiny --data runs/demos
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from simloop.policies.files.dataclass_cli import add_options
from simloop.policies.training.config import TrainConfig
from simloop.policies.training.errors import TrainingError
from simloop.policies.training.layout import DatasetError

MISUSED = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Train or prepare; returns the exit status. What a user did wrong is said in a sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m simloop.policies.training", description="Train a policy."
    )
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
            from simloop.policies.training.loop import train

            train(TrainConfig(**chosen))
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on from the last checkpoint.", file=sys.stderr)
        return INTERRUPTED
    except _spoken_errors() as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return MISUSED
    return 0


def _prepare(config: TrainConfig) -> None:
    from simloop.policies.training.setup import prepared

    for folder in config.data:
        data = prepared(config, folder, print)
        print(f"{data.size} frames of {data.episodes} episodes are in {data.folder}.")


def _spoken_errors() -> tuple[type[Exception], ...]:
    from simloop.policies.presets import UnknownPresetError

    spoken: list[type[Exception]] = [TrainingError, DatasetError, UnknownPresetError]
    try:
        from simloop.policies.checkpoints import CheckpointError

        spoken.append(CheckpointError)
    except ImportError:  # Without the packages of checkpoints nothing of theirs is raised.
        pass
    return tuple(spoken)
