"""The suite `metaworld` compared with Meta-World itself."""

import dataclasses
import pickle
import subprocess
import sys

import metaworld
import mujoco
import numpy as np
import pytest
from metaworld.types import Task

from simloop.envs import registry
from simloop.envs.interface import CameraError, RenderSettings, SimulationError
from simloop.envs.metaworld.simulation import MetaWorldEnv
from simloop.envs.metaworld.tasks import CAMERAS, GROUPS, MT10, TASKS, UPSIDE_DOWN_CAMERAS

SMALL = RenderSettings("fast", 128, 128)


def make(name: str, render: RenderSettings = SMALL) -> MetaWorldEnv:
    env = registry.suite("metaworld").make(name, render)
    assert isinstance(env, MetaWorldEnv)
    return env


@pytest.fixture(scope="module")
def reach():
    env = make("reach-v3")
    yield env
    env.close()


def own_simulation(name: str, random_vector: np.ndarray) -> metaworld.SawyerXYZEnv:
    """The task as `metaworld.MT1` sets it, with a given random vector."""
    env_class = metaworld.ALL_V3_ENVIRONMENTS[name]
    sim = env_class()
    data = {"rand_vec": random_vector, "env_cls": env_class, "partially_observable": False}
    sim.set_task(Task(env_name=name, data=pickle.dumps(data)))
    return sim


def test_tables_list_the_tasks_of_the_package_in_its_order():
    assert GROUPS["MT50"] == tuple(metaworld.ALL_V3_ENVIRONMENTS) == tuple(spec.name for spec in TASKS)
    assert tuple(metaworld.env_dict.MT10_V3) == MT10


def test_every_task_has_one_difficulty():
    sizes = {group: len(GROUPS[group]) for group in ("easy", "medium", "hard", "very-hard")}
    assert sizes == {"easy": 28, "medium": 11, "hard": 6, "very-hard": 5}
    assert sorted(name for group in sizes for name in GROUPS[group]) == sorted(GROUPS["MT50"])


@pytest.mark.parametrize(
    "name",
    [
        # In the fast set: two that reject vectors, one that moves bodies, one that leaves joints for later.
        pytest.param(name, marks=() if name in FAST else (pytest.mark.slow,))
        for FAST in [("reach-v3", "stick-pull-v3", "drawer-open-v3", "window-close-v3")]
        for name in GROUPS["MT50"]
    ],
)
def test_episodes_equal_those_of_metaworld_given_the_random_vector(name):
    env = make(name)
    env.reset(1)
    env.step(np.ones(4))
    env.reset(0)  # Not the first episode, to detect remains of an earlier one.
    sim = own_simulation(name, env._sim._last_rand_vec.copy())
    observation, _ = sim.reset()
    assert np.array_equal(env.privileged(), observation)
    generator = np.random.Generator(np.random.PCG64(1))
    for _ in range(20):
        action = generator.uniform(-1, 1, 4)
        observation, reward, _, _, info = sim.step(action)
        result = env.step(action)
        assert np.array_equal(env.privileged(), observation)
        assert np.array_equal(env.state(), observation[:4].astype(np.float32))
        assert (result.reward, result.success) == (reward, bool(info["success"]))
    env.close()
    sim.close()


def test_random_vectors_fill_the_ranges_of_the_task(reach):
    drawn = []
    for seed in range(200):
        reach.reset(seed)
        drawn.append(reach._sim._last_rand_vec)
    low, high = reach._sim._random_reset_space.low, reach._sim._random_reset_space.high
    covered = (np.max(drawn, axis=0) - np.min(drawn, axis=0))[low < high] / (high - low)[low < high]
    assert np.all((low <= drawn) & (drawn <= high))
    assert np.all(covered > 0.9)


def test_another_process_starts_the_same_episode(reach):
    program = """
from simloop.envs import registry
from simloop.envs.interface import RenderSettings
env = registry.suite("metaworld").make("reach-v3", RenderSettings("fast", 128, 128))
env.reset(3)
for seen in (env.privileged(), env.snapshot(), env.render("corner2")):
    print(seen.tobytes().hex())
"""
    there = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    reach.reset(3)
    here = [reach.privileged(), reach.snapshot(), reach.render("corner2")]
    assert [bytes.fromhex(seen) for seen in there] == [seen.tobytes() for seen in here]


def test_a_control_step_is_an_80th_of_a_second(reach):
    reach.reset(0)
    assert pytest.approx(1 / reach.spec.control_hz) == reach._sim.dt
    before = reach._sim.data.time
    reach.step(np.zeros(4))
    assert reach._sim.data.time - before == pytest.approx(1 / reach.spec.control_hz)


