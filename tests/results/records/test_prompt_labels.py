"""Labels of protocols state the source of the instructions, and are read back."""

import dataclasses

import pytest

from simloop.harness.planning.execution import Execution
from simloop.harness.planning.perturbation import Perturbation
from simloop.harness.planning.protocol import named_protocol
from simloop.results.records.execution_labels import split_execution
from simloop.results.records.perturbation_kinds import split_label
from simloop.results.records.prompt_labels import split_prompt

PLAIN = named_protocol("libero_pro", "libero-pro-v1")
BDDL = dataclasses.replace(PLAIN, prompt_source="bddl")


def test_a_label_names_the_source_and_leaves_out_the_choice_of_the_suite():
    assert PLAIN.label == "libero_pro/libero-pro-v1"
    assert BDDL.label == "libero_pro/libero-pro-v1, bddl-prompt"
    assert split_prompt(BDDL.label) == (PLAIN.label, "bddl")
    assert split_prompt(PLAIN.label) == (PLAIN.label, "suite")
    assert "prompt_source" not in PLAIN.to_dict()
    assert BDDL.sha256 != PLAIN.sha256


@pytest.mark.parametrize(
    "rules",
    [
        {"execution": Execution.parse("naive", "2")},
        {"perturbations": (Perturbation.parse("camera-noise=0.1"),)},
    ],
    ids=["execution", "perturbation"],
)
def test_labels_with_other_rules_are_split_as_well(rules):
    label = dataclasses.replace(BDDL, **rules).label
    assert split_prompt(label) == (dataclasses.replace(PLAIN, **rules).label, "bddl")
    base = split_execution(label).base if "execution" in rules else split_label(label)[0]
    assert base == BDDL.label
