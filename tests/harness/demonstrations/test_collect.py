"""Demonstrations: which attempts are made, what is recorded of them, and what evaluation does with their seeds."""

import asyncio
import dataclasses
import functools

import numpy as np
import pytest

from simloop.envs.interface import RenderSettings
from simloop.harness.actors.env_actor import EnvActor, EpisodeResult
from simloop.harness.actors.factories import Factories
from simloop.harness.adapters.base import AdapterError
from simloop.harness.demonstrations.collect import CollectError, Collection, _next_round, _Parts
from simloop.harness.demonstrations.expert import DEMONSTRATION, EXPERT, DemonstrationRecorder, Demonstrator
from simloop.harness.planning.seeding import demonstration_seed, episode_seed
from simloop.harness.rollout.result import RolloutResult
from simloop.policies.interface import Query, batched
from simloop.policies.scripted import scripted_policy
from simloop.policies.training.dataset_reader import open_dataset
from simloop.policies.training.dataset_writer import DatasetHeader, write_dataset
from simloop.policies.training.demonstration import demonstration_from

TASK = "drawer-close-v3"


def collection(**changes) -> Collection:
    return dataclasses.replace(Collection("metaworld", (TASK,), 2, image_size=32), **changes)


def recorded(chosen: Collection, number: int = 0) -> EpisodeResult:
    """One attempt, played in this process."""
    settings = chosen.settings()
    (task,) = chosen.task_specs()
    policy = settings.spec(task)
    sources = Factories(
        policy=lambda name: batched(Demonstrator(policy, chosen.noise)),
        recorder=functools.partial(DemonstrationRecorder, settings=settings),
    )

    async def play() -> EpisodeResult:
        actor = EnvActor(chosen.protocol(), None, sources)
        await actor.meet(chosen.attempt(task, number).policy, policy)
        return await actor.play(chosen.attempt(task, number))

    result = asyncio.run(play())
    assert result.error == ""
    return result


@pytest.fixture(scope="module")
def disturbed() -> EpisodeResult:
    return recorded(collection(noise=0.2, render=RenderSettings("fast", 48, 48)))


def test_records_an_episode_step_by_step(disturbed, tmp_path):
    demonstration = demonstration_from(disturbed.attachments["demonstration"])
    assert demonstration.success
    assert demonstration.length == disturbed.played.steps
    assert demonstration.seed == demonstration_seed(0, "metaworld", TASK, 0)
    assert demonstration.instruction == "Push and close a drawer"
    header = DatasetHeader(
        "metaworld",
        80,
        ("x", "y", "z", "g"),
        ("a", "b", "c", "d"),
        ("base_0_rgb", "left_wrist_0_rgb"),
        (32, 32),
        environment_size=39,
    )
    write_dataset(tmp_path / "data", header, [demonstration])
    dataset = open_dataset(tmp_path / "data")
    pictures = dict(dataset.images("observation.images.base_0_rgb"))
    assert len(pictures) == demonstration.length
    assert 30 < np.mean(pictures[0]) < 220
    assert np.ptp(dataset.states[:, :3], axis=0).max() > 0.05, "the hand moves, in metres"
    np.testing.assert_array_equal(dataset.environment_states[:, :4], dataset.states)
    assert np.ptp(dataset.environment_states[:, 4:7], axis=0).max() > 0.01, "and the drawer"


def test_records_the_actions_of_the_expert_without_noise(disturbed):
    clean = recorded(collection(render=RenderSettings("fast", 48, 48)))
    first, undisturbed = (
        demonstration_from(disturbed.attachments["demonstration"]),
        demonstration_from(clean.attachments["demonstration"]),
    )
    np.testing.assert_array_equal(first.states[0], undisturbed.states[0])
    np.testing.assert_array_equal(first.actions[0], undisturbed.actions[0])
    assert np.abs(first.states[5] - undisturbed.states[5]).max() > 1e-4
    assert disturbed.played.actions_sha256 != clean.played.actions_sha256


