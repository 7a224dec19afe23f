"""Variants of LIBERO-plus in simulation, compared with LIBERO's own environment and with LIBERO-plus's formulas."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from simloop.envs import registry
from simloop.envs.interface import RenderSettings
from simloop.envs.libero.tasks import GROUP_OF_TASK, GROUPS, LIBERO_GOAL, LIBERO_OBJECT
from simloop.envs.libero_plus import paraphrases
from simloop.envs.libero_plus.variants import GROUPS_VARIED, Variant, View, posture, published_variants

pytest.importorskip("libero", reason="Run scripts/setup libero.")

SMALL = RenderSettings("fast", 64, 64)
VIEWS = sorted({one.view for variants in published_variants().values() for one in variants})


def published_pose(position, rotation, view):
    """Pose of the camera by the steps of LIBERO-plus, in matrices, rounded to four decimals after each."""

    def about(axis, degrees):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        matrices = {"z": [[c, -s, 0], [s, c, 0], [0, 0, 1]], "y": [[c, 0, -s], [0, 1, 0], [s, 0, c]]}
        return np.array(matrices[axis])

    def rounded(place, matrix):
        quat = [round(x, 4) for x in Rotation.from_matrix(matrix).as_quat().tolist()]
        return np.array([round(x, 4) for x in place.tolist()]), Rotation.from_quat(quat).as_matrix()

    pivot = np.array([0, 0, 0.8])
    pose = position, rotation.as_matrix()
    if view.tilt_deg:
        turn = about("y", view.tilt_deg)
        pose = rounded(pivot + turn @ (pose[0] - pivot), turn @ pose[1])
    turn = about("z", view.turn_deg)
    pose = rounded(turn @ pose[0], turn @ pose[1])
    if view.distance_percent != 100:
        pose = rounded(pivot + view.distance_percent / 100 * (pose[0] - pivot), pose[1])
    if view.yaw_deg:
        pose = rounded(pose[0], about("z", view.yaw_deg) @ pose[1])
    if view.pitch_deg:
        pose = rounded(pose[0], about("y", view.pitch_deg) @ pose[1])
    return pose


def test_cameras_are_displaced_by_the_published_formulas():
    from simloop.envs.libero_plus.simulation import displaced

    position = np.array([0.6586131746834771, 0.0, 1.6103500240372423])
    rotation = Rotation.from_quat([0.3048497438, 0.3048498631, 0.6380177736, 0.6380177736])
    assert len(VIEWS) == 451
    for view in VIEWS:
        place, turned = displaced(position, rotation, view)
        wanted = published_pose(position, rotation, view)
        # The order in which products are summed decides about the fourth decimal where it is a tie.
        assert abs(place - wanted[0]).max() < 1.01e-4
        assert abs(turned.as_matrix() - wanted[1]).max() < 3e-4


@pytest.mark.slow
def test_a_camera_is_moved_back_for_images_alone():
    suite = registry.suite("libero_plus")
    task = LIBERO_GOAL[5]
    env = suite.make(Variant(task, View(distance_percent=155)).name, SMALL)
    env.reset(0)
    before = env.save().to_bytes()
    turned = env.view("agentview").extrinsics
    place = -turned[:, :3].T @ turned[:, 3]
    env.render("agentview")
    assert env.save().to_bytes() == before
    usual = env._sim.mujoco_model.camera("agentview").pos
    pivot = np.array([0, 0, 0.8])
    np.testing.assert_allclose(place, pivot + 1.55 * (usual - pivot), atol=1e-4)
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize(("task", "number"), [(LIBERO_GOAL[0], 457), (LIBERO_OBJECT[0], 12)])
def test_another_posture_moves_the_arm_as_a_robot_of_that_posture_in_libero_does(task, number):
    import libero.libero.envs as libero_envs
    import mujoco
    from libero.libero.envs import robots
    from robosuite.robots import ROBOT_CLASS_MAPPING
    from robosuite.robots.single_arm import SingleArm

    from simloop.envs.libero.package import BDDL_FILES
    from simloop.envs.libero_plus.simulation import LiberoPlusEnv
    from simloop.envs.libero_plus.tasks import instructions, libero_task

    for usual in (robots.MountedPanda, robots.OnTheGroundPanda):
        made = type(f"{usual.__name__}{number}", (usual,), {"init_qpos": property(lambda _: posture(number))})
        ROBOT_CLASS_MAPPING[made.__name__] = SingleArm
    one, group = Variant(task, posture=number), GROUP_OF_TASK[task]
    env = LiberoPlusEnv(libero_task("libero_plus", one.name, group, instructions(one, None)), SMALL)
    env.reset(3)
    original = libero_envs.OffScreenRenderEnv(
        bddl_file_name=str(BDDL_FILES / group / f"{task}.bddl"), robots=[f"Panda{number}"]
    )
    original.seed(7)
    original.env.reset()
    original.set_init_state(env._initial_states[3])
    actions = np.random.default_rng(0).uniform(-1, 1, (12, 7))
    for action in (*[[0] * 6 + [-1]] * 10, *actions):
        original.step(action)
    for action in actions:
        env.step(action)
    model, data = original.sim.model._model, original.sim.data._data
    theirs = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
    mujoco.mj_getState(model, data, theirs, mujoco.mjtState.mjSTATE_INTEGRATION)
    np.testing.assert_array_equal(env.snapshot(), theirs)
    env.close()
    original.close()


def test_noise_is_that_of_seed_and_step_and_leaves_the_wrist_camera_alone():
    from simloop.envs.libero.simulation import LiberoEnv

    noisy = published_variants()["libero_goal", "noise"]
    one = next(one for one in noisy if one.task == LIBERO_GOAL[5] and one.noise > 30)
    env = registry.suite("libero_plus").make(one.name, SMALL)

    def images(seed):
        env.reset(seed)
        first = env.render("agentview")
        env.step(np.zeros(7))
        return first, env.render("agentview")

    disturbed, again, other = images(0), images(0), images(1)
    assert all(map(np.array_equal, disturbed, again))
    assert not np.array_equal(disturbed[0], other[0])
    clean = LiberoEnv.render(env, "agentview")
    assert abs(env.render("agentview").astype(int) - clean).mean() > 2
    assert np.array_equal(env.render("robot0_eye_in_hand"), LiberoEnv.render(env, "robot0_eye_in_hand"))
    env.close()


class NoCode(pickle.Unpickler):
    """Reads arrays and refuses everything else."""

    allowed = (
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    )

    def find_class(self, module, name):
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array.")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


@pytest.mark.slow
def test_initial_states_of_the_variants_are_those_of_libero():
    from simloop.envs.libero.initial_states import initial_states

    if paraphrases.folder() is None:
        pytest.skip(f"Install {paraphrases.WHERE}.")
    for group in GROUPS_VARIED:
        for task in GROUPS[group]:
            file = paraphrases.folder() / "init_files" / group / f"{task}.pruned_init"
            with zipfile.ZipFile(file) as archive:
                (name,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
                states = NoCode(io.BytesIO(archive.read(name))).load()
            np.testing.assert_array_equal(states, initial_states(task))
