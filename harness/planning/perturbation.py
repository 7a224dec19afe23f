"""Perturbations of observations and actions, to measure how robust a policy is.

Images and states are perturbed on their way to the policy, actions on their way to the robot. The scene and the videos
are not. All noise derives from the key of the episode and the control step: at the same step all policies meet the same
disturbance, however many actions of a chunk they execute, and in every order of play.

Axis letters: h image height, w image width, a action size.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from simloop.envs.interface import TaskSpec
from simloop.harness.errors import SimloopError
from simloop.harness.planning.seeding import derive
from simloop.policies.interface import Query
from simloop.results.records.perturbation_kinds import KINDS, written


class PerturbationError(SimloopError):
    """Raised for an unknown kind of perturbation, or a strength outside (0, 1]."""


@dataclass(frozen=True)
class Perturbation:
    """One kind of perturbation (`results.records.perturbation_kinds.KINDS`) at one strength; part of a protocol.

    Raises:
      PerturbationError: If the kind is unknown, or the strength is not in (0, 1].
    """

    kind: str
    strength: float

    def __post_init__(self) -> None:
        """Raise `PerturbationError` for unknown kinds and strengths."""
        if self.kind not in KINDS:
            raise PerturbationError(
                f"There is no perturbation {self.kind!r}; there are {', '.join(KINDS)} (simloop list perturbations)."
            )
        if not 0 < self.strength <= 1:
            raise PerturbationError(
                f"The strength of {self.kind} lies in (0, 1]; got {self.strength:g}. Leave out --perturb for the "
                "unperturbed runs of a curve."
            )

    @classmethod
    def parse(cls, text: str) -> Perturbation:
        """Parse `KIND=STRENGTH`, such as `camera-noise=0.1`.

        Raises:
          PerturbationError: If the text is not of this form, or the values are not valid.
        """
        kind, _, strength = text.partition("=")
        try:
            return cls(kind, float(strength))
        except ValueError:
            raise PerturbationError(
                f"Wanted KIND=STRENGTH, such as camera-noise=0.1; got {text!r}."
            ) from None

    def __str__(self) -> str:
        """`KIND=STRENGTH`, as `parse` reads it."""
        return written(self.kind, self.strength)


class Perturber:
    """Apply a perturbation in one episode. It holds the last executed action, so every episode needs its own.

    Args:
      last: The action that was executed last, where an episode continues.
    """

    def __init__(
        self,
        perturbation: Perturbation | None,
        episode_key: int,
        last: Float32[np.ndarray, "a"] | None = None,
    ):
        self._kind = perturbation.kind if perturbation else ""
        self._strength = perturbation.strength if perturbation else 0.0
        self._key = episode_key
        self._last = last

    def query(self, query: Query, step: int) -> Query:
        """Perturb the images and states of a query that is made before control step `step` (0-based)."""
        match self._kind:
            case "camera-noise":
                images = {name: self._noisy(image, step, name) for name, image in query.images.items()}
                return dataclasses.replace(query, images=images)
            case "camera-dark":
                images = {
                    name: np.rint((1 - self._strength) * image).astype(np.uint8)
                    for name, image in query.images.items()
                }
                return dataclasses.replace(query, images=images)
            case "state-noise":
                state = self._generator(step, "state").standard_normal(query.state.shape, np.float32)
                privileged = query.privileged
                if privileged is not None:
                    noise = self._generator(step, "privileged").standard_normal(privileged.shape)
                    privileged = privileged + self._strength * noise
                return dataclasses.replace(
                    query, state=query.state + np.float32(self._strength) * state, privileged=privileged
                )
            case _:
                return query

    def action(self, task: TaskSpec, action: Float32[np.ndarray, "a"], step: int) -> Float32[np.ndarray, "a"]:
        """Perturb the action of a control step (0-based); the result lies within the task's bounds."""
        if self._kind == "action-noise":
            low, high = np.asarray(task.action_low, np.float32), np.asarray(task.action_high, np.float32)
            noise = self._generator(step, "action").standard_normal(action.shape, np.float32)
            action = np.clip(action + np.float32(self._strength) * (high - low) / 2 * noise, low, high)
        elif self._kind == "sticky-actions":
            repeats = self._generator(step, "action").random() < self._strength
            self._last = self._last if repeats and self._last is not None else action
            action = self._last
        return action

    def _noisy(self, image: UInt8[np.ndarray, "h w 3"], step: int, camera: str) -> UInt8[np.ndarray, "h w 3"]:
        noise = self._generator(step, camera).standard_normal(image.shape, np.float32)
        noisy: np.ndarray = np.clip(np.rint(image + np.float32(255 * self._strength) * noise), 0, 255)
        return noisy.astype(np.uint8)

    def _generator(self, step: int, quantity: str) -> np.random.Generator:
        """Generator of one quantity at one control step; independent of the strength, so that curves are smooth."""
        return np.random.Generator(
            np.random.PCG64(derive("perturbation", self._kind, self._key, step, quantity, bits=64))
        )
