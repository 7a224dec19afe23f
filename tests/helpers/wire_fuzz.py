"""Messages of policy servers and clients as a stranger might send them."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import msgpack
import numpy as np

from simloop.harness.remote.wire import Keys, pack

DTYPES = (
    "<f4",
    "<f8",
    "<i8",
    "|u1",
    "|b1",
    "<U3",
    ">f2",
    "|O",
    "<c8",
    "<M8[s]",
    "V4",
    "f4,f4",
    "",
    "<f9",
    "<U99999",
)
HEADERS = (0xC6, 0xDB, 0xDD, 0xDF, 0xC9)
"""Codes of bytes, text, lists, maps and extensions whose length is a number of 32 bits."""


def messages(template: Mapping[str, Any], keys: Keys, count: int, first: int = 0) -> Iterator[bytes]:
    """Yield `count` messages: random bytes, mutated ones, wrong entries, deep nesting and huge lengths."""
    frame = pack(template, keys)
    for number in range(first, first + count):
        generator = random.Random(number)
        kind = generator.randrange(10)
        if kind < 2:
            yield generator.randbytes(generator.randint(0, 200))
        elif kind < 5:
            yield mutated(generator, frame)
        elif kind < 8:
            yield _with_wrong_entries(generator, template, keys)
        elif kind == 8:
            yield _nested(generator, frame)
        else:
            yield _huge(generator, frame)


def mutated(generator: random.Random, frame: bytes) -> bytes:
    """Change, insert, delete or repeat some bytes, or cut the frame off."""
    data = bytearray(frame)
    for _ in range(generator.randint(1, 8)):
        at = generator.randrange(len(data) + 1)
        kind = generator.randrange(5)
        if kind == 0 and at < len(data):
            data[at] = generator.randrange(256)
        elif kind == 1:
            data[at:at] = generator.randbytes(generator.randint(1, 6))
        elif kind == 2:
            del data[at : at + generator.randint(1, 6)]
        elif kind == 3:
            data[at:at] = data[: generator.randint(1, 40)]
        else:
            del data[at:]
    return bytes(data) or b"\x00"


def _with_wrong_entries(generator: random.Random, template: Mapping[str, Any], keys: Keys) -> bytes:
    """The message with one to three entries, at any depth, replaced by values of any kind."""
    message = _copied(template)
    for _ in range(generator.randint(1, 3)):
        place = message
        while True:
            key = generator.choice(list(place) or ["x"])
            inner = place.get(key)
            if not (isinstance(inner, dict) and inner and generator.random() < 0.7):
                break
            place = inner
        place[key] = _value(generator, keys)
    return bytes(msgpack.packb(_encoded(message, keys)))


def _copied(value: Any) -> Any:
    return {key: _copied(entry) for key, entry in value.items()} if isinstance(value, Mapping) else value


def _value(generator: random.Random, keys: Keys, depth: int = 0) -> Any:
    kind = generator.randrange(12 if depth < 3 else 7)
    if kind < 7:
        numbers = (0, -1, 2**63, 1.5, float("nan"), float("inf"), -0.0)
        return generator.choice([None, True, "", "x" * 300, b"", b"\xff" * 9, *numbers])
    if kind == 7:
        return [_value(generator, keys, depth + 1) for _ in range(generator.randrange(5))]
    if kind == 8:
        return {str(i): _value(generator, keys, depth + 1) for i in range(generator.randrange(5))}
    if kind == 9:
        shape = tuple(generator.randrange(4) for _ in range(generator.randrange(5)))
        return np.zeros(shape, generator.choice(("f4", "f8", "i2", "u1", "b1", "U2")))
    claimed = {
        "__ndarray__": True,
        "data": generator.randbytes(generator.randrange(40)),
        "dtype": generator.choice(DTYPES),
        "shape": [generator.choice((0, 1, 2, 3, -1, 2**40, None)) for _ in range(generator.randrange(10))],
    }
    if kind == 11:
        del claimed[generator.choice(list(claimed))]
    return claimed if keys == "text" else {key.encode(): entry for key, entry in claimed.items()}


def _encoded(value: Any, keys: Keys) -> Any:
    """A message for msgpack alone, which takes what `pack` refuses."""
    if isinstance(value, np.ndarray | np.generic):
        return msgpack.unpackb(pack(value, keys))
    if isinstance(value, dict):
        return {key: _encoded(entry, keys) for key, entry in value.items()}
    return [_encoded(entry, keys) for entry in value] if isinstance(value, list) else value


def _nested(generator: random.Random, frame: bytes) -> bytes:
    """A message within very many lists and maps."""
    opening = generator.choice((b"\x91", b"\x81\xa1x", b"\x92\x91\xc0"))
    if generator.random() < 0.02:
        opening = b"\xdc\x10\x00"  # For each of these lists, memory of 32 kB is reserved.
    return opening * generator.choice((3, 20, 600, 5000)) + frame


def _huge(generator: random.Random, frame: bytes) -> bytes:
    """A message that claims lengths of up to four gigabytes."""
    length = generator.choice((2**32 - 1, 2**31, 2**20, 70_000))
    header = struct.pack(">BI", generator.choice(HEADERS), length)
    at = generator.randrange(len(frame))
    return generator.choice((header, b"\x81\xa1x" + header, frame[:at] + header)) + frame[at:]
