from simloop.harness.planning.changes import Changes
from simloop.harness.planning.forks import Forks, plan_forks
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.protocol import Protocol
from tests.helpers.point_suite import point_task

PROTOCOL = Protocol("points")
SOURCE = make_plan(["right"], [point_task()], PROTOCOL, 1, 0).episodes[0]


def plan(changes: Changes, policies=("right",)):
    forks = Forks("right/point/0", "ab" * 32, SOURCE.seed, SOURCE.key, (2, 5), 3, changes)
    return plan_forks(forks, policies, point_task(), PROTOCOL)


def test_the_first_sample_has_the_noise_of_the_recorded_episode_and_others_have_their_own():
    keys = [spec.key for spec in plan(Changes()).episodes]
    assert keys[:3] == keys[3:]
    assert keys[0] == SOURCE.key
    assert len(set(keys)) == 3


def test_a_change_is_played_beside_the_unchanged_continuation_with_equal_noise():
    unchanged, changed = plan(Changes(prompt="wave")).episodes[:6], plan(Changes(prompt="wave")).episodes[6:]
    assert [spec.key for spec in unchanged] == [spec.key for spec in changed]
    assert {spec.fork.changes.prompt for spec in unchanged} == {None}
    assert {spec.protocol for spec in unchanged}.isdisjoint(spec.protocol for spec in changed)


def test_another_policy_shares_the_label_so_that_tables_pair_it():
    episodes = plan(Changes(), ("right", "left")).episodes
    assert {spec.policy for spec in episodes} == {"right", "left"}
    assert len({spec.protocol for spec in episodes}) == 2  # One for each query.


def test_forks_never_pool_with_plain_episodes():
    assert PROTOCOL.label not in {spec.protocol for spec in plan(Changes()).episodes}


def test_plans_without_forks_keep_their_hash():
    hashed = make_plan(["a"], [point_task()], PROTOCOL, 2, 0)
    assert hashed.sha256.startswith("54d3cf13bb5c7d93")
