"""Environments of ManiSkill 3 on CPUs. Needs nothing of simloop but this file.

Importing it needs neither ManiSkill nor SAPIEN; `make` does.

Reference: S. Tao et al., ManiSkill3 (2024), arXiv:2410.00425.
"""

import importlib
import sys

import numpy as np

ARM = [f"joint_{i}_rad" for i in range(1, 8)]
STATE = [
    *ARM,
    "finger_1_m",
    "finger_2_m",
    *(f"hand_{axis}_m" for axis in "xyz"),
    *(f"hand_q{axis}" for axis in "wxyz"),
]
"""Joints of the Panda arm, its fingers, position and quaternion (scalar part first) between the fingers."""
ACTION_LOW = [-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973, -1.0]
ACTION_HIGH = [2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973, 1.0]
"""Ranges of the joints; the last entry closes the fingers at -1 and opens them at 1."""
EXTRA = {
    "PickCube-v1": ["is_grasped", "goal_x_m", "goal_y_m", "goal_z_m"],
    "PullCube-v1": ["goal_x_m", "goal_y_m", "goal_z_m"],
    "PlaceSphere-v1": ["is_grasped", "bin_x_m", "bin_y_m", "bin_z_m"],
}
"""What observations with images hold beside the robot."""
EXPERTS = {
    "PickCube-v1": "pick_cube",
    "PushCube-v1": "push_cube",
    "PullCube-v1": "pull_cube",
    "StackCube-v1": "stack_cube",
    "PlaceSphere-v1": "place_sphere",
    "LiftPegUpright-v1": "lift_peg_upright",
    "PegInsertionSide-v1": "peg_insertion_side",
    "PlugCharger-v1": "plug_charger",
    "PullCubeTool-v1": "pull_cube_tool",
    "StackPyramid-v1": "stack_pyramid",
}
"""Modules of ManiSkill's motion-planning solutions."""
THINGS = {
    "PickCube-v1": "cube",
    "PushCube-v1": "obj",
    "PullCube-v1": "obj",
    "StackCube-v1": "cubeA",
    "PlaceSphere-v1": "obj",
    "LiftPegUpright-v1": "peg",
    "PegInsertionSide-v1": "peg",
    "PlugCharger-v1": "charger",
    "PullCubeTool-v1": "cube",
    "StackPyramid-v1": "cubeA",
}
"""What is to be moved, by ManiSkill's names."""
INSTRUCTIONS = {
    "PickCube-v1": "pick up the red cube and hold it at the green goal",
    "PushCube-v1": "push the cube into the target region",
    "PullCube-v1": "pull the cube into the target region",
    "StackCube-v1": "stack the red cube on the green cube",
    "PlaceSphere-v1": "place the blue ball into the bin",
    "LiftPegUpright-v1": "put the peg upright on the table",
    "PegInsertionSide-v1": "insert the peg into the hole of the box",
    "PlugCharger-v1": "plug the charger into the receptacle",
    "PullCubeTool-v1": "pull the cube closer with the tool",
    "StackPyramid-v1": "build a pyramid of the three cubes",
    "RollBall-v1": "roll the ball into the target region",
    "PokeCube-v1": "poke the cube with the peg into the target region",
}
MAX_STEPS = {
    "LiftPegUpright-v1": 300,
    "PlugCharger-v1": 300,
    "PullCubeTool-v1": 300,
    "StackPyramid-v1": 400,
}
"""Other tasks have 200 steps. ManiSkill's limits, from 50 on, are for reinforcement learning; its own solutions, which
are its demonstrations, take longer."""
TASKS = {
    name: {
        "instruction": instruction,
        "max_steps": MAX_STEPS.get(name, 200),
        "control_hz": 20.0,
        "cameras": ["base_camera", "hand_camera"],
        "state_names": [*STATE, *EXTRA.get(name, [])],
        "action_names": [*ARM, "gripper_opening"],
        "action_low": ACTION_LOW,
        "action_high": ACTION_HIGH,
        "action_kinds": ["target"] * 7 + ["gripper"],
        "privileged_size": 11 if name in EXPERTS else 0,  # The action of an expert, and where the thing is.
    }
    for name, instruction in INSTRUCTIONS.items()
}
SHADERS = {"fast": "minimal", "official": "default"}


