"""Comparisons with the recordings of the reference in tests/golden/queries."""

import os
from pathlib import Path

import numpy as np
import pytest

from simloop.harness.parity import policies_whole, robots, tokenizers, vision
from tests.helpers.fresh_python import run_python

QUERIES = Path(__file__).parents[2] / "golden" / "queries"


@pytest.mark.parametrize(
    ("checks", "arrays"),
    [(tokenizers.checks, 48), (robots.checks, 91), (vision.vit_checks, 3)],
    ids=lambda x: getattr(x, "__module__", ""),
)
def test_reproduces_recordings(checks, arrays):
    comparisons = list(checks(QUERIES))
    assert [c.name for c in comparisons if not c.passed] == []
    assert len(comparisons) == arrays


def test_reproduces_recorded_transforms():
    """Resized floating-point images agree to the last digits only with XLA's production options."""
    program = (
        "import pathlib, sys; from simloop.harness.parity import transforms\n"
        "comparisons = list(transforms.checks(pathlib.Path(sys.argv[1])))\n"
        "print(len(comparisons), [c.name for c in comparisons if not c.passed])"
    )
    assert run_python(program, QUERIES, production=True).strip() == "48 []"


@pytest.mark.slow
def test_reproduces_whole_policies():
    golden = os.environ.get("SIMLOOP_GOLDEN")
    if golden is None:
        pytest.skip("SIMLOOP_GOLDEN names no folder of recordings")
    comparisons = list(policies_whole.checks(Path(golden)))
    assert [c.name for c in comparisons if not c.passed] == []
    assert len(comparisons) > 60


def test_detects_a_difference(tmp_path):
    arrays = dict(np.load(QUERIES / "robots.npz"))
    arrays["libero/pi0/out/state"] = arrays["libero/pi0/out/state"] + 2e-6
    np.savez(tmp_path / "robots.npz", **arrays)
    assert [c.name for c in robots.checks(tmp_path) if not c.passed] == ["robots/libero/pi0/state"]
