"""Perturbations are part of the protocol: its label, its hash and its files say which, and how strong."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simloop.harness.planning.experiment import Experiment, experiment_from_json
from simloop.harness.planning.paraphrases import BOXED, ParaphraseError, Paraphrases
from simloop.harness.planning.perturbation import Perturbation, PerturbationError
from simloop.harness.planning.protocol import Protocol
from simloop.results.records.perturbation_kinds import (
    KINDS,
    perturbation_kind,
    split_label,
    split_perturbations,
)


def strengths(kind):
    most = KINDS[kind].most
    return st.integers(1, int(most)).map(float) if KINDS[kind].whole else st.floats(1e-6, most)


SOME = st.lists(st.sampled_from(sorted(KINDS)), unique=True, min_size=1, max_size=4).flatmap(
    lambda kinds: st.tuples(
        *(strengths(kind).map(lambda s, kind=kind: Perturbation(kind, s)) for kind in kinds)
    )
)


def test_kinds_whose_disturbance_has_changed_never_share_a_label_a_hash_or_a_curve_with_old_runs():
    old = "points/default-v1 with camera-noise=0.05"
    new = Protocol("points", perturbations=(Perturbation("camera-noise", 0.05),))
    assert new.label != old
    assert split_label(old)[1] != split_label(new.label)[1]
    unversioned = hashlib.sha256(json.dumps(new.to_dict(), sort_keys=True).encode()).hexdigest()
    assert new.sha256 != unversioned
    kept = Protocol("points", perturbations=(Perturbation("action-noise", 0.05),))
    assert kept.label == "points/default-v1 with action-noise=0.05"


def test_a_single_perturbation_is_written_as_it_was_before_there_could_be_several():
    assert Protocol("points").to_dict()["perturbation"] is None
    single = Protocol("points", perturbations=(Perturbation("camera-dark", 0.5),))
    assert single.to_dict()["perturbation"] == {"kind": "camera-dark", "strength": 0.5}


def test_the_protocol_of_a_disturbed_run_says_what_and_how_much():
    for rules in ({}, {"replan_steps": 3}):
        plain = Protocol("points", **rules)
        disturbed = dataclasses.replace(plain, perturbations=(Perturbation.parse("camera-noise=0.05"),))
        assert disturbed.label == f"{plain.label} with camera-noise-v2=0.05"
        assert split_label(disturbed.label) == (plain.label, "camera-noise-v2", 0.05)
        assert split_label(plain.label) == (plain.label, "", 0.0)
        assert disturbed.sha256 != plain.sha256


@settings(max_examples=25)
@given(SOME)
def test_labels_and_files_are_read_back_as_they_were_written(perturbations):
    assert tuple(Perturbation.parse(str(one)) for one in perturbations) == perturbations
    protocol = Protocol("points", perturbations=perturbations)
    base, read = split_perturbations(protocol.label)
    assert base == "points/default-v1"
    assert {perturbation_kind(kind): s for kind, s in read.items()} == {
        KINDS[one.kind]: one.strength for one in perturbations
    }
    experiment = Experiment("", "points", ("point",), ("random",), 1, protocol=protocol)
    assert experiment_from_json(json.dumps(experiment.to_dict()), "config.json").protocol == protocol


@settings(max_examples=20)
@given(SOME, st.randoms())
def test_the_order_in_which_perturbations_are_named_does_not_matter(perturbations, random):
    shuffled = list(perturbations)
    random.shuffle(shuffled)
    assert Protocol("points", perturbations=tuple(shuffled)) == Protocol(
        "points", perturbations=perturbations
    )


def test_several_perturbations_are_no_point_of_a_curve():
    both = Protocol(
        "points", perturbations=(Perturbation("camera-dark", 0.5), Perturbation("action-noise", 0.1))
    )
    assert both.label == "points/default-v1 with camera-dark=0.5 and action-noise=0.1"
    assert split_label(both.label) == (both.label, "", 0.0)


def test_the_guide_lists_every_kind_in_the_order_of_application_with_its_unit_and_range():
    guide = Path(__file__).parents[3] / "docs" / "how_to" / "robustness.md"
    rows = [
        line.strip("| ").split(" | ") for line in guide.read_text().splitlines() if line.startswith("| `")
    ]
    listed = [row for row in rows if row[0].strip("`") in KINDS]
    assert [row[:3] for row in listed] == [
        [f"`{name}`", kind.unit, f"{kind.most:g}"] for name, kind in KINDS.items()
    ]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_strength_zero_is_the_unperturbed_protocol(kind):
    assert Protocol("points", perturbations=(Perturbation(kind, 0.0),)) == Protocol("points")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("camera-nose=0.1", "there are camera-shift"),
        ("camera-noise", "Wanted KIND=STRENGTH"),
        ("camera-noise=much", "Wanted KIND=STRENGTH"),
        ("camera-noise=-0.1", r"lies in \[0, 1\] \(standard deviation, share of the pixel range\); got -0.1"),
        ("action-noise=1.5", "got 1.5"),
        ("action-noise=nan", "got nan"),
        ("camera-turn=200", r"lies in \[0, 180\] \(angle, degrees\); got 200"),
        ("actuation-delay=1.5", r"a whole number \(delay, control steps\); got 1.5"),
    ],
)
def test_what_cannot_be_done_is_refused(text, complaint):
    with pytest.raises(PerturbationError, match=complaint):
        Perturbation.parse(text)


def test_a_kind_has_one_strength():
    with pytest.raises(PerturbationError, match="camera-dark is given twice"):
        Protocol("points", perturbations=(Perturbation("camera-dark", 0.5), Perturbation("camera-dark", 0.1)))


def test_wordings_of_a_file_are_part_of_the_protocol_and_its_label(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('"move to the goal" = ["go there"]\n"*" = ["kindly {instruction}"]\n')
    mine = Paraphrases.read(file)
    assert mine.wordings("move to the goal") == ("go there",)
    assert mine.wordings("push") == ("kindly push",)
    protocol = Protocol("points", perturbations=(Perturbation("paraphrase", 1.0),), paraphrases=mine)
    assert protocol.label == f"points/default-v1 with paraphrase[{mine.identity}]=1"
    assert split_label(protocol.label) == ("points/default-v1", f"paraphrase[{mine.identity}]", 1.0)
    assert dataclasses.replace(protocol, perturbations=()).label == "points/default-v1", "the control arm"
    experiment = Experiment("", "points", ("point",), ("random",), 1, protocol=protocol)
    assert experiment_from_json(json.dumps(experiment.to_dict()), "config.json").protocol == protocol
    assert all("push the button" in wording for wording in BOXED.wordings("push the button"))


@pytest.mark.parametrize("content", ["", '"push" = "press"', '"push" = []', "push = [1]"])
def test_a_file_without_wordings_is_refused(tmp_path, content):
    file = tmp_path / "odd.toml"
    file.write_text(content)
    with pytest.raises(ParaphraseError, match="odd"):
        Paraphrases.read(file)
    with pytest.raises(ParaphraseError, match="There is no file"):
        Paraphrases.read(tmp_path / "missing.toml")
