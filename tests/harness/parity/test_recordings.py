"""Everything recorded of the reference that lies in tests/golden/queries is computed again."""

import os
from pathlib import Path

import numpy as np
import pytest

from simloop.harness.parity import policies_whole, robots, tokenizers, transforms, vit

QUERIES = Path(__file__).parents[2] / "golden" / "queries"


@pytest.mark.parametrize(
    ("family", "arrays"),
    [(tokenizers, 48), (transforms, 48), (robots, 91), (vit, 3)],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_recordings_are_reproduced(family, arrays):
    comparisons = list(family.checks(QUERIES))
    assert [c.name for c in comparisons if not c.passed] == []
    assert len(comparisons) == arrays  # None has dropped out.


@pytest.mark.slow
def test_whole_policies_are_reproduced():
    golden = os.environ.get("SIMLOOP_GOLDEN")
    if golden is None:
        pytest.skip("SIMLOOP_GOLDEN names no folder of recordings")
    comparisons = list(policies_whole.checks(Path(golden)))
    assert [c.name for c in comparisons if not c.passed] == []
    assert len(comparisons) > 60


def test_a_difference_is_noticed(tmp_path):
    arrays = dict(np.load(QUERIES / "robots.npz"))
    arrays["libero/pi0/out/state"] = arrays["libero/pi0/out/state"] + 2e-6
    np.savez(tmp_path / "robots.npz", **arrays)
    assert [c.name for c in robots.checks(tmp_path) if not c.passed] == ["robots/libero/pi0/state"]
