"""Read the settings of simloop's own checkpoints, without JAX and without checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from simloop.untrusted import UntrustedInputError, read_json_object

MANIFEST = "simloop_checkpoint.json"


def settings_of(checkpoint: Path) -> Mapping[str, object]:
    """Settings of a checkpoint; empty for other formats and damaged files."""
    try:
        settings = read_json_object(checkpoint / MANIFEST)["config"]
    except (UntrustedInputError, KeyError):
        return {}
    return settings if isinstance(settings, dict) else {}
