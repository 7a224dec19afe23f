"""SimplerEnv's four WidowX tasks on BridgeData V2, as ManiSkill 3 has them. Needs nothing of simloop but this file.

Reference: X. Li et al., Evaluating Real-World Robot Manipulation Policies in Simulation (2024), arXiv:2405.05941.
"""

import importlib

import numpy as np

JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
STATE = [
    *(f"{joint}_rad" for joint in JOINTS),
    "finger_1_m",
    "finger_2_m",
    *(f"hand_{axis}_m" for axis in "xyz"),
    *(f"hand_q{axis}" for axis in "wxyz"),
]
"""Joints of the arm, its fingers, position and quaternion (scalar part first) between the fingers, in the world."""
CAMERA = "3rd_view_camera"
HEIGHT, WIDTH = 480, 640  # Of the camera whose picture of the real scene lies behind the robot.


def _task(instruction, states=24, max_steps=60):
    turn = np.pi / 2
    return {
        "instruction": instruction,
        "max_steps": max_steps,
        "control_hz": 5.0,
        "cameras": [CAMERA],
        "state_names": STATE,
        "action_names": ["dx_m", "dy_m", "dz_m", "drx_rad", "dry_rad", "drz_rad", "gripper_opening"],
        "action_low": [-1.0] * 3 + [-turn] * 3 + [-1.0],
        "action_high": [1.0] * 3 + [turn] * 3 + [1.0],
        "action_kinds": ["displacement"] * 6 + ["gripper"],
        "initial_states": states,
    }


TASKS = {
    "PutCarrotOnPlateInScene-v1": _task("put carrot on plate"),
    "PutEggplantInBasketScene-v1": _task("put eggplant into yellow basket", 64, 120),
    "StackGreenCubeOnYellowCubeBakedTexInScene-v1": _task("stack the green block on the yellow block"),
    "PutSpoonOnTableClothInScene-v1": _task("put the spoon on the towel"),
}


def make(task, height, width, profile):
    """Make an environment. Both profiles show the official images, scaled to the size that is asked for."""
    importlib.import_module("on_cpus").prepare()  # Of the file beside this one.
    return Bridge(task, height, width)


class Bridge:
    """One task with displacements of the hand's target."""

    def __init__(self, task, height, width):
        import gymnasium

        self._states, self._size = TASKS[task]["initial_states"], (height, width)
        self._env = gymnasium.make(
            task, obs_mode="rgb+segmentation", sim_backend="physx_cpu", render_backend="sapien_cpu"
        ).unwrapped
        self._info = {}

    def reset(self, seed):
        """Start from the recorded places of the things of the seed, in a scene that is built anew."""
        self._env.reset(seed=0, options={"reconfigure": True, "episode_id": seed % self._states})
        self._info = self._env.evaluate()

    def step(self, action):
        """Advance a control step without an image; the reward is 1 for success and 0 otherwise."""
        self._env._step_action(np.float32(action))
        self._info = self._env.evaluate()
        success = bool(self._info["success"])
        return float(success), success

    def state(self):
        """Joints and hand as `STATE` says."""
        agent = self._env.agent
        hand = agent.robot.links_map["ee_gripper_link"].pose.raw_pose[0]
        return np.concatenate(
            [np.ravel(np.asarray(part, np.float32)) for part in (agent.robot.get_qpos(), hand)]
        )

    def snapshot(self):
        """Poses and velocities of everything, and the targets of the controller."""
        return np.asarray(self._env.get_state()[0], np.float64)

    def render(self, camera):
        """The scene before the photograph of the real one."""
        from PIL import Image

        seen = self._env.get_obs(self._info)["sensor_data"][camera]["rgb"][0]
        image, (height, width) = np.asarray(seen, np.uint8), self._size
        if image.shape[:2] != (height, width):
            image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
        return np.ascontiguousarray(image)