def make(task, height, width, profile):
    """Make an environment, drawn by the shaders `default` of ManiSkill in the profile `official`, else by `minimal`."""
    importlib.import_module("on_cpus").prepare()  # Of the file beside this one.
    return ManiSkill(task, height, width, profile)


def _made(task, **options):
    import gymnasium

    return gymnasium.make(
        task,
        robot_uids="panda_wristcam",
        obs_mode="none",
        control_mode="pd_joint_pos",
        reward_mode="sparse",
        sim_backend="physx_cpu",
        **options,
    ).unwrapped


class ManiSkill:
    """One task with control of joint positions."""

    def __init__(self, task, height, width, profile):
        self._task = task
        camera = {"height": height, "width": width, "shader_pack": SHADERS[profile]}
        self._env = _made(task, render_backend="sapien_cpu", sensor_configs=camera)
        self._info = {}
        self._steps, self._seed = 0, 0
        self._planner = None
        self._plan = None

    def reset(self, seed):
        """Build the scene of a seed anew, since what PhysX keeps of earlier episodes changes later ones.

        ManiSkill takes seeds below 2^32; an episode of such a seed is that of its own `reset`.
        """
        self._seed = seed if seed < 2**32 else int(np.random.SeedSequence(seed).generate_state(1)[0])
        self._env.reset(seed=self._seed, options={"reconfigure": True})
        self._info = self._env.evaluate()
        self._steps, self._plan = 0, None

    def step(self, action):
        """Advance a control step; the reward is 1 for success and 0 otherwise."""
        _, reward, _, _, self._info = self._env.step(np.float32(action))
        self._steps += 1
        return float(reward), bool(self._info["success"])

    def state(self):
        """Joints and hand as `STATE` says, then what `EXTRA` names."""
        seen = self._env._get_obs_extra(self._info)
        others = [value for name, value in seen.items() if name != "tcp_pose"]
        parts = [self._env.agent.robot.get_qpos(), seen["tcp_pose"], *others]
        return np.concatenate([np.ravel(np.asarray(part, np.float32)) for part in parts])

    def snapshot(self):
        """Poses and velocities of everything, and the targets of the controller."""
        return np.asarray(self._env.get_state()[0], np.float64)

    def render(self, camera):
        """Image of a camera. What ManiSkill hides from cameras, such as goals, is hidden."""
        for thing in self._env._hidden_objects:
            thing.hide_visual()
        self._env.scene.update_render(update_sensors=True, update_human_render_cameras=False)
        sensor = self._env._sensors[camera]
        sensor.capture()
        seen = sensor.get_obs(rgb=True, depth=False, position=False, segmentation=False)
        return np.ascontiguousarray(np.asarray(seen["rgb"][0], np.uint8))

    def privileged(self):
        """The next action of ManiSkill's motion-planning solution, then the position of what is to be moved, in m.

        The solution plans the episode from its beginning.
        """
        if self._task not in EXPERTS:
            return np.zeros(0)
        if self._plan is None:
            self._plan = self._planned()
        action = self._plan[min(self._steps, len(self._plan) - 1)]
        thing = getattr(self._env, THINGS[self._task])
        return np.concatenate([action, np.asarray(thing.pose.p[0], np.float64)])

    def _planned(self):
        """The actions with which the solution solves the episode in another simulation."""
        if self._planner is None:
            self._planner = _recorder(_made(self._task, render_backend="none"))
        module = importlib.import_module(
            f"mani_skill.examples.motionplanning.panda.solutions.{EXPERTS[self._task]}"
        )
        self._planner.actions = []
        try:
            module.solve(self._planner, seed=self._seed, debug=False, vis=False)
        except Exception as error:  # A solution without a path ends in errors of many kinds.
            print(
                f"{self._task}, seed {self._seed}: no plan ({type(error).__name__}: {error})", file=sys.stderr
            )
        joints = np.asarray(self._env.agent.robot.get_qpos()[0], np.float64)
        return [*self._planner.actions, *([] if self._planner.actions else [np.append(joints[:7], 1.0)])]


def _recorder(env):
    """A wrapper that keeps the actions of a solution."""
    import gymnasium

    class Recorder(gymnasium.Wrapper):
        def reset(self, seed=None, options=None):
            return self.env.reset(seed=seed, options={**(options or {}), "reconfigure": True})

        def step(self, action):
            self.actions.append(np.clip(np.asarray(action, np.float64), ACTION_LOW, ACTION_HIGH))
            return self.env.step(action)

    return Recorder(env)
