"""Other wordings of instructions: templates, and a file of the user's."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from simloop.harness.errors import SimloopError
from simloop.untrusted import read_toml

ANY = "*"
"""Key of the wordings for all instructions that have none of their own."""

TEMPLATES = (
    "please {instruction}",
    "could you {instruction}?",
    "your task is to {instruction}",
    "now {instruction}, please",
    "i want you to {instruction}",
    "go ahead and {instruction}",
    "the robot should {instruction}",
    "{instruction} as soon as you are ready",
)


class ParaphraseError(SimloopError):
    """Raised for a file without wordings."""


@dataclass(frozen=True)
class Paraphrases:
    """Wordings by instruction. `{instruction}` in a wording stands for the instruction itself."""

    name: str
    of: tuple[tuple[str, tuple[str, ...]], ...]
    """Instruction, or `*` for every other one, and its wordings."""

    @classmethod
    def read(cls, file: Path) -> Paraphrases:
        """Read a TOML file of lists of wordings by instruction.

        Raises:
          ParaphraseError: If there is no such file, or it holds something else.
        """
        if not file.is_file():
            raise ParaphraseError(f"There is no file of paraphrases {file}.")
        content = read_toml(file, error=ParaphraseError)
        for instruction, wordings in content.items():
            if not (
                isinstance(wordings, list) and wordings and all(isinstance(one, str) for one in wordings)
            ):
                raise ParaphraseError(
                    f"{file}: wanted a list of wordings for every instruction, as in "
                    f'"push the button" = ["press the button"]; got {wordings!r} for {instruction!r}.'
                )
        if not content:
            raise ParaphraseError(
                f'{file} holds no wordings; write "INSTRUCTION" = ["WORDING", ...] into it.'
            )
        name = "".join(char if char.isalnum() or char in "_.-" else "-" for char in file.stem)
        return cls(name, tuple((str(key), tuple(wordings)) for key, wordings in content.items()))

    @property
    def identity(self) -> str:
        """Name, and the start of a hash of the wordings."""
        return f"{self.name}-{hashlib.sha256(json.dumps(self.of).encode()).hexdigest()[:8]}"

    def wordings(self, instruction: str) -> tuple[str, ...]:
        """Return the other wordings of an instruction; empty if there are none."""
        by_instruction = dict(self.of)
        found = by_instruction.get(instruction, by_instruction.get(ANY, ()))
        return tuple(wording.replace("{instruction}", instruction) for wording in found)


BOXED = Paraphrases("templates", ((ANY, TEMPLATES),))
"""The wordings that are used without a file."""
