"""Apply the perturbations of a protocol in one episode.

Cameras and lights are moved in the scene; images, states and instructions are perturbed on their way to the policy,
and actions on their way to the robot. All draws derive from the key of the episode, and those that change with time
from the control step: at the same step all policies meet the same disturbance, however many actions of a chunk they
execute, and in every order of play. A draw does not depend on the strength, so that curves are smooth.

Axis letters: h image height, w image width, n control steps executed, a action size.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from simloop.envs.interface import Suite, TaskSpec
from simloop.envs.look import CameraOffset, Look
from simloop.harness.planning.paraphrases import BOXED, Paraphrases
from simloop.harness.planning.perturbation import Perturbation, PerturbationError, strengths_of
from simloop.harness.planning.protocol import Protocol
from simloop.harness.planning.seeding import derive
from simloop.harness.rollout.chunking import action_kinds, hold_action
from simloop.policies.interface import Query
from simloop.results.records.perturbation_kinds import KINDS

Image = UInt8[np.ndarray, "h w 3"]


class Perturber:
    """Perturb one episode.

    Args:
      perturbations: At most one of each kind.
      paraphrases: Wordings that replace the templates.
    """

    def __init__(
        self, perturbations: Sequence[Perturbation], episode_key: int, paraphrases: Paraphrases | None = None
    ):
        self._strengths = strengths_of(perturbations)
        self._key = episode_key
        self._paraphrases = paraphrases or BOXED

    @property
    def delay(self) -> int:
        """Control steps between the request and the execution of an action."""
        return int(self._strengths.get("actuation-delay", 0))

    def instruction(self, instruction: str) -> str:
        """Reword the instruction of the episode, or return it as it is."""
        generator = self._generator("paraphrase")
        reworded = generator.random() < self._strengths.get("paraphrase", 0.0)
        wordings = self._paraphrases.wordings(instruction) if reworded else ()
        return wordings[generator.integers(len(wordings))] if wordings else instruction

    def look(self, cameras: Sequence[str]) -> Look:
        """Return the look of the scene in this episode.

        Args:
          cameras: All cameras of the task.
        """
        shift = self._strengths.get("camera-shift", 0.0)
        turn = math.radians(self._strengths.get("camera-turn", 0.0))
        offsets = {
            name: CameraOffset(
                _vector(shift * _direction(self._generator("camera-shift", name))),
                _vector(turn * _direction(self._generator("camera-turn", name))),
            )
            for name in cameras
            if shift or turn
        }
        tilt = math.radians(self._strengths.get("light-turn", 0.0))
        around = 2 * math.pi * self._generator("light-turn").random()
        axis = np.array([math.cos(around), math.sin(around), 0.0])
        brightness = 1 - self._strengths.get("light-dim", 0.0)
        return Look(offsets, _vector(tilt * axis) if tilt else (0.0, 0.0, 0.0), brightness)

    def query(self, query: Query, step: int) -> Query:
        """Perturb the images and states of a query that is made before control step `step` (0-based)."""
        if not self._strengths:
            return query
        images = {name: self._image(image, step, name) for name, image in query.images.items()}
        state = self._observed(query.state, step, "state").astype(np.float32, copy=False)
        privileged = query.privileged
        if privileged is not None:
            privileged = self._observed(privileged, step, "privileged")
        return dataclasses.replace(query, images=images, state=state, privileged=privileged)

    def action(
        self,
        task: TaskSpec,
        requested: Sequence[Float32[np.ndarray, "a"]],
        last: Float32[np.ndarray, "a"] | None,
    ) -> Float32[np.ndarray, "a"]:
        """Return the action to execute at the latest control step, within the bounds of the task.

        Args:
          requested: Actions that were requested at all steps until now.
          last: The action that was executed last; None before the first.
        """
        step = len(requested) - 1
        due = step - self.delay
        action = requested[due] if due >= 0 else hold_action(task, last)
        if noise := self._strengths.get("action-noise"):
            low, high = np.asarray(task.action_low, np.float32), np.asarray(task.action_high, np.float32)
            drawn = self._generator("action-noise", step, "action").standard_normal(action.shape, np.float32)
            action = np.clip(action + np.float32(noise) * (high - low) / 2 * drawn, low, high)
        if last is not None and (sticky := self._strengths.get("sticky-actions")):
            repeats = self._generator("sticky-actions", step, "action").random() < sticky
            action = last if repeats else action
        return action

    def _image(self, image: Image, step: int, camera: str) -> Image:
        """Perturb the image of a camera before a control step."""
        lost = self._happens("dropped-frames", step, camera)
        if lost or self._happens("camera-missing", camera):
            return np.zeros_like(image)
        if dark := self._strengths.get("camera-dark"):
            image = np.rint((1 - dark) * image).astype(np.uint8)
        if noise := self._strengths.get("camera-noise"):
            drawn = self._generator("camera-noise", step, camera).standard_normal(image.shape, np.float32)
            noisy: np.ndarray = np.clip(np.rint(image + np.float32(255 * noise) * drawn), 0, 255)
            image = noisy.astype(np.uint8)
        return image

    def _observed(
        self, values: Float32[np.ndarray, "_"] | Float64[np.ndarray, "_"], step: int, quantity: str
    ) -> Float32[np.ndarray, "_"] | Float64[np.ndarray, "_"]:
        """Perturb the entries of a state before a control step."""
        if noise := self._strengths.get("state-noise"):
            generator = self._generator("state-noise", step, quantity)
            drawn = generator.standard_normal(values.shape, values.dtype.type)
            values = values + values.dtype.type(noise) * drawn
        if share := self._strengths.get("state-distractors"):
            generator = self._generator("state-distractors", step, quantity)
            replaced = generator.random(values.shape) < share
            values = np.where(replaced, generator.standard_normal(values.shape), values).astype(values.dtype)
        return values

    def _happens(self, kind: str, *parts: str | int) -> bool:
        """Whether something happens, of which the strength of the kind is the probability."""
        probability = self._strengths.get(kind, 0.0)
        return bool(probability) and self._generator(kind, *parts).random() < probability

    def _generator(self, kind: str, *parts: str | int) -> np.random.Generator:
        """Generator of what a kind draws for these parts of the episode."""
        return np.random.Generator(np.random.PCG64(derive("perturbation", kind, self._key, *parts, bits=64)))


def require_perturbable(protocol: Protocol, suite: Suite, tasks: Sequence[TaskSpec]) -> None:
    """Raise unless the perturbations of a protocol can be applied to tasks of a suite.

    Raises:
      PerturbationError: If the suite cannot change its look, or there is no other wording of an instruction.
      ExecutionError: If actions are delayed and a task does not tell how its robot holds still.
    """
    for kind in strengths_of(protocol.perturbations):
        if KINDS[kind].changes_look and not suite.changes_look:
            raise PerturbationError(
                f"Suite {suite.name!r} can move neither cameras nor lights, which {kind} does. Leave {kind} out."
            )
        for task in tasks:
            if kind == "actuation-delay":
                action_kinds(task)
            instruction = task.instruction_from(protocol.prompt_source).text
            wordings = protocol.paraphrases or BOXED
            if kind == "paraphrase" and not wordings.wordings(instruction):
                raise PerturbationError(
                    f"The file of paraphrases {wordings.name!r} has no wording for {instruction!r} of {task.name}; add "
                    'some, or "*" for all other instructions.'
                )


def _direction(generator: np.random.Generator) -> Float64[np.ndarray, "3"]:
    """Draw a unit vector, uniform on the sphere."""
    drawn = generator.standard_normal(3)
    unit: Float64[np.ndarray, "3"] = drawn / np.linalg.norm(drawn)
    return unit


def _vector(values: Float64[np.ndarray, "3"]) -> tuple[float, float, float]:
    x, y, z = values.tolist()
    return x, y, z
