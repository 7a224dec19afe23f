"""XLA flags with which a CPU rounds as it did for the recordings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, MutableMapping

OWN_KERNELS = "--xla_cpu_experimental_ynn_fusion_type="
"""Switch off matrix products by the YNNPACK library, which keeps more precision than bfloat16 between operations.

The recordings come from JAX 0.5.3, whose XLA had no YNNPACK. With it, outputs of bfloat16 models are
about three times as far from the recordings as without.
"""


def use_recorded_rounding(
    environ: MutableMapping[str, str] = os.environ, *, accepts: Callable[[str], bool] | None = None
) -> bool:
    """Add `OWN_KERNELS` to XLA_FLAGS if this XLA knows the flag; JAX must not have started a backend.

    Args:
      environ: Environment with XLA_FLAGS. A flag for YNNPACK that is set there is kept.
      accepts: Whether XLA starts with the given XLA_FLAGS. By default another process tries, because XLA
        ends the process on a flag that it does not know.

    Returns:
      Whether XLA_FLAGS was changed.
    """
    given = environ.get("XLA_FLAGS", "")
    if OWN_KERNELS.rstrip("=") in given:
        return False
    flags = f"{given} {OWN_KERNELS}".strip()
    if not (accepts or xla_starts_with)(flags):
        return False
    environ["XLA_FLAGS"] = flags
    return True


def xla_starts_with(flags: str) -> bool:
    """Return whether XLA starts on the CPU with these flags, in another process."""
    environ = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    probe = [sys.executable, "-c", "import jax; jax.devices()"]
    return subprocess.run(probe, env=environ, capture_output=True, check=False).returncode == 0
