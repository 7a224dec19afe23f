"""LIBERO's environment of a task, faster and repeatable, with the same physics.

LIBERO compiles the model for every episode and renders every camera at every step. Here the model is compiled once and
shared, every episode starts from the compiled values, and nothing is rendered. The numbers are the same, bit for bit
(tests/envs/libero).
"""

from __future__ import annotations

import contextlib
import copy
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float64

from simloop.envs import registry
from simloop.envs.env_state import Value
from simloop.envs.libero.control import ArmControl
from simloop.envs.libero.package import (
    PROBLEMS,
    MjSim,
    Observable,
    load_controller_config,
    problem_info,
    sensor,
)
from simloop.envs.libero.tasks import SUITE
from simloop.envs.model_cache import compiled_model
from simloop.envs.mujoco_env import POSITIONS
from simloop.envs.scene import Gripper, Tip, subtree
from simloop.envs.shared_model import ModelUse, share_model

# What LIBERO changes in a compiled model: poses of fixtures, and the visibility of sites.
CHANGED_IN_MODEL = ("body_pos", "body_quat", "site_rgba")

OBSERVED = (
    "qpos",
    *POSITIONS,
)  # Inputs of rendering and of robosuite's observations.

FINGER_TIP_M = (0.0, 0.0, 0.0446)  # From the joint of a finger to the height of robosuite's grip site.


