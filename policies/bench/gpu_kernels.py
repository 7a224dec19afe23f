"""What a program that XLA compiled for a GPU launches: kernels by kind, and the bytes that they move.

Read from the text of the optimised program, in which every instruction of the entry, and of the loops it runs, is
one launch; a conditional counts as one, whatever is in its branches. Attention is that of libraries, in one kernel:
where XLA computes it, its two products are among the products, and the softmax is among the others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["product", "attention", "other"]
KINDS: tuple[Kind, ...] = ("product", "attention", "other")

NO_KERNEL = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element", "after-all", "while", "call"}
LOOKS_UP = {"slice", "dynamic-slice", "gather"}
"""Operations that read of their first operand what they return."""

_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_CALLED = {
    "fusion": re.compile(r"calls=%?([\w.\-]+)"),
    "call": re.compile(r"to_apply=%?([\w.\-]+)"),
    "while": re.compile(r"body=%?([\w.\-]+)"),
}


@dataclass(frozen=True)
class Launches:
    """Kernels of one kind, and the bytes that they read and write if nothing of it stays in the caches."""

    kernels: int = 0
    bytes: int = 0

    def __add__(self, other: Launches) -> Launches:
        """Both."""
        return Launches(self.kernels + other.kernels, self.bytes + other.bytes)


@dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    operation: str
    operands: tuple[str, ...]
    rest: str


_Computations = dict[str, list[_Instruction]]


def launches(program: str) -> tuple[dict[Kind, Launches], dict[Kind, Launches]]:
    """What an optimised program launches: once, and in each turn of the loops that it contains.

    Args:
      program: As `jax.stages.Compiled.as_text` gives it.

    Raises:
      ValueError: If the text is no such program.
    """
    computations, entry = _parsed(program)
    if entry is None:
        raise ValueError("The text has no ENTRY computation; it is not an optimised program of XLA.")
    once: dict[Kind, Launches] = dict.fromkeys(KINDS, Launches())
    again: dict[Kind, Launches] = dict.fromkeys(KINDS, Launches())
    _count(computations, entry, once, again)
    return once, again


def _count(
    computations: _Computations, name: str, into: dict[Kind, Launches], loops: dict[Kind, Launches]
) -> None:
    shapes = {one.name: one.shape for one in computations[name]}
    for one in computations[name]:
        if one.operation in ("call", "while"):
            within = loops if one.operation == "while" else into
            _count(computations, _called(one), within, loops)
        if one.operation in NO_KERNEL or one.operation.endswith("-done"):
            continue
        body = computations[_called(one)] if one.operation == "fusion" else []
        moved = _moved(one, [shapes.get(operand, "") for operand in one.operands], body)
        kind = _kind(one, body)
        into[kind] = into[kind] + Launches(1, moved)


def _parsed(program: str) -> tuple[_Computations, str | None]:
    computations: _Computations = {}
    current: list[_Instruction] = []
    entry = None
    for line in program.splitlines():
        if start := _COMPUTATION.match(line):
            current = computations.setdefault(start[2], [])
            entry = start[2] if start[1] else entry
        elif found := _INSTRUCTION.match(line):
            name, shape, operation, rest = found.groups()
            operands = tuple(re.findall(r"%([\w.\-]+)", rest.split("), ")[0]))
            current.append(_Instruction(name, shape, operation, operands, rest))
    return computations, entry


def _called(one: _Instruction) -> str:
    found = _CALLED[one.operation].search(one.rest)
    if found is None:
        raise ValueError(f"{one.operation} {one.name} calls nothing; XLA's text has changed.")
    return found[1]


def _kind(one: _Instruction, body: Iterable[_Instruction]) -> Kind:
    if "__cudnn$fmha" in one.rest:
        return "attention"
    if any(word in one.rest for word in ('"__cublas', '"__triton_gemm')):
        return "product"
    return "product" if any(inner.operation in ("dot", "scaled-dot") for inner in body) else "other"


def _moved(one: _Instruction, operands: Sequence[str], body: Sequence[_Instruction]) -> int:
    """Bytes read and written, of arrays that are looked up or written in part only that part."""
    read = [_size(shape) for shape in operands]
    written = _size(one.shape)
    parameters = {
        inner.name: int(inner.rest.split(")")[0]) for inner in body if inner.operation == "parameter"
    }
    shapes = {inner.name: inner.shape for inner in body}
    for name, number in parameters.items():
        users = [inner for inner in body if name in inner.operands]
        if users and all(user.operation in LOOKS_UP and user.operands[0] == name for user in users):
            read[number] = sum(_size(user.shape) for user in users)
        elif users and all(
            user.operation == "dynamic-update-slice" and user.operands[0] == name for user in users
        ):
            updates = sum(_size(shapes.get(user.operands[1], "")) for user in users)
            written += updates - read[number]  # The array itself stays where it is.
            read[number] = 0
    return sum(read) + written


def _size(shape: str) -> int:
    """Bytes of an array, or of all arrays of a tuple."""
    return sum(
        math.prod(int(n) for n in numbers.split(",") if n) * max(1, int(bits or 8) // 8)
        for _, bits, numbers in _ARRAY.findall(shape)
    )
