"""Validation of actions."""

import dataclasses

import numpy as np
import pytest

from simloop.envs import registry
from simloop.envs.checks import check_action
from simloop.envs.interface import ActionError

SPEC = dataclasses.replace(
    registry.suite("metaworld").tasks()[0],
    action_names=("arm", "hand"),
    action_low=(-0.1, 0.0),
    action_high=(0.1, 1.0),
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_accepts_the_bounds_in_both_precisions(dtype):
    check_action(SPEC, np.array(SPEC.action_low, dtype))
    check_action(SPEC, np.array(SPEC.action_high, dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rejects_the_next_number_beyond_a_bound(dtype):
    beyond = np.array([0.0, np.nextafter(dtype(1), dtype(2))], dtype)
    with pytest.raises(ActionError, match=r"takes hand in \[0, 1\]"):
        check_action(SPEC, beyond)