def test_noise_depends_on_the_query_alone_and_stays_in_bounds():
    settings = collection(noise=0.5).settings()
    (task,) = collection().task_specs()
    policy = Demonstrator(settings.spec(task), 0.5)
    queries = [
        Query(
            task=TASK,
            instruction="",
            key=key,
            state=np.zeros(4, np.float32),
            privileged=np.full(39, 0.3),
            action_low=np.full(4, -1.0),
            action_high=np.full(4, 1.0),
        )
        for key in range(200)
    ]
    actions = np.stack([chunk.actions[0] for chunk in policy.infer(queries)])
    again = policy.infer(queries[5:6])[0].actions[0]
    np.testing.assert_array_equal(actions[5], again)
    expert = scripted_policy(EXPERT).act(queries[0])
    free = np.abs(expert) < 0.2
    assert np.abs(actions).max() <= 1.0
    assert free.any()
    assert np.std(actions[:, free], axis=0) == pytest.approx(0.5, rel=0.25)


def test_rounds_replace_failures_in_any_order(tmp_path):
    chosen = collection(episodes=3)
    tasks = {task.name: task for task in chosen.task_specs()}
    parts = _Parts(tmp_path / "parts", chosen)

    def finish(spec, success: bool) -> None:
        ended_by = "success" if success else "step_limit"
        parts.add(
            spec,
            EpisodeResult(spec, RolloutResult(ended_by=ended_by), attachments={DEMONSTRATION: b"something"}),
        )

    first = _next_round(chosen, tasks, parts)
    assert [spec.episode for spec in first] == [0, 1, 2]
    finish(first[2], True)
    finish(first[0], False)
    resumed = _Parts(tmp_path / "parts", chosen)
    assert [spec.episode for spec in _next_round(chosen, tasks, resumed)] == [1]
    finish(first[1], True)
    second = _next_round(chosen, tasks, parts)
    assert [spec.episode for spec in second] == [3]
    finish(second[0], True)
    assert _next_round(chosen, tasks, parts) == []
    assert parts.useful() == 3


def test_rejects_an_expert_that_keeps_failing(tmp_path):
    chosen = collection(episodes=1, noise=3.0)
    tasks = {task.name: task for task in chosen.task_specs()}
    parts = _Parts(tmp_path / "parts", chosen)
    for number in range(4):
        (spec,) = _next_round(chosen, tasks, parts)
        assert spec.episode == number
        parts.add(spec, EpisodeResult(spec, RolloutResult()))
    with pytest.raises(CollectError, match=r"succeeded in 0 of 4 attempts.*Lower --noise \(now 3\)"):
        _next_round(chosen, tasks, parts)


def test_parts_belong_to_one_collection(tmp_path):
    _Parts(tmp_path / "parts", collection())
    with pytest.raises(CollectError, match=r"another collection: noise: 0.0 -> 0.1"):
        _Parts(tmp_path / "parts", collection(noise=0.1))


def test_rejects_invalid_collections():
    with pytest.raises(CollectError, match="must be even"):
        collection(image_size=33)
    with pytest.raises(AdapterError, match="'nose_rgb'"):
        collection(cameras=("nose_rgb",)).settings()
    with pytest.raises(AdapterError, match="'lamp'"):
        collection(robot="lamp").settings()
    tasks = ("PickCube-v1", "PushCube-v1")  # The state of the first has a goal.
    with pytest.raises(
        CollectError, match="states of one size; the tasks have PickCube-v1 20, PushCube-v1 16"
    ):
        Collection("maniskill", tasks, episodes=1, robot="maniskill").settings()


def test_seeds_of_demonstrations_and_runs_are_disjoint():
    learnt = {demonstration_seed(0, "metaworld", TASK, i) for i in range(2000)}
    tested = {episode_seed(0, "metaworld", TASK, i) for i in range(2000)}
    assert not learnt & tested
