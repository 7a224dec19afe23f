"""Parameters of tests of one promise for several families: the first is tested always, the others with `-m slow`."""

from __future__ import annotations

from typing import Any

import pytest


def first_of(*cases: Any) -> list[Any]:
    """Cases for `pytest.mark.parametrize`; a tuple is one case of several arguments."""
    first, *others = cases
    arguments = [case if isinstance(case, tuple) else (case,) for case in others]
    return [first, *(pytest.param(*case, marks=pytest.mark.slow) for case in arguments)]
