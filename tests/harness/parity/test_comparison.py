import dataclasses

import numpy as np
import pytest

from simloop.harness.parity.comparison import ArrayComparison
from simloop.harness.parity.runner import line


def losses(difference, limit):
    wanted = np.array([8.0, 9.0], np.float32)
    return ArrayComparison("loss", wanted, wanted + np.float32(difference), limit, "rms_absolute")


def test_judges_pooled_arrays_together():
    close, far = losses(0.002, limit=0.001), losses(0.003, limit=0.007)
    pool = (close, far)
    together = [dataclasses.replace(one, pool=pool) for one in pool]
    assert [one.passed_alone for one in together] == [False, True]
    assert [one.passed for one in together] == [True, True]
    assert together[0].pooled_value == pytest.approx(np.sqrt((0.002**2 + 0.003**2) / 2), rel=1e-3)
    assert together[0].pooled_limit == pytest.approx(np.sqrt((0.001**2 + 0.007**2) / 2))
    assert line(together[0]).endswith("ok rms_absolute (beyond alone, pooled 2.55e-03 of 5.00e-03)")


def test_a_pool_beyond_its_limit_fails_all_its_arrays():
    pool = (losses(0.009, limit=0.001), losses(0.003, limit=0.007))
    together = [dataclasses.replace(one, pool=pool) for one in pool]
    assert [one.passed for one in together] == [False, False]
    assert "BEYOND" in line(together[1])


def test_nan_never_passes():
    pool = (losses(np.nan, limit=1.0), losses(0.0, limit=1.0))
    assert not dataclasses.replace(pool[1], pool=pool).passed
    assert not pool[0].passed
