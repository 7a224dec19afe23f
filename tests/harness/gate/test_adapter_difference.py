"""Each known cause of 0 % is provoked by a wrong adapter and named, without a simulation."""

import dataclasses

import pytest

from simloop.envs import registry
from simloop.harness.adapters.libero import LIBERO
from simloop.harness.adapters.registry import ADAPTERS
from simloop.harness.gate.adapter_difference import adapter_differences
from simloop.harness.gate.findings import Finding
from tests.harness.gate.wrong_adapters import WRONG, other_state


def differences(adapter) -> list[Finding]:
    task = registry.suite(adapter.suite).tasks()[0]
    return list(adapter_differences(adapter, ADAPTERS[f"{adapter.suite}/{adapter.robot}"], task))


@pytest.mark.parametrize("cause", WRONG)
def test_a_wrong_adapter_is_refused_by_the_name_of_its_fault(cause):
    found = differences(WRONG[cause])
    assert cause in "; ".join(f.text for f in found if f.verdict == "FAIL"), found


def test_an_equal_adapter_is_passed_without_a_word():
    assert differences(dataclasses.replace(LIBERO, image=lambda i: i[:, ::-1].copy())) == []


def test_another_camera_and_another_formula_are_worth_a_note():
    cropped = dataclasses.replace(LIBERO, image=lambda i: i[2:-2, 2:-2])
    (found,) = differences(cropped)
    assert found.verdict == "note"
    assert "changed" in found.text
    (found,) = differences(other_state(lambda state, _: state**2 * [1, 0, 0, 0, 0, 0, 0, 0] + state))
    assert found == Finding("state", "note", "entry 0 is computed otherwise")
    frontview = dataclasses.replace(LIBERO, cameras={**LIBERO.cameras, "base_0_rgb": "frontview"})
    (found,) = differences(frontview)
    assert found.verdict == "note"
    assert "base_0_rgb shows 'frontview', registered is 'agentview'" in found.text


def test_a_state_that_needs_the_simulation_is_left_to_the_doctor():
    assert differences(dataclasses.replace(LIBERO, state=lambda env: env.privileged())) == []
