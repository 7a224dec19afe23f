"""A served suite for tests: a point in the plane. It imports nothing of simloop.

A task named after a fault breaks in that way; `forgets` draws beside the seed.
"""

import os
import sys
import time

import numpy as np

NAME = "served-points"
PACKAGES = ("numpy",)
POINT = {
    "instruction": "move to the goal",
    "max_steps": 20,
    "control_hz": 20.0,
    "cameras": ["top", "hand"],
    "state_names": ["x_m", "y_m"],
    "action_names": ["dx", "dy"],
    "action_low": [-1.0, -1.0],
    "action_high": [1.0, 1.0],
    "privileged_size": 2,
}
FAULTS = ("raises", "unstable", "exits", "hangs", "forgets", "no-image")
TASKS = dict.fromkeys(("point", "saving", *FAULTS), POINT)
GROUPS = {"all": ["point", "saving"]}


class SimulationError(Exception):
    pass


class Point:
    def __init__(self, task, height, width, speed, step_s):
        self.task, self.shape, self.speed, self.step_s = task, (height, width, 3), speed, step_s

    def reset(self, seed):
        generator = np.random.default_rng(seed)
        self.position, self.goal = generator.uniform(-1, 1, (2, 2))
        if self.task == "forgets":
            self.position = np.array([os.getpid(), 0.0])

    def step(self, action):
        if self.task == "raises":
            raise ValueError("the gripper is upside down")
        if self.task == "unstable":
            raise SimulationError("the physics became unstable")
        if self.task == "exits":
            print("a last word", file=sys.stderr)
            os._exit(3)
        if self.task == "hangs":
            time.sleep(600)
        time.sleep(self.step_s)
        self.position = self.position + 0.1 * self.speed * action
        distance = np.linalg.norm(self.goal - self.position)
        return -distance, distance < 0.1

    def state(self):
        return self.position

    def privileged(self):
        return self.goal

    def snapshot(self):
        return np.concatenate([self.position, self.goal])

    def render(self, camera):
        image = np.full(self.shape, 40, np.uint8)
        row, column = ((self.position % 2) / 2 * (np.array(self.shape[:2]) - 4)).astype(int)
        image[row : row + 4, column : column + 4] = 255 if camera == "top" else 200
        return image[:, :, 0] if self.task == "no-image" else image


class Saving(Point):
    def instruction(self):
        return f"move to {self.goal[0]:.2f}, {self.goal[1]:.2f}"

    def save(self):
        return {"position": self.position, "goal": self.goal}

    def restore(self, physics, values):
        self.position, self.goal = values["position"], values["goal"]

    def movable(self):
        return ["point"]

    def move(self, thing, offset):
        self.position = self.position + offset[:2]

    def scenes(self, snapshots):
        return [
            {
                "time_s": 1.0,
                "poses": {"point": ([*snapshot[:2], 0.0], [1.0, 0.0, 0.0, 0.0])},
                "contacts": [["point", "goal", 0.5]],
                "held": [],
            }
            for snapshot in snapshots
        ]


def make(task, height, width, profile, speed=1.0, step_s=0.0):
    return (Saving if task == "saving" else Point)(task, height, width, speed, step_s)
