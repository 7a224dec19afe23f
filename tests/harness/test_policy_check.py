"""The conformance kit of policies: each broken promise is a sentence."""

import dataclasses

import numpy as np
import pytest

from simloop.envs import registry
from simloop.harness import policy_check
from simloop.harness.planning.protocol import Protocol
from simloop.harness.policy_check import check_policy
from simloop.policies.interface import Chunk, PolicySpec, batched
from tests.helpers.point_policies import PointPolicy
from tests.helpers.point_suite import PointSuite


@pytest.fixture(autouse=True)
def points(monkeypatch):
    monkeypatch.setitem(registry.SUITES._builtin, "points", PointSuite())
    monkeypatch.setitem(registry.SUITES._loaded, "points", PointSuite())
    monkeypatch.setattr(policy_check, "REPEATS", 2)


class Towards:
    """Without faults: it walks away from the origin, with noise from the key."""

    spec = PolicySpec("towards", chunk_steps=3, cameras=("top",))

    def infer(self, queries):
        return [self.answer(query, queries) for query in queries]

    def answer(self, query, queries):
        noise = np.random.default_rng(query.key).uniform(-0.1, 0.1, (3, 2))
        return Chunk(np.float32(np.clip(query.state + noise, -1, 1)))


class Unrepeatable(Towards):
    def answer(self, query, queries):
        return Chunk(np.random.uniform(-1, 1, (3, 2)).astype(np.float32))  # noqa: NPY002


class Entangled(Towards):
    def answer(self, query, queries):
        return Chunk(np.full((3, 2), len(queries) / 10, np.float32))


class Rounding(Towards):
    def answer(self, query, queries):
        return Chunk(np.full((3, 2), 0.1 + 1e-6 * len(queries), np.float32))


class Short(Towards):
    def answer(self, query, queries):
        return Chunk(np.zeros((2, 2), np.float32))


class NotANumber(Towards):
    def answer(self, query, queries):
        return Chunk(np.full((3, 2), np.nan, np.float32))


class Far(Towards):
    def answer(self, query, queries):
        return Chunk(np.full((3, 2), 5, np.float32))


class Scribbling(Towards):
    def answer(self, query, queries):
        answer = super().answer(query, queries)
        query.state[0] = 9
        return answer


class Overwriting(Towards):
    buffer = np.zeros((3, 2), np.float32)

    def answer(self, query, queries):
        self.buffer[...] = query.state
        return Chunk(self.buffer)


class Fast(Towards):
    def infer(self, queries):
        return super().infer(queries[:1])


def findings(policy, batch_size=3):
    policy = batched(policy)
    return {
        found.check: (found.verdict, found.text)
        for found in check_policy(policy, "point", Protocol("points"), batch_size)
    }


def test_a_policy_without_faults_passes():
    found = findings(Towards())
    assert {verdict for verdict, _ in found.values()} == {"ok"}
    assert found["answers have the promised shape"][1] == "3 actions of 2 numbers"
    assert found["the key decides the noise"][1].startswith("another key moves actions by up to 0.0")
    assert "ms for 3 queries" in found["time and memory"][1]


def test_a_batched_policy_passes():
    policy = PointPolicy()
    policy.spec = dataclasses.replace(policy.spec, robot="any")
    assert {verdict for verdict, _ in findings(policy).values()} <= {"ok", "note"}


@pytest.mark.parametrize(
    ("policy", "check", "verdict", "text"),
    [
        (Unrepeatable, "equal queries get equal answers", "FAIL", "Draw all randomness from query.key"),
        (Entangled, "a row does not depend on its neighbours", "FAIL", "differ by 0.1 of their bounds"),
        (
            Rounding,
            "a row does not depend on its neighbours",
            "note",
            "depend on the batch by rounding, 1e-06",
        ),
        (
            Short,
            "answers have the promised shape",
            "FAIL",
            "float32 of shape (2, 2); wanted float32 of shape (3, 2)",
        ),
        (NotANumber, "answers have the promised shape", "FAIL", "NaN or infinite actions"),
        (Far, "actions lie within the bounds", "note", "100% of the numbers are clipped"),
        (Scribbling, "queries stay as they are", "FAIL", "changed the state of a query"),
        (Overwriting, "answers stay as they are", "FAIL", "return new arrays"),
        (Fast, "every number of queries is answered", "FAIL", "answered with 1 chunks; wanted 2"),
    ],
)
def test_each_fault_is_a_sentence(policy, check, verdict, text):
    found = findings(policy())
    assert found[check][0] == verdict
    assert text in found[check][1]
