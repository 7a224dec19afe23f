"""Environments of RoboCasa365 with the robot and cameras of its leaderboard. Needs nothing of simloop but this file.

Reference: S. Nasiriany et al., RoboCasa365 (2026), robocasa.ai.
"""

import logging
import os
import re

import numpy as np

CAMERAS = ["robot0_agentview_left", "robot0_eye_in_hand", "robot0_agentview_right"]
SEEN = {
    "robot0_gripper_qpos": 2,
    "robot0_base_pos": 3,
    "robot0_base_quat": 4,
    "robot0_base_to_eef_pos": 3,
    "robot0_base_to_eef_quat": 4,
}
"""Observations of robosuite that are the state, 16 numbers in the order of RoboCasa's wrapper."""
ACTION = ("hand_dx", "hand_dy", "hand_dz", "hand_drx", "hand_dry", "hand_drz", "gripper_closing")
BASE = ("base_forward", "base_left", "base_turn", "torso_up", "base_mode")
"""Below 0 the mode moves the arm, above it the base, as in RoboCasa's wrapper at 0.5 of 0 to 1."""
HORIZONS = {
    "atomic_seen": {
        "CloseBlenderLid": 900,
        "CloseFridge": 900,
        "CloseToasterOvenDoor": 450,
        "CoffeeSetupMug": 600,
        "NavigateKitchen": 450,
        "OpenCabinet": 1050,
        "OpenDrawer": 750,
        "OpenStandMixerHead": 450,
        "PickPlaceCounterToCabinet": 750,
        "PickPlaceCounterToStove": 600,
        "PickPlaceDrawerToCounter": 750,
        "PickPlaceSinkToCounter": 900,
        "PickPlaceToasterToCounter": 600,
        "SlideDishwasherRack": 450,
        "TurnOffStove": 750,
        "TurnOnElectricKettle": 450,
        "TurnOnMicrowave": 450,
        "TurnOnSinkFaucet": 600,
    },
    "composite_seen": {
        "DeliverStraw": 2550,
        "GetToastedBread": 3000,
        "KettleBoiling": 1500,
        "LoadDishwasher": 1800,
        "PackIdenticalLunches": 3900,
        "PreSoakPan": 2400,
        "PrepareCoffee": 1800,
        "RinseSinkBasin": 1350,
        "ScrubCuttingBoard": 1200,
        "SearingMeat": 4350,
        "SetUpCuttingStation": 2400,
        "StackBowlsCabinet": 2100,
        "SteamInMicrowave": 2100,
        "StirVegetables": 2400,
        "StoreLeftoversInBowl": 2550,
        "WashLettuce": 1650,
    },
    "composite_unseen": {
        "ArrangeBreadBasket": 4350,
        "ArrangeTea": 2250,
        "BreadSelection": 1950,
        "CategorizeCondiments": 1650,
        "CuttingToolSelection": 1200,
        "GarnishPancake": 2700,
        "GatherTableware": 2250,
        "HeatKebabSandwich": 2700,
        "MakeIceLemonade": 3000,
        "PanTransfer": 1800,
        "PortionHotDogs": 2250,
        "RecycleBottlesByType": 2850,
        "SeparateFreezerRack": 2400,
        "WaffleReheat": 4050,
        "WashFruitColander": 3150,
        "WeighIngredients": 3000,
    },
}
"""Target tasks of the leaderboard in their three groups, with the steps of version 1.0.1."""


def _in_words(name):
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower()


TASKS = {
    name: {
        "instruction": _in_words(name),  # Every episode has a sentence of its own.
        "max_steps": steps,
        "control_hz": 20.0,
        "cameras": CAMERAS,
        "state_names": [
            f"{seen.removeprefix('robot0_')}_{i}" for seen, size in SEEN.items() for i in range(size)
        ],
        "action_names": [*ACTION, *BASE],
        "action_low": [-1.0] * 12,
        "action_high": [1.0] * 12,
        "action_kinds": ["displacement"] * 6 + ["gripper"] + ["displacement"] * 4 + ["target"],
    }
    for tasks in HORIZONS.values()
    for name, steps in tasks.items()
}


def make(task, height, width, profile):
    """Make an environment; both profiles have robosuite's images."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    os.environ.setdefault("PYOPENGL_PLATFORM", os.environ["MUJOCO_GL"])
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa's threads cost more processor time than they save.
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
    return Kitchen(task, height, width)


class Kitchen:
    """One task. Each episode is another kitchen, which robosuite compiles anew."""

    def __init__(self, task, height, width):
        self._task, self._size = task, (height, width)
        self._env, self._seen = None, {}

    def reset(self, seed):
        """Build the kitchen of a seed, which RoboCasa draws from the constructor's seed."""
        from robocasa.utils.env_utils import create_env

        self.close()
        height, width = self._size
        self._env = create_env(
            self._task,
            camera_names=CAMERAS,
            camera_heights=height,
            camera_widths=width,
            seed=seed % 2**32,
            split="target",
        )
        self._seen = self._env.reset()

    def instruction(self):
        """The sentence of the episode, which names its things and places."""
        return self._env.get_ep_meta()["lang"].strip()

    def step(self, action):
        """Advance a control step; the reward is 1 for success and 0 otherwise."""
        parts = {
            "right": action[:6],
            "right_gripper": np.sign(action[6]),
            "base": action[7:10],
            "torso": action[10:11],
        }
        controller = self._env.robots[0].composite_controller
        whole = np.zeros(controller.action_limits[0].shape)
        for name in controller.part_controllers:
            first, end = controller._action_split_indexes[name]
            whole[first:end] = parts[name]
        whole[-1] = 1.0 if action[11] > 0 else -1.0
        self._seen, _, _, _ = self._env.step(whole)
        success = bool(self._env._check_success())
        return float(success), success

    def state(self):
        """The entries of `SEEN`."""
        return np.concatenate([np.ravel(self._seen[name]) for name in SEEN]).astype(np.float32)

    def snapshot(self):
        """Time, positions and velocities of everything."""
        return np.asarray(self._env.sim.get_state().flatten(), np.float64)

    def render(self, camera):
        """Image of a camera, upright."""
        return np.ascontiguousarray(
            self._env.sim.render(self._size[1], self._size[0], camera_name=camera)[::-1]
        )

    def close(self):
        """End the simulation."""
        if self._env is not None:
            self._env.close()
            self._env = None