class Problem:
    """Mixin for LIBERO's environment classes; `make_problem` combines the two."""

    model_use: ModelUse
    sim: Any
    robots: Any
    control_freq: float
    control_timestep: float
    model_timestep: float
    cur_time: float
    timestep: int
    fixtures_dict: dict[str, Any]
    objects_dict: dict[str, Any]
    obj_of_interest: list[str]
    obj_body_id: dict[str, int]

    @property
    def mujoco_model(self) -> mujoco.MjModel:
        """The compiled scene."""
        return self.sim.model._model

    @property
    def mujoco_data(self) -> mujoco.MjData:
        """The data of the simulation."""
        return self.sim.data._data

    def start_from(self, state: Float64[np.ndarray, "_"]) -> None:
        """Set a recorded initial state, as LIBERO does."""
        self.sim.set_state_from_flattened(state)
        self.sim.forward()
        self._check_success()  # type: ignore[attr-defined]  # Updates the visibility of flames.
        self._post_process()  # type: ignore[attr-defined]
        self._update_observables(force=True)  # type: ignore[attr-defined]

    def step(self, action: Float64[np.ndarray, "7"]) -> bool:
        """Advance one control step; returns whether the task is solved."""
        self.timestep += 1
        moment, control = self._observables["moment"], self._control  # type: ignore[attr-defined]
        for i in range(int(self.control_timestep / self.model_timestep)):
            if i == 0:
                control.first_physics_step(action)
            else:
                control.physics_step()
            moment.update(timestep=self.model_timestep, obs_cache={})
        self.cur_time += self.control_timestep
        solved = bool(self._check_success())  # type: ignore[attr-defined]
        self._post_process()  # type: ignore[attr-defined]
        return solved

    @property
    def _stateful(self) -> dict[str, tuple[object, tuple[str, ...]]]:
        """Objects of robosuite that carry state from step to step, with the names of those attributes."""
        robot = self.robots[0]
        return {
            "problem": (self, ("cur_time", "timestep", "done")),
            "controller": (robot.controller, ("goal_pos", "goal_ori", "initial_joint", "new_update")),
            "gripper": (robot.gripper, ("current_action",)),
            "sensor": (self._observables["moment"], ("_time_since_last_sample", "_sampled")),  # type: ignore[attr-defined]
        }

    def save(self) -> dict[str, Value]:
        """Copies of the values that LIBERO and robosuite keep in Python from step to step."""
        values = {f"observed.{name}": getattr(self._observed, name) for name in OBSERVED}
        values["observed_site_rgba"] = self._observed_site_rgba
        for part, (owner, names) in self._stateful.items():
            values |= {f"{part}.{name}": getattr(owner, name) for name in names}
        return copy.deepcopy(values)

    def restore(self, values: Mapping[str, Value]) -> None:
        """Set what `save` returned."""
        for name in OBSERVED:
            getattr(self._observed, name)[:] = values[f"observed.{name}"]
        self._observed_site_rgba[:] = values["observed_site_rgba"]
        for part, (owner, names) in self._stateful.items():
            for name in names:
                setattr(owner, name, copy.deepcopy(values[f"{part}.{name}"]))

    def hand_state(self) -> Float64[np.ndarray, "9"]:
        """Position (m) and quaternion (x first) of the hand, and both finger joints (m), as observed by robosuite."""
        robot = self.robots[0]
        x, y, z, w = self._observed.xquat[self._hand_body][[1, 2, 3, 0]]
        fingers = self._observed.qpos[robot._ref_gripper_joint_pos_indexes]
        return np.concatenate([self._observed.site_xpos[robot.eef_site_id], (x, y, z, w), fingers])

    def hand_and_objects(self) -> Float64[np.ndarray, "18"]:
        """Ground truth as described at `simloop.envs.libero.tasks.PRIVILEGED_SIZE`."""
        robot, data = self.robots[0], self.mujoco_data
        fingers = data.qpos[robot._ref_gripper_joint_pos_indexes]
        objects = [part for i in (0, -1) for part in self._pose(self.obj_of_interest[i], self.mujoco_data)]
        return np.concatenate([data.site_xpos[robot.eef_site_id], [np.ptp(fingers)], *objects])

    def things(self) -> dict[str, int]:
        """Bodies of the objects of interest, by name."""
        return {name: self.obj_body_id[name] for name in self.obj_of_interest if name in self.obj_body_id}

    def regions(self, data: mujoco.MjData) -> dict[str, np.ndarray]:
        """Positions of the regions of interest, such as a place on the table or the inside of a drawer."""
        regions = [name for name in self.obj_of_interest if name not in self.obj_body_id]
        return {name: self._pose(name, data)[0] for name in regions}

    def hand(self) -> Gripper:
        """The gripper by body ids."""
        model, gripper = self.mujoco_model, self.robots[0].gripper
        left, right = (
            frozenset(int(model.geom_bodyid[model.geom(geom).id]) for geom in gripper.important_geoms[side])
            for side in ("left_finger", "right_finger")
        )
        tips = (
            Tip(model.body(gripper.naming_prefix + finger).id, FINGER_TIP_M)
            for finger in ("leftfinger", "rightfinger")
        )
        return Gripper(subtree(model, self._hand_body), (left, right), (next(tips), next(tips)))

    @contextlib.contextmanager
    def as_observed(self) -> Iterator[mujoco.MjData]:
        """The scene at the moment of robosuite's latest observation."""
        model = self.mujoco_model
        current = model.site_rgba.copy()
        model.site_rgba[:] = self._observed_site_rgba
        try:
            yield self._observed
        finally:
            model.site_rgba[:] = current

    def _pose(self, name: str, data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
        """Position and quaternion of an object, of the object of a region, or of a region on the table itself."""
        owner = name
        while owner and owner not in self.obj_body_id:
            owner = owner.rpartition("_")[0]
        if owner:
            body = self.obj_body_id[owner]
            return data.xpos[body], data.xquat[body]
        site, quaternion = self.sim.model.site_name2id(name), np.empty(4)
        mujoco.mju_mat2Quat(quaternion, data.site_xmat[site])
        return data.site_xpos[site], quaternion

    def _assert_problem_name(self) -> None:
        """Skip LIBERO's check of the class name, which `make_problem` changes."""

    def _initialize_sim(self, xml_string: str | None = None) -> None:
        xml = self.model.get_xml()  # type: ignore[attr-defined]
        self.model_use = share_model(
            xml, CHANGED_IN_MODEL, lambda: compiled_model(xml, registry.suite(SUITE).source)
        )
        self.model_use.enter()
        model = self.model_use.model
        self.sim = MjSim(model)
        self.sim.forward()
        self.initialize_time(self.control_freq)  # type: ignore[attr-defined]
        self._observed = mujoco.MjData(model)
        self._observed_site_rgba = model.site_rgba.copy()
        self._hand_body = self.sim.model.body_name2id(self.robots[0].robot_model.eef_name)
        objects = {**self.objects_dict, **self.fixtures_dict}
        self._properties = {
            name: copy.deepcopy(item.object_properties)
            for name, item in objects.items()
            if hasattr(item, "object_properties")
        }

    def _reset_internal(self) -> None:
        """Reset as if the model had just been compiled."""
        self.model_use.reset()
        for name, properties in self._properties.items():
            item = self.objects_dict.get(name) or self.fixtures_dict[name]
            item.object_properties = copy.deepcopy(properties)
        gripper = self.robots[0].gripper
        gripper.current_action = np.zeros(gripper.dof)
        self.sim.reset()
        # LIBERO computes accelerations twice before an episode, the second time for its renderer. The solver starts
        # from them.
        self.sim.forward()
        self.sim.forward()
        super()._reset_internal()  # type: ignore[misc]
        self._control = ArmControl(self.mujoco_model, self.mujoco_data, self.robots[0])

    def _setup_observables(self) -> OrderedDict[str, Observable]:
        """Register one observable, so that robosuite's own clock determines the observed moment."""

        @sensor(modality="moment")
        def moment(_: dict[str, np.ndarray]) -> np.ndarray:
            data = self.mujoco_data
            for name in OBSERVED:
                getattr(self._observed, name)[:] = getattr(data, name)
            self._observed_site_rgba[:] = self.mujoco_model.site_rgba
            return np.zeros(1)

        return OrderedDict(moment=Observable("moment", sensor=moment, sampling_rate=self.control_freq))


def make_problem(bddl_file: Path) -> Any:
    """Make LIBERO's environment of a task with the arm, controller and rates of published evaluations."""
    scene = PROBLEMS[problem_info(str(bddl_file))["problem_name"]]
    quiet = type(f"Quiet{scene.__name__}", (Problem, scene), {})
    problem = quiet(
        str(bddl_file),
        robots=["Panda"],
        controller_configs=load_controller_config(default_controller="OSC_POSE"),
        gripper_types="default",
        initialization_noise=None,
        use_camera_obs=False,
        has_renderer=False,
        has_offscreen_renderer=False,
        control_freq=20,
        ignore_done=True,
        hard_reset=False,
    )
    # LIBERO extends its list of samplers for open and switched-on fixtures with every model that it compiles. Its first
    # episode uses the second model, in which each of them draws twice.
    problem.object_property_initializers *= 2
    return problem
