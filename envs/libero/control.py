"""One control step of LIBERO: robosuite's arithmetic in its order, without what it computes twice or for no reader.

In every physics step robosuite computes all dynamics three times: before the controller, inside it, and in `mj_step`.
Positions, velocities and controls are the same for the first two, and positions and velocities for the third, so that
only the accelerations remain to be computed again. That has to happen as often as in robosuite, because every solve
for the contact forces starts from the solution of the last one. States are equal bit by bit
(tests/envs/libero/test_control.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsIndex

import mujoco
import numpy as np
from jaxtyping import Float64

from simloop.envs.libero.package import nullspace_torques, opspace_matrices, orientation_error


class ArmControl:
    """Robosuite's operational space control of a Panda, with displacements as actions, and of its gripper.

    Holds views of the data; the state of the control stays in robosuite's objects, where it is saved and restored.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, robot: Any) -> None:
        """Find the robot's entries in the arrays of MuJoCo. Robosuite replaces the controller at every reset."""
        self._model, self._data, self._robot = model, data, robot
        self._site = robot.eef_site_id
        dofs = _contiguous(robot._ref_joint_vel_indexes)
        self._dofs = dofs
        self._joint_positions = data.qpos[_contiguous(robot._ref_joint_pos_indexes)]
        self._joint_velocities, self._gravity = data.qvel[dofs], data.qfrc_bias[dofs]
        self._velocities, self._inertia = data.qvel, data.qM
        self._position = data.site_xpos[self._site]
        self._rotation = data.site_xmat[self._site].reshape(3, 3)
        self._jacobian = np.empty((6, model.nv))
        self._full_inertia = np.empty((model.nv, model.nv))
        self._torques = data.ctrl[_contiguous(robot._ref_joint_actuator_indexes)]
        self._torque_low, self._torque_high = robot.torque_limits
        fingers = _contiguous(robot._ref_joint_gripper_actuator_indexes)
        self._fingers = data.ctrl[fingers]
        low, high = model.actuator_ctrlrange[fingers].T
        self._finger_bias, self._finger_weight = 0.5 * (high + low), 0.5 * (high - low)
        self._finger_speed = np.array([-1.0, 1.0]) * robot.gripper.speed

    def first_physics_step(self, action: Float64[np.ndarray, "7"]) -> None:
        """Set the goal of the action, and advance one physics step towards it."""
        controller = self._robot.controller
        self._finger_change = self._finger_speed * np.sign(action[6:])
        mujoco.mj_forward(self._model, self._data)
        if controller.new_update:
            mujoco.mj_fwdConstraint(self._model, self._data)
            # `set_goal` moves the goal by the action from this pose.
            controller.ee_pos, controller.ee_ori_mat = self._position, self._rotation
            controller.new_update = False
            controller.set_goal(action[:6])
            controller.new_update = True
            self._apply_controls()
        else:  # In the first step after a reset the controller still takes the robot to be where it was built.
            self._robot.control(action, policy_step=True)
        self._integrate()

    def physics_step(self) -> None:
        """Advance one more physics step towards the same goal."""
        mujoco.mj_forward(self._model, self._data)
        mujoco.mj_fwdConstraint(self._model, self._data)
        self._apply_controls()
        self._integrate()

    def _integrate(self) -> None:
        """Do the part of `mj_step` that depends on the controls."""
        mujoco.mj_checkPos(self._model, self._data)
        mujoco.mj_checkVel(self._model, self._data)
        mujoco.mj_step2(self._model, self._data)

    def _apply_controls(self) -> None:
        np.minimum(np.maximum(self._arm_torques(), self._torque_low), self._torque_high, out=self._torques)
        gripper = self._robot.gripper
        closing = np.minimum(np.maximum(gripper.current_action + self._finger_change, -1.0), 1.0)
        gripper.current_action = closing
        self._fingers[:] = self._finger_bias + self._finger_weight * closing

    def _arm_torques(self) -> Float64[np.ndarray, "7"]:
        """Compute what robosuite's `OperationalSpaceController.run_controller` does.

        Sums and products depend on the layout of matrices in their last bits; all of them are in Fortran's, as there.
        """
        controller, dofs = self._robot.controller, self._dofs
        jacobian, inertia = self._jacobian, self._full_inertia
        mujoco.mj_jacSite(self._model, self._data, jacobian[:3], jacobian[3:], self._site)
        mujoco.mj_fullM(self._model, inertia, self._inertia)
        inertia = inertia[dofs, dofs].copy(order="F")
        full = jacobian[:, dofs].copy(order="F")
        linear, angular = jacobian[:3, dofs].copy(order="F"), jacobian[3:, dofs].copy(order="F")
        linear_velocity = np.dot(jacobian[:3], self._velocities)
        angular_velocity = np.dot(jacobian[3:], self._velocities)

        kp, kd = controller.kp, controller.kd
        turn = orientation_error(controller.goal_ori, self._rotation)
        force = (controller.goal_pos - self._position) * kp[:3] + -linear_velocity * kd[:3]
        torque = turn * kp[3:] + -angular_velocity * kd[3:]
        _, inertia_linear, inertia_angular, nullspace = opspace_matrices(inertia, full, linear, angular)
        wrench = np.concatenate([np.dot(inertia_linear, force), np.dot(inertia_angular, torque)])
        torques: np.ndarray = np.dot(full.T, wrench) + self._gravity
        torques += nullspace_torques(
            inertia, nullspace, controller.initial_joint, self._joint_positions, self._joint_velocities
        )
        return torques


def _contiguous(indices: Sequence[SupportsIndex]) -> slice:
    """Return the slice of indices that follow each other, so that it selects a view."""
    first = int(indices[0])
    end = first + len(indices)
    if list(map(int, indices)) != list(range(first, end)):
        raise ValueError(
            f"The entries of the robot must follow each other in MuJoCo's arrays; got {indices}."
        )
    return slice(first, end)
