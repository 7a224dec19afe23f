"""Early stopping: decisions depend on the order of the plan and not on the order of completion."""

import numpy as np
import pytest

from simloop.harness.planning.early_stop import EarlyStop
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.protocol import Protocol
from simloop.results.statistics.sequential import StoppingRule
from tests.helpers.point_suite import point_task
from tests.helpers.run_folders import EPISODE, broken, failed

PROTOCOL = Protocol("points")
PLAN = make_plan(
    ["a", "b"], [point_task("left"), point_task("right")], PROTOCOL, 20, seed=0, interleaved_pairs=40
)


def ledger(succeeds, pairs=40):
    """Records of the first pairs; `succeeds(policy, pair)` is True, False or None for an error."""
    done = {}
    for place, spec in enumerate(PLAN.episodes[: 2 * pairs]):
        fields = EPISODE.to_dict() | {
            "policy": spec.policy, "suite": spec.suite, "protocol": spec.protocol, "task": spec.task,
            "episode": spec.episode, "seed": spec.seed,
        }  # fmt: skip
        record = type(EPISODE)(**fields)
        outcome = succeeds(spec.policy, place // 2)
        done[spec.id] = broken(record) if outcome is None else record if outcome else failed(record)
    return done


def a_wins(policy, pair):
    return policy == "a"


@pytest.fixture
def question():
    return EarlyStop(StoppingRule(max_pairs=40), PLAN, ("a", "b"))


def test_a_clear_difference_is_answered_before_the_end(question):
    answered = [question.answered(ledger(a_wins, pairs)) for pairs in range(41)]
    # Seven pairs that all one policy wins have an e-value above 20.
    assert answered == [False] * 7 + [True] * 34


def test_episodes_after_an_open_pair_do_not_count_yet(question):
    done = ledger(a_wins)
    del done[PLAN.episodes[2 * 3].id]
    assert not question.answered(done)


def test_the_answer_does_not_depend_on_who_finished_first(question):
    done = ledger(a_wins, 9)
    shuffled = dict(np.random.default_rng(0).permutation(np.array(list(done.items()), object)).tolist())
    assert question.answered({tuple(key): record for key, record in shuffled.items()})


def test_pairs_with_an_error_are_no_evidence(question):
    def errors_first(policy, pair):
        return None if pair < 5 else policy == "a"

    assert not question.answered(ledger(errors_first, 11))
    assert question.answered(ledger(errors_first, 12))


def test_equal_policies_go_on_to_the_last_pair(question):
    assert not question.answered(ledger(lambda policy, pair: True, 39))
    assert question.answered(ledger(lambda policy, pair: True, 40))
