"""Episodes continue from saved states bit for bit, in any environment of the task and in any process."""

import contextlib
import dataclasses
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from simloop.envs import registry
from simloop.envs.env_state import EnvState, StateError
from simloop.envs.interface import Env, RenderSettings, TaskSpec
from tests.helpers.fast_tasks import every_task

STEPS = 30  # Before and after the state is saved.
IMAGES = RenderSettings("fast", 48, 64)


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Iterator:
    envs: list[Env] = []

    def make(task: TaskSpec) -> Env:
        envs.append(registry.suite(task.suite).make(task.name, IMAGES))
        return envs[-1]

    yield make
    for env in envs:
        env.close()


def some_actions(spec: TaskSpec, seed: int) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64(seed))
    return 0.8 * generator.uniform(spec.action_low, spec.action_high, (STEPS, spec.action_size))


def observe(env: Env, *, images: bool = False) -> list[np.ndarray]:
    seen = [env.snapshot(), env.state(), env.privileged()]
    return seen + [env.render(camera) for camera in env.spec.cameras[:2] if images]


def play(env: Env, seed: int) -> list[np.ndarray]:
    """Everything that can be observed of some steps, with images at the start and at the end."""
    seen = observe(env, images=True)
    for action in some_actions(env.spec, seed):
        result = env.step(action)
        seen += [np.array([result.reward, result.success]), *observe(env)]
    return seen + observe(env, images=True)


def restore_and_play(content: bytes) -> list[np.ndarray]:
    """Continue from a saved state in an environment that was never reset."""
    state = EnvState.from_bytes(content)
    with contextlib.closing(registry.suite(state.suite).make(state.task, IMAGES)) as env:
        env.restore(state)
        return play(env, seed=2)


@pytest.fixture(scope="module")
def other_process() -> Iterator[ProcessPoolExecutor]:
    """A process that has simulated none of the episodes that it is to continue."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        yield process


def equal(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


@pytest.mark.parametrize("task", every_task())
def test_an_episode_continues_from_a_saved_state_bit_for_bit(make, other_process, task: TaskSpec):
    env = make(task)
    env.reset(1)
    play(env, seed=1)
    saved = EnvState.from_bytes(env.save().to_bytes())
    continued = play(env, seed=2)

    env.reset(2)
    play(env, seed=3)
    env.restore(saved)
    assert env.save() == saved
    assert equal(play(env, seed=2), continued)

    assert equal(other_process.submit(restore_and_play, saved.to_bytes()).result(), continued)


@pytest.mark.parametrize("task", [task for task in every_task() if not task.marks])
def test_restores_the_start_of_an_episode(make, task: TaskSpec):
    env = make(task)
    env.reset(1)
    saved = env.save()
    continued = play(env, seed=2)
    env.restore(saved)
    assert equal(play(env, seed=2), continued)


@pytest.mark.parametrize("task", every_task())
def test_a_reset_gives_the_same_state_whatever_was_simulated_before(make, task: TaskSpec):
    env = make(task)
    env.reset(1)
    fresh = env.save()
    env.reset(2)
    for action in some_actions(env.spec, seed=1)[:2]:
        env.step(action)
    env.reset(1)
    assert env.save() == fresh


@pytest.fixture(scope="module")
def reach() -> Iterator[Env]:
    env = registry.suite("metaworld").make("reach-v3", IMAGES)
    env.reset(1)
    yield env
    env.close()


def test_a_saved_state_is_independent_of_later_steps(reach: Env):
    reach.reset(1)
    saved = reach.save()
    content = saved.to_bytes()
    play(reach, seed=1)
    reach.restore(saved)
    play(reach, seed=1)
    assert saved.to_bytes() == content


def test_bytes_keep_content_types_and_digest(reach: Env):
    saved = reach.save()
    read = EnvState.from_bytes(saved.to_bytes())
    assert read == saved
    assert hash(read) == hash(saved)
    assert read.to_bytes() == saved.to_bytes()
    assert {name: type(value) for name, value in read.values.items()} == {
        name: type(value) for name, value in saved.values.items()
    }
    assert dataclasses.replace(saved, steps=saved.steps + 1) != saved


def test_restoring_counts_the_steps_of_the_saved_episode(reach: Env):
    reach.reset(1)
    for _ in range(reach.spec.max_steps - 1):
        reach.step(np.zeros(4))
    saved = reach.save()
    reach.reset(2)
    reach.restore(saved)
    reach.step(np.zeros(4))
    with pytest.raises(RuntimeError, match="ends after 500 steps"):
        reach.step(np.zeros(4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suite": "libero"}, r"states of its own task; got one of libero/reach-v3\. Make an environment"),
        ({"task": "push-v3"}, r"got one of metaworld/push-v3\. Make an environment"),
        ({"version": "mujoco 9"}, r"runs with .*mujoco 3.* saved with mujoco 9.* Install those versions"),
    ],
)
def test_refuses_a_state_of_another_suite_task_or_version(reach: Env, change: dict[str, str], message: str):
    reach.reset(1)
    before = reach.save()
    with pytest.raises(StateError, match=message):
        reach.restore(dataclasses.replace(before, **change))
    assert reach.save() == before


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-200], lambda content: b"", lambda content: b"{}"]
)
def test_refuses_damaged_bytes(reach: Env, damage):
    with pytest.raises(StateError, match=r"cannot be read .* Save the state again"):
        EnvState.from_bytes(damage(reach.save().to_bytes()))


def test_saving_needs_a_scene_and_restoring_an_open_environment(make, reach: Env):
    env = make(reach.spec)
    with pytest.raises(RuntimeError, match="call reset"):
        env.save()
    env.close()
    with pytest.raises(RuntimeError, match="make a new one"):
        env.restore(reach.save())
