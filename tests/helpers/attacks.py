"""Inputs as a stranger might make them: names with markup, paths that leave, mutated bytes. All are harmless."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

MUTATIONS = int(os.environ.get("SIMLOOP_MUTATIONS", "100000"))
"""Mutated inputs of each slow test."""
FIRST_MUTATION = int(os.environ.get("SIMLOOP_FIRST_MUTATION", "0"))
"""Number of the first one, so that a campaign can be split."""

NAMES = (
    "[bold]a[/bold]", "[/]", "[red", ":smile:", "=1+1", "+a", "-a", "@a", "\tb", "\rb", "a\nb", "a|b", "`a`", "*a*",
    "![a](http://a.example/b.png)", "[a](http://a.example)", "<img src=x>", "http://a.example", "www.a.example",
    "\x1b[31mred\x1b[0m", "\x9b31m", "\x00", "\u202eabc", "\udc80", "$x$", "\\input{a}", "&lt;", "..", "../a", "/a",
    "a" * 300, "ä日", "'", '"',
)  # fmt: skip
"""Names of policies and tasks with a meaning in a format, a terminal or a file system."""

PATHS = (
    "../canary", "/etc/hostname", "videos/../../canary", "videos/link/canary", "videos/canary-link", "config.json",
    "videos", "videos/", ".", "..", "a\x00b", "videos/a\x00b", "videos/" + "a" * 300, "videos/loop/a", "\\\\host\\a",
)  # fmt: skip
"""Paths of videos of which none is the file of a video in its run folder."""


def mutations(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield `count` copies of `content`, each with a few bytes changed, removed, repeated or replaced by odd ones."""
    draw = random.Random(seed)
    odd = (
        b"\xff" * 8,
        b"\x00" * 8,
        b"[" * 200,
        b"{",
        b'"',
        b"-1",
        b"1e999",
        b"NaN",
        b"null",
        b"9" * 30,
        b"../",
        b"[]",
    )
    for _ in range(count):
        made = bytearray(content)
        for _ in range(draw.randint(1, 3)):
            begin = draw.randrange(len(made) + 1)
            end = min(len(made), begin + draw.choice((0, 1, 1, 4, 16)))
            kind = draw.randrange(5)
            if kind == 0:
                made[begin:end] = draw.randbytes(end - begin)
            elif kind == 1:
                del made[begin:end]
            elif kind == 2:
                made[begin:begin] = made[begin:end]
            elif kind == 3:
                made[begin:end] = draw.choice(odd)
            else:
                del made[begin:]
        yield bytes(made)