def test_first_image_shows_the_scene_of_the_first_step():
    env = make("window-close-v3")
    env.reset(0)
    shown = env._sim.data.xpos.copy()
    mujoco.mj_forward(env._sim.model, env._sim.data)
    assert np.allclose(shown, env._sim.data.xpos, atol=1e-12)
    env.close()


def test_cameras_are_complete_and_upside_down_ones_are_known(reach):
    model, data = reach._sim.model, reach._sim.data
    assert {model.camera(i).name for i in range(model.ncam)} == set(CAMERAS)
    up_axes = {name: data.camera(name).xmat.reshape(3, 3)[:, 1] for name in CAMERAS}
    assert {name for name, up in up_axes.items() if up[2] < -0.1} == UPSIDE_DOWN_CAMERAS


@pytest.mark.parametrize("camera", ["corner", "corner2", "corner3", "corner4"])
def test_a_rising_hand_rises_in_the_image(reach, camera):
    def finger_row() -> float:
        image = reach.render(camera).astype(int)
        rows, _ = np.nonzero((image[..., 0] < 60) & (image[..., 1] > 120) & (image[..., 2] > 120))  # Cyan.
        assert len(rows) > 2
        return rows.mean()

    reach.reset(0)
    low = finger_row()
    for _ in range(60):
        reach.step(np.array([0.0, 0.0, 1.0, 0.0]))
    assert finger_row() < low - 2


def test_official_profile_shows_the_same_scene_with_shadows_and_smooth_edges():
    images = {}
    for profile in ("fast", "official"):
        env = make("reach-v3", RenderSettings(profile, 64, 64))
        env.reset(0)
        images[profile] = env.render("corner2").astype(float)
        env.close()
    difference = np.abs(images["fast"] - images["official"]).mean()
    assert 1 < difference < 30


def test_unstable_physics_raises_an_error(reach, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warning to a file in the working directory.
    reach.reset(0)
    reach._sim.data.qvel[:] = np.nan
    with pytest.raises(SimulationError, match="step 1"):
        reach.step(np.zeros(4))
    reach.reset(0)
    reach.step(np.zeros(4))


def test_calls_before_the_first_reset_raise_with_advice():
    env = make("reach-v3")
    for call in (
        env.state,
        env.privileged,
        env.snapshot,
        lambda: env.step(np.zeros(4)),
        lambda: env.render("corner2"),
    ):
        with pytest.raises(RuntimeError, match="call reset"):
            call()
    env.close()


def test_calls_after_close_raise_with_advice():
    env = make("reach-v3")
    env.reset(0)
    env.close()
    for call in (
        env.state,
        lambda: env.reset(0),
        lambda: env.step(np.zeros(4)),
        lambda: env.render("corner2"),
    ):
        with pytest.raises(RuntimeError, match="make a new one"):
            call()


def test_rejects_steps_beyond_the_step_limit(reach):
    reach.reset(0)
    for _ in range(reach.spec.max_steps):
        reach.step(np.zeros(4))
    with pytest.raises(RuntimeError, match="ends after 500 steps"):
        reach.step(np.zeros(4))


def test_a_protocol_puts_the_camera_elsewhere():
    """The image is that of the moved camera, and environments of other settings do not see it."""
    from simloop.harness.planning.protocol import named_protocol

    settings = named_protocol("metaworld", "alam-v1").render
    small = dataclasses.replace(settings, profile="fast", height=64, width=64)
    suite = registry.suite("metaworld")
    moved, plain = (suite.make("reach-v3", each) for each in (small, RenderSettings("fast", 64, 64)))
    for env in (moved, plain):
        env.reset(0)
    view, usual = moved.view("corner4"), plain.view("corner4")
    stands = [-one.extrinsics[:, :3].T @ one.extrinsics[:, 3] for one in (view, usual)]
    np.testing.assert_allclose(stands, [(0.70, 0.075, 0.70), (0.75, 0.075, 0.70)], atol=1e-6)
    np.testing.assert_array_equal(view.extrinsics[:, :3], usual.extrinsics[:, :3])
    before, image = plain.render("corner4"), moved.render("corner4")
    model, position = plain._physics[0], plain._physics[0].camera("corner4").pos
    np.testing.assert_array_equal(plain.render("corner4"), before)
    assert not np.array_equal(image, before)
    position[:] = (0.70, 0.075, 0.70)  # As LeRobot moves cameras: in the model.
    mujoco.mj_camlight(model, plain._physics[1])
    np.testing.assert_array_equal(plain.render("corner4"), image)
    position[:] = (0.75, 0.075, 0.70)
    with pytest.raises(CameraError, match="got 'table'"):
        suite.make("reach-v3", dataclasses.replace(small, camera_positions=(("table", (0.0, 0.0, 0.0)),)))
    moved.close()
    plain.close()
