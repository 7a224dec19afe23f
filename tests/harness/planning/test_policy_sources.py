"""Policies named by specifications: schemes, arguments, and their way to the processes of a run."""

import pickle
from dataclasses import dataclass

import pytest

from simloop.harness.errors import SpecificationError
from simloop.harness.planning.policy_names import PolicyLoader, UnknownPolicyError, is_policy, parse
from simloop.harness.planning.policy_sources import (
    SCHEMES,
    PolicySource,
    Scheme,
    parse_specification,
)
from simloop.policies.scripted import scripted_policy
from simloop.results.records.written_policies import policy_identity, policy_name


@dataclass(frozen=True)
class Elsewhere(PolicySource):
    address: str

    def spec(self):
        return scripted_policy("hold").spec

    def load(self):
        return scripted_policy("hold")

    def fingerprint(self):
        return {"address": self.address}


@pytest.fixture(autouse=True)
def scheme(monkeypatch):
    monkeypatch.setitem(SCHEMES._builtin, "far", Scheme("far", lambda written: Elsewhere(written.target)))


def test_a_scheme_resolves_the_policies_that_begin_with_it():
    named = parse("mine=far://host:80?robot=libero")
    assert named.name == named.spec().name == "mine"
    assert named.source == Elsewhere("host:80")
    assert parse("far://host:80").name == "far://host:80"
    assert is_policy("far://host:80")
    assert not is_policy("near://host:80")
    with pytest.raises(UnknownPolicyError, match="no policy 'near://host:80'"):
        parse("near://host:80")
    with pytest.raises(UnknownPolicyError, match="'expert' is the name of another policy"):
        parse("expert=far://host:80")


def test_a_resolved_policy_travels_to_the_processes_of_a_run(monkeypatch):
    loader = pickle.loads(pickle.dumps(PolicyLoader.of(["mine=far://host:80", "expert"])))
    monkeypatch.delitem(SCHEMES._builtin, "far")
    assert loader("mine").spec.name == "mine"
    assert loader("mine").identity() == {"address": "host:80"}
    assert loader("expert").identity() == {}


def test_arguments_are_text_by_key():
    read = parse_specification("far:a/b?horizon=10&path=/x%26y+z&empty=")
    assert (read.scheme, read.target) == ("far", "a/b")
    assert read.arguments == {"horizon": "10", "path": "/x&y+z", "empty": ""}


@pytest.mark.parametrize("arguments", ["", "a", "=1", "a=1&a=2", "a=1&"])
def test_refuses_arguments_that_cannot_be_read(arguments):
    with pytest.raises(
        SpecificationError, match=r"KEY=VALUE&KEY=VALUE, each key once, as in far:x\?device=cpu"
    ):
        parse_specification(f"far:x?{arguments}")


@pytest.mark.parametrize(
    ("written", "name", "identity"),
    [
        ("./my.py:Mine", "Mine", "Mine=my.py:Mine"),
        ("/a/my.py:Mine?h=1", "Mine?h=1", "Mine?h=1=my.py:Mine?h=1"),
        ("best=../my.py:Mine?h=1", "best", "best=my.py:Mine?h=1"),
        ("pkg.mod:Mine", "Mine", "Mine=pkg.mod:Mine"),
        ("far://host:80?a=1", "far://host:80?a=1", "far://host:80?a=1"),
        ("mine=far://me@host:80", "mine", "mine=far://me@host:80"),
    ],
)
def test_code_is_named_and_identified_without_its_folder(written, name, identity):
    assert policy_name(written) == name
    assert policy_identity(written) == identity
