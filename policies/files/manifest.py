"""What one of simloop's own checkpoints says of itself, read without JAX. Nothing is checked here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

MANIFEST = "simloop_checkpoint.json"


def settings_of(checkpoint: Path) -> Mapping[str, object]:
    """The settings that a checkpoint was written with; none for other formats, and for damaged files."""
    try:
        settings = json.loads((checkpoint / MANIFEST).read_text())["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return settings if isinstance(settings, dict) else {}
