"""Perturbations: what is disturbed between a simulator and a policy, to see how much of it the policy bears.

Pictures and states are disturbed on their way to the policy, actions on their way to the robot; the scene itself, and
the videos, stay as they are. Every draw derives from the key of the episode, so a disturbed run does not depend on who
played it either, and all policies meet the same disturbance.

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
    """A perturbation that there is not."""


@dataclass(frozen=True)
class Perturbation:
    """One kind of disturbance (`simloop.results.records.perturbation_kinds.KINDS`) at one strength; part of the protocol.

    Raises:
      PerturbationError: If there is no such kind, or the strength is not in (0, 1].
    """

    kind: str
    strength: float

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if self.kind not in KINDS:
            raise PerturbationError(
                f"There is no perturbation {self.kind!r}; there are {', '.join(KINDS)} (simloop list perturbations)."
            )
        if not 0 < self.strength <= 1:
            raise PerturbationError(
                f"The strength of {self.kind} lies in (0, 1]; got {self.strength:g}. The undisturbed arm of a curve is "
                "a run without --perturb."
            )

    @classmethod
    def parse(cls, text: str) -> Perturbation:
        """Read `KIND=STRENGTH`, such as `camera-noise=0.1`.

        Raises:
          PerturbationError: If the text says no perturbation.
        """
        kind, _, strength = text.partition("=")
        try:
            return cls(kind, float(strength))
        except ValueError:
            raise PerturbationError(
                f"Wanted KIND=STRENGTH, such as camera-noise=0.1; got {text!r}."
            ) from None

    def __str__(self) -> str:
        """As on the command line."""
        return written(self.kind, self.strength)


class Perturber:
    """What a perturbation does in one episode. It remembers the last action, so every episode has its own."""

    def __init__(self, perturbation: Perturbation | None, episode_key: int):
        self._kind = perturbation.kind if perturbation else ""
        self._strength = perturbation.strength if perturbation else 0.0
        self._key = episode_key
        self._last: np.ndarray | None = None

    def query(self, query: Query, index: int) -> Query:
        """What the policy is asked in place of query number `index`."""
        match self._kind:
            case "camera-noise":
                seen = {name: self._noisy(image, index, name) for name, image in query.images.items()}
                return dataclasses.replace(query, images=seen)
            case "camera-dark":
                seen = {
                    name: np.rint((1 - self._strength) * image).astype(np.uint8)
                    for name, image in query.images.items()
                }
                return dataclasses.replace(query, images=seen)
            case "state-noise":
                state = self._generator(index, "state").standard_normal(query.state.shape, np.float32)
                privileged = query.privileged
                if privileged is not None:
                    noise = self._generator(index, "privileged").standard_normal(privileged.shape)
                    privileged = privileged + self._strength * noise
                return dataclasses.replace(
                    query, state=query.state + np.float32(self._strength) * state, privileged=privileged
                )
            case _:
                return query

    def action(self, task: TaskSpec, action: Float32[np.ndarray, "a"], step: int) -> Float32[np.ndarray, "a"]:
        """What the robot executes at a step, 0 being the first, in place of an action; within the task's bounds."""
        if self._kind == "action-noise":
            low, high = np.asarray(task.action_low, np.float32), np.asarray(task.action_high, np.float32)
            noise = self._generator(step, "action").standard_normal(action.shape, np.float32)
            action = np.clip(action + np.float32(self._strength) * (high - low) / 2 * noise, low, high)
        elif self._kind == "sticky-actions":
            repeats = self._generator(step, "action").random() < self._strength
            self._last = self._last if repeats and self._last is not None else action
            action = self._last
        return action

    def _noisy(
        self, image: UInt8[np.ndarray, "h w 3"], index: int, camera: str
    ) -> UInt8[np.ndarray, "h w 3"]:
        noise = self._generator(index, camera).standard_normal(image.shape, np.float32)
        return np.clip(np.rint(image + np.float32(255 * self._strength) * noise), 0, 255).astype(np.uint8)

    def _generator(self, index: int, what: str) -> np.random.Generator:
        """Draws of one moment and one thing; the strength has no part in it, so that curves are smooth."""
        return np.random.Generator(
            np.random.PCG64(derive("perturbation", self._kind, self._key, index, what, bits=64))
        )
