"""What a fork changes in an episode."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from simloop.harness.errors import SimloopError
from simloop.harness.planning.perturbation import Perturbation
from simloop.harness.planning.protocol import Protocol
from simloop.harness.planning.seeding import derive


class ChangeError(SimloopError):
    """Raised for a change that cannot be made."""


@dataclass(frozen=True)
class Move:
    """A thing of the scene, and where to."""

    thing: str
    """Name as in `Env.movable`."""
    offset_m: tuple[float, float, float]
    """Offset [x, y, z] in metres in the frame of the world."""

    @classmethod
    def parse(cls, text: str) -> Move:
        """Parse `THING=dx,dy,dz`, such as `obj=0.05,0,0`.

        Raises:
          ChangeError: If the text is not of this form.
        """
        thing, _, offset = text.rpartition("=")
        try:
            x, y, z = map(float, offset.split(","))
            if not all(map(math.isfinite, (x, y, z))):
                raise ValueError
        except ValueError:
            raise ChangeError(
                f"Wanted THING=dx,dy,dz in metres, such as obj=0.05,0,0; got {text!r}."
            ) from None
        return cls(thing, (x, y, z))

    def __str__(self) -> str:
        """`THING=dx,dy,dz`, as `parse` reads it."""
        return f"{self.thing}={','.join(f'{value:g}' for value in self.offset_m)}"


@dataclass(frozen=True)
class Changes:
    """What a fork changes; None keeps what the original has."""

    prompt: str | None = None
    """Instruction for the policy."""
    noise_seed: int | None = None
    """Seed of other policy noise from the fork on."""
    replan_steps: int | None = None
    perturbation: Perturbation | None = None
    moves: tuple[Move, ...] = ()
    adapter: str | None = None
    """Identity of another adapter file, or `registered`."""

    def protocol(self, protocol: Protocol) -> Protocol:
        """Apply the changes of rules to a protocol.

        Raises:
          ProtocolError: If there is no such protocol, such as one of 0 steps per chunk.
        """
        return dataclasses.replace(
            protocol,
            replan_steps=protocol.replan_steps if self.replan_steps is None else self.replan_steps,
            perturbations=(self.perturbation,) if self.perturbation else protocol.perturbations,
        )

    def key(self, key: int) -> int:
        """Return the key of the episode's noise, 64 bits."""
        return key if self.noise_seed is None else derive("fork", key, self.noise_seed, bits=64)

    def __str__(self) -> str:
        """The changes as options of the command line; empty if there are none."""
        options = {
            "prompt": None if self.prompt is None else repr(self.prompt),
            "noise-seed": self.noise_seed,
            "replan-steps": self.replan_steps,
            "perturb": self.perturbation,
            "adapter": self.adapter,
        }
        written = [f"{name}={value}" for name, value in options.items() if value is not None]
        return ", ".join([*written, *(f"move {move}" for move in self.moves)])


def query_numbers(at: Sequence[str], count: int) -> list[int]:
    """Parse the queries of an episode on the command line: numbers, or `all` of the `count` that it has.

    Raises:
      ChangeError: If the texts are neither.
    """
    if tuple(at) == ("all",):
        return list(range(count))
    if not at or not all(text.isdecimal() for text in at):
        raise ChangeError(f"--at takes numbers of queries or all; got {' '.join(at) or 'nothing'}.")
    return [int(text) for text in at]
