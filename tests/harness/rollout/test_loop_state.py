import contextlib
import dataclasses
from collections.abc import Callable

import pytest

from simloop.envs.env_state import StateError
from simloop.envs.interface import RenderSettings
from simloop.envs.registry import suite
from simloop.harness.adapters.base import Adapter
from simloop.harness.planning.perturbation import Perturbation
from simloop.harness.planning.plan import make_plan
from simloop.harness.planning.protocol import Protocol
from simloop.harness.rollout.loop import Episode, ask_here, play
from simloop.harness.rollout.loop_state import EpisodeState, LoopState
from simloop.harness.rollout.result import RolloutResult
from simloop.policies.interface import Query, batched
from simloop.policies.scripted import scripted_policy
from tests.helpers.point_policies import PointPolicy
from tests.helpers.point_suite import PointEnv, point_task

REACH = next(task for task in suite("metaworld").tasks() if task.name == "reach-v3")
STICKY = Protocol("metaworld", replan_steps=5, perturbations=(Perturbation("sticky-actions", 0.5),))
POINTS = Protocol("points", render=RenderSettings("fast", 16, 16), replan_steps=3, max_steps=12)


def finish(rollout, policy) -> RolloutResult:
    try:
        query = next(rollout)
        while True:
            query = rollout.send(ask_here(policy, query))
    except StopIteration as stop:
        return stop.value


def moments(
    episode: Episode, policy, wanted: Callable[[Episode], bool] = lambda episode: True
) -> list[EpisodeState]:
    """Play the episode and save it at those pauses before queries and steps that are wanted."""
    saved, reply, rollout = [], None, episode.moments()
    with contextlib.suppress(StopIteration):
        while True:
            moment = rollout.send(reply)
            reply = ask_here(policy, moment) if isinstance(moment, Query) else None
            if moment is None and wanted(episode):
                saved.append(episode.save())
    return saved


def same(a: RolloutResult, b: RolloutResult) -> bool:
    """Whether two results agree in all but their times."""
    timeless = [dataclasses.replace(result, queries=[], renders=0, wall_s=0.0) for result in (a, b)]
    return timeless[0] == timeless[1] and len(a.queries) == len(b.queries)


def copied(state: EpisodeState) -> EpisodeState:
    """Send a state through its serialized form, as into another process, where its arrays are read-only."""
    received = EpisodeState.from_bytes(state.to_bytes())
    received.env.physics.flags.writeable = received.loop.executed.flags.writeable = False
    return received


def point_episode(noise: float = 0.5) -> tuple[Episode, PointPolicy]:
    env = PointEnv(point_task(max_steps=12), RenderSettings("fast", 16, 16))
    policy = PointPolicy(noise=noise)
    spec = make_plan([policy.spec.name], [env.spec], POINTS, 1, 0).episodes[0]
    return Episode(env, spec, policy.spec, Adapter("points", "point"), POINTS), policy


def test_a_metaworld_episode_continues_from_a_saved_query_bit_for_bit_in_another_environment():
    policy = batched(scripted_policy("expert"))
    spec = make_plan(["expert"], [REACH], STICKY, 1, seed=0).episodes[0]
    make = lambda: suite("metaworld").make(REACH.name, RenderSettings("fast", 16, 16))  # noqa: E731
    adapter, first, second = Adapter("metaworld", "any"), make(), make()
    with contextlib.closing(first), contextlib.closing(second):
        whole = finish(play(first, spec, policy.spec, adapter, STICKY), policy)
        episode = Episode(first, spec, policy.spec, adapter, STICKY)
        saved = moments(episode, policy, lambda episode: len(episode.result.queries) == 4)[0]
        rest = finish(play(second, spec, policy.spec, adapter, STICKY, start=copied(saved)), policy)
    assert whole.ended_by == "success"
    assert 0 < saved.loop.steps < whole.steps
    assert same(whole, rest)


def test_an_episode_continues_from_every_pause_also_within_a_chunk():
    episode, policy = point_episode()
    saved = moments(episode, policy)
    whole = episode.result
    assert len(saved) == whole.steps + len(whole.queries)
    for state in saved:
        again, policy = point_episode()
        rest = play(again.env, again.spec, policy.spec, again.adapter, POINTS, start=copied(state))
        assert same(whole, finish(rest, policy))


def test_the_serialized_state_of_a_loop_keeps_all_bits():
    episode, policy = point_episode()
    for state in moments(episode, policy):
        again = LoopState.from_json(state.loop.to_json())
        assert again.executed.tobytes() == state.loop.executed.tobytes()
        assert again.to_json() == state.loop.to_json()


@pytest.mark.parametrize("text", ["", "{}", '{"executed": 3}', "[1]"])
def test_rejects_a_text_that_is_no_state_of_a_loop(text):
    with pytest.raises(StateError, match="Save the episode again"):
        LoopState.from_json(text)
