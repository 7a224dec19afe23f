"""Environments of robosuite 1.5 with the settings of robomimic's datasets. Needs nothing of simloop but this file.

Importing it needs neither robosuite nor MuJoCo; `make` does.

Reference: A. Mandlekar et al., What Matters in Learning from Offline Human Demonstrations for Robot Manipulation
(2021), arXiv:2108.03298.
"""

import logging
import os

import numpy as np

ARM_STATE = (
    "hand_x_m",
    "hand_y_m",
    "hand_z_m",
    "hand_qx",
    "hand_qy",
    "hand_qz",
    "hand_qw",
    "finger_1_m",
    "finger_2_m",
)
"""robomimic's proprioception: position and quaternion (scalar part last) of the hand in the world, both fingers."""
ARM_ACTION = ("dx_5cm", "dy_5cm", "dz_5cm", "drx_half_rad", "dry_half_rad", "drz_half_rad", "gripper_closing")
"""Displacement of the hand's target in axes of the world, by up to 5 cm and 0.5 rad; -1 opens the gripper, 1 closes."""
ONE_ARM = ["agentview", "robot0_eye_in_hand"]
FROM_THE_SIDE = ["sideview", "robot0_eye_in_hand", "agentview"]
TWO_ARMS = ["shouldercamera0", "robot0_eye_in_hand", "shouldercamera1", "robot1_eye_in_hand", "agentview"]


def _task(instruction, max_steps, cameras=ONE_ARM, arms=1, expert=False):
    prefixes = [""] if arms == 1 else [f"arm_{i}_" for i in range(arms)]
    return {
        "instruction": instruction,
        "max_steps": max_steps,
        "control_hz": 20.0,
        "cameras": cameras,
        "state_names": [prefix + name for prefix in prefixes for name in ARM_STATE],
        "action_names": [prefix + name for prefix in prefixes for name in ARM_ACTION],
        "action_low": [-1.0] * 7 * arms,
        "action_high": [1.0] * 7 * arms,
        "action_kinds": (["displacement"] * 6 + ["gripper"]) * arms,
        "privileged_size": 7 if expert else 0,  # The action of an expert.
    }


TASKS = {
    "Lift": _task("lift the cube", 400, expert=True),
    "Can": _task("pick up the can and place it in its bin", 400, expert=True),
    "Square": _task("place the square nut on the square peg", 400),
    "ToolHang": _task("insert the hook into the stand and hang the tool on it", 700, FROM_THE_SIDE),
    "Transport": _task("move the hammer to the other bin and clear the trash", 700, TWO_ARMS, arms=2),
}
CLASSES = {"Can": "PickPlaceCan", "Square": "NutAssemblySquare", "Transport": "TwoArmTransport"}


class SimulationError(Exception):
    """Unstable physics."""


