"""Benchmarks of MolmoSpaces with DROID's Panda. Needs nothing of simloop but this file.

Reference: Y. Kim et al., MolmoSpaces (2026), arXiv:2602.11337.
"""

import importlib
import logging
import os

import numpy as np

SET = "molmospaces-bench-v1"
BENCHMARKS = {
    "Pick": "procthor-10k/FrankaPickDroidMiniBench/FrankaPickDroidMiniBench_json_benchmark_20251231",
    "PickAndPlace": "procthor-10k/FrankaPickandPlaceDroidMiniBench/"
    "FrankaPickandPlaceDroidMiniBench_20260111_json_benchmark",
    "Open": "ithor/FrankaOpenDataGenConfig/FrankaOpenDataGenConfig_20260123_json_benchmark",
    "Close": "ithor/FrankaCloseDataGenConfig/FrankaCloseDataGenConfig_20260123_json_benchmark",
}
"""Folders of the set: Pick-v1.1, PnP-v1, Open-v1 and Close-v1 of its leaderboard."""
INSTRUCTIONS = {
    "Pick": "pick up the object",
    "PickAndPlace": "put the object into the receptacle",
    "Open": "open the object",
    "Close": "close the object",
}
"""What the tasks have in common; every episode has a sentence of its own, which names the things."""
STEP_MS, PHYSICS_MS = 66.0, 2.0
NEVER = 10**6
"""Steps after which its own loop would end an episode."""
JOINTS = [f"joint_{i}_rad" for i in range(1, 8)]
CLOSED_RAD = 0.824033
"""Angle of a finger of the closed gripper."""
JOINTS_LOW = [-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159]
JOINTS_HIGH = [2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159]
"""Ranges of the joints of the Franka Research 3."""
TASKS = {
    name: {
        "instruction": INSTRUCTIONS[name],
        "max_steps": 500,
        "control_hz": 1e3 / STEP_MS,
        "cameras": ["exo_camera_1", "wrist_camera"],
        "state_names": [*JOINTS, "gripper_closed"],
        "action_names": [*JOINTS, "gripper_closed"],
        "action_low": [*JOINTS_LOW, 0.0],
        "action_high": [*JOINTS_HIGH, 1.0],
        "action_kinds": ["target"] * 7 + ["gripper"],
        "initial_states": 1000,
    }
    for name in BENCHMARKS
}


def make(task, height, width, profile):
    """Make an environment; both profiles have MuJoCo's classic renderer."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    os.environ.setdefault("PYOPENGL_PLATFORM", os.environ["MUJOCO_GL"])
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa's threads cost more processor time than they save.
    importlib.import_module("torch").set_num_threads(1)
    logging.getLogger("molmo_spaces").setLevel(logging.ERROR)
    return Benchmark(task, height, width)


class Benchmark:
    """One benchmark, of which each episode is another house. The seed is the number of the episode."""

    def __init__(self, task, height, width):
        from molmo_spaces.evaluation.benchmark_schema import load_all_episodes
        from molmo_spaces.molmo_spaces_constants import ASSETS_DIR

        self._episodes = load_all_episodes(ASSETS_DIR / "benchmarks" / SET / BENCHMARKS[task])
        self._size = (width, height)
        self._sampler, self._task = None, None

    def reset(self, seed):
        """Build the house of an episode with its robot, things and cameras."""
        from molmo_spaces.evaluation.configs.evaluation_configs import DummyBenchmarkEvalConfig
        from molmo_spaces.tasks.json_eval_task_sampler import JsonEvalTaskSampler

        self.close()
        index = seed % len(self._episodes)
        episode = self._episodes[index].model_copy(update={"img_resolution": self._size}, deep=True)
        config = DummyBenchmarkEvalConfig(
            policy_dt_ms=STEP_MS, ctrl_dt_ms=PHYSICS_MS, sim_dt_ms=PHYSICS_MS, task_horizon=NEVER, seed=index
        )
        self._sampler = JsonEvalTaskSampler(config, episode)
        self._task = self._sampler.sample_task(house_index=episode.house_index)

    def instruction(self):
        """The sentence of the episode, in lower case as its authors' clients send it."""
        return self._task.get_task_description().strip().lower()

    def step(self, action):
        """Advance a control step without an image; the reward is 1 for success and 0 otherwise."""
        # The actuator takes 0 to 255; the published evaluations open and close it fully.
        self._task._apply_action({"arm": action[:7], "gripper": np.array([255.0 * (action[7] > 0.5)])})
        success = bool(self._task.judge_success())
        return float(success), success

    def state(self):
        """Angles of the joints, and how far the gripper is closed, from 0 to 1."""
        found = self._task.env.current_robot.robot_view.get_qpos_dict()
        return np.array([*found["arm"][:7], np.clip(found["gripper"][0] / CLOSED_RAD, 0, 1)])

    def snapshot(self):
        """The integration state of MuJoCo."""
        import mujoco

        model, data = self._task.env.current_model, self._task.env.current_data
        state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        return state

    def render(self, camera):
        """Image of a camera of the episode."""
        env = self._task.env
        env.camera_manager.registry.update_all_cameras(env)
        return np.ascontiguousarray(env.render_rgb_frame(camera), np.uint8)

    def close(self):
        """End the simulation."""
        if self._sampler is not None:
            self._sampler.close()
            self._sampler, self._task = None, None
