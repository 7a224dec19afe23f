"""Order in which episodes are handed out."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from simloop.harness.engine.episode_queue import Attempt, EpisodeQueue
from simloop.harness.planning.plan import EpisodeSpec


def spec(policy="p", task="t", episode=0) -> EpisodeSpec:
    return EpisodeSpec(policy, "suite", "suite/default-v1", task, episode, seed=episode, key=episode)


def always(policy: str) -> bool:
    return True


def drain(episode_queue, playable=always, few=0):
    taken = []
    while attempt := episode_queue.next(playable, few=few):
        taken.append(attempt.spec)
    return taken


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), max_size=12),
    st.booleans(),
    st.integers(0, 12),
    st.data(),
)
def test_hands_out_every_episode_once(names, in_order, few, data):
    specs = [spec(policy, task, i) for i, (policy, task) in enumerate(names)]
    episode_queue = EpisodeQueue(specs, in_order=in_order)
    taken = []
    while len(episode_queue):
        ready = data.draw(st.sampled_from(["a", "b", "ab"]))
        attempt = episode_queue.next(lambda policy, ready=ready: policy in ready, few=few)
        if attempt is None:
            attempt = episode_queue.next(always, few=few)
        assert attempt is not None
        if attempt.number == 1 and data.draw(st.booleans()):
            episode_queue.put_back(attempt.again())
        else:
            taken.append(attempt.spec)
    assert Counter(taken) == Counter(specs)


def test_keeps_the_order_of_the_plan():
    specs = [spec("a", "x", i) for i in range(3)] + [spec("b", "x", i) for i in range(2)]
    assert drain(EpisodeQueue(specs)) == specs


def test_skips_a_policy_that_is_not_ready_unless_in_order():
    specs = [spec("slow"), spec("quick")]
    assert drain(EpisodeQueue(specs), lambda policy: policy == "quick") == [spec("quick")]
    assert drain(EpisodeQueue(specs, in_order=True), lambda policy: policy == "quick") == []


def test_starts_the_longest_of_the_last_episodes_first():
    specs = [spec(task=task) for task in ("short", "long", "new")]
    episode_queue = EpisodeQueue(specs)
    episode_queue.expected.learn(spec(task="short", episode=9), 1.0)
    episode_queue.expected.learn(spec(task="long", episode=9), 5.0)
    assert [s.task for s in drain(episode_queue, few=3)] == ["new", "long", "short"]


def test_estimates_durations_from_other_policies_on_the_same_task():
    episode_queue = EpisodeQueue([])
    episode_queue.expected.learn(spec("a", "x"), 2.0)
    episode_queue.expected.learn(spec("a", "x"), 4.0)
    assert episode_queue.expected.seconds(spec("b", "x")) == 3.0
    assert episode_queue.expected.seconds(spec("b", "y")) == float("inf")


def test_hands_out_a_repeated_attempt_first():
    episode_queue = EpisodeQueue([spec(episode=i) for i in range(3)])
    first = episode_queue.next(always)
    episode_queue.put_back(first.again())
    again = episode_queue.next(always)
    assert again == Attempt(spec(episode=0), number=2)


def test_lists_policies_in_the_order_in_which_they_are_needed():
    specs = [spec("a", episode=0), spec("b"), spec("a", episode=1), spec("c")]
    assert list(EpisodeQueue(specs).policies()) == ["a", "b", "c"]
    assert list(EpisodeQueue(specs, in_order=True).policies()) == ["a", "b", "c"]


def test_clear_removes_all_episodes():
    episode_queue = EpisodeQueue([spec(episode=i) for i in range(3)])
    episode_queue.clear()
    assert len(episode_queue) == 0
    assert episode_queue.next(always) is None