def make(task, height, width, profile):
    """Make an environment; images have multisampling and shadows in the profile `official`."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    os.environ.setdefault("PYOPENGL_PLATFORM", os.environ["MUJOCO_GL"])
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa's threads cost more processor time than they save.
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
    return Robomimic(task, height, width, profile)


class Robomimic:
    """One task. Its model is compiled once: what robosuite draws for it, such as a cube's size, is that of seed 0."""

    def __init__(self, task, height, width, profile):
        import robosuite
        from robosuite.controllers import load_composite_controller_config

        arms = len(TASKS[task]["action_names"]) // 7
        controller = load_composite_controller_config(controller="BASIC", robot="Panda")
        for part in controller["body_parts"].values():
            if part["type"] == "OSC_POSE":
                part["input_ref_frame"] = "world"  # As in the versions that the datasets were recorded with.
        several = {"env_configuration": "opposed"} if arms == 2 else {}
        self._env = robosuite.make(
            CLASSES.get(task, task),
            robots=["Panda"] * arms,
            controller_configs=[controller] * arms if arms > 1 else controller,
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            reward_shaping=False,
            control_freq=20,
            ignore_done=True,
            hard_reset=False,  # A hard reset compiles the model again, in seconds, and leaks the last one.
            seed=0,
            **several,
        )
        self._task, self._arms = task, arms
        self._size, self._profile = (height, width), profile
        self._renderer = None
        self._seen = {}
        self._env.reset()
        self._env.step(
            np.zeros(7 * arms)
        )  # Compiles robosuite's functions, in seconds, where that is expected.

    def reset(self, seed):
        """Reset with the random numbers of a seed."""
        # Samplers of places keep the generator of the constructor: it is set to the seed, not replaced.
        self._env.rng.bit_generator.state = np.random.PCG64(seed).state
        self._seen = self._env.reset()
        self._check_physics()

    def step(self, action):
        """Advance a control step; the reward is 1 for success and 0 otherwise."""
        self._seen, reward, _, _ = self._env.step(action)
        self._check_physics()
        return float(reward), bool(self._env._check_success())

    def _check_physics(self):
        import mujoco

        kinds = (
            mujoco.mjtWarning.mjWARN_BADQPOS,
            mujoco.mjtWarning.mjWARN_BADQVEL,
            mujoco.mjtWarning.mjWARN_BADQACC,
        )
        if any(self._env.sim.data._data.warning[kind].number for kind in kinds):
            raise SimulationError(f"{self._task}: the physics became unstable (NaN, infinite or huge state)")

    def state(self):
        """Hands and fingers as `ARM_STATE` says."""
        parts = ("eef_pos", "eef_quat", "gripper_qpos")
        return np.concatenate(
            [self._seen[f"robot{arm}_{part}"] for arm in range(self._arms) for part in parts]
        )

    def snapshot(self):
        """The integration state of MuJoCo."""
        import mujoco

        model, data = self._env.sim.model._model, self._env.sim.data._data
        state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        return state

    def render(self, camera):
        """Image of a camera. robosuite's own renderer would compute the physics anew when it is made."""
        import mujoco

        model, data = self._env.sim.model._model, self._env.sim.data._data
        if self._renderer is None:
            model.vis.global_.offheight, model.vis.global_.offwidth = self._size
            if self._profile == "fast":
                model.vis.quality.offsamples = model.vis.quality.shadowsize = 0
            self._renderer = mujoco.Renderer(model, *self._size)
            self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = self._profile != "fast"
            self._option = mujoco.MjvOption()
            self._option.geomgroup[0] = 0  # Collision shapes.
        self._renderer.update_scene(data, camera, self._option)
        return self._renderer.render()

    def privileged(self):
        """The action of a scripted expert; nothing for tasks without one."""
        experts = {"Lift": self._lift, "Can": self._can}
        return experts[self._task]() if self._task in experts else np.zeros(0)

    def _lift(self):
        """Lift the cube."""
        if self._holds(self._env.cube):
            return _towards(np.array([0.0, 0.0, 0.1]), closed=True)
        return self._grasp(self._seen["cube_pos"])

    def _can(self):
        """Carry the can over the walls to its bin, and drop it there."""
        can, hand = self._seen["Can_pos"], self._seen["robot0_eef_pos"]
        index = self._env.object_to_id["can"]
        target = self._env.target_bin_placements[index]
        over_bin = bool(np.all(np.abs(can[:2] - target[:2]) < 0.03))
        if not self._holds(self._env.objects[index]):
            return _towards(np.array([0.0, 0.0, 0.2]), closed=False) if over_bin else self._grasp(can)
        if over_bin:
            return _towards(np.zeros(3), closed=False)
        carried_m = target[2] + 0.25
        move = np.array([*(target[:2] - can[:2]), carried_m - hand[2]])
        if hand[2] < carried_m - 0.05:
            move[:2] = 0.0
        return _towards(move, closed=True)

    def _grasp(self, place):
        """Go above a thing, down with open fingers, and close them."""
        to_thing = place - self._seen["robot0_eef_pos"]
        if np.linalg.norm(to_thing[:2]) > 0.015:
            return _towards(to_thing + np.array([0.0, 0.0, 0.08]), closed=False)
        return _towards(to_thing, closed=abs(to_thing[2]) < 0.015)

    def _holds(self, thing):
        return self._env._check_grasp(gripper=self._env.robots[0].gripper, object_geoms=thing)

    def close(self):
        """Free the GL context."""
        if self._renderer is not None:
            self._renderer.close()


def _towards(move_m, closed):
    """The action that moves the hand by a vector in axes of the world."""
    return np.array([*np.clip(10.0 * move_m, -1, 1), 0.0, 0.0, 0.0, 1.0 if closed else -1.0])
