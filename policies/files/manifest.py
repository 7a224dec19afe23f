"""Read the settings of simloop's own checkpoints, without JAX and without checks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

MANIFEST = "simloop_checkpoint.json"


def settings_of(checkpoint: Path) -> Mapping[str, object]:
    """Settings of a checkpoint; empty for other formats and damaged files."""
    try:
        settings = json.loads((checkpoint / MANIFEST).read_text())["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return settings if isinstance(settings, dict) else {}
