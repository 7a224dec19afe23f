"""Statistics travel between simloop and openpi with equal values."""

import numpy as np
import pytest

from simloop.policies.transforms.normalization import EntryStats, load_norm_stats, save_norm_stats

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]

COPY = """
import sys
from openpi.shared import normalize

normalize.save(sys.argv[2], normalize.load(sys.argv[1]))
"""


def test_openpi_reads_the_statistics_of_simloop_and_writes_them_so_that_simloop_reads_them(
    lerobot, openpi, tmp_path
):
    draw = np.random.default_rng(0)
    stats = {
        key: EntryStats(
            draw.normal(size=size), draw.uniform(0.1, 1, size), -np.ones(size), draw.uniform(1, 2, size)
        )
        for key, size in (("state", 8), ("actions", 7))
    }
    save_norm_stats(tmp_path / "ours" / "norm_stats.json", stats)
    lerobot(COPY, tmp_path / "ours", tmp_path / "theirs", path=[str(openpi)])
    back = load_norm_stats(tmp_path / "theirs" / "norm_stats.json")
    for key, entry in stats.items():
        for name in ("mean", "std", "q01", "q99"):
            np.testing.assert_array_equal(getattr(back[key], name), getattr(entry, name))
