"""Scripted experts, and the recorder of their demonstrations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simloop.envs.interface import TaskSpec
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.rollout.latency import Reply
from simloop.harness.rollout.observers import Recorder
from simloop.harness.rollout.result import RolloutResult
from simloop.policies.files.video import VideoEncoder
from simloop.policies.interface import Chunk, PolicySpec, Query
from simloop.policies.scripted import scripted_policy
from simloop.policies.training.demonstration import IMAGE_STATS_EVERY, Demonstration, image_stats
from simloop.policies.transforms.preprocessing import resize_with_pad

EXPERT = "expert"


@dataclass(frozen=True)
class DemonstrationSettings:
    """What is recorded of an expert, and how much noise its actions get."""

    robot: str
    """Convention of cameras and state of the policies that will learn from the demonstrations."""
    cameras: tuple[str, ...]
    """Model camera names."""
    image_size: int
    """Height and width of recorded images, which are rendered as for an evaluation and resized as for a policy."""
    fps: int
    noise: float
    """Standard deviation of the noise on every entry of the executed actions, in units of half the range of that entry.
    Recorded actions have no noise, so that they show how to recover."""
    crf: int
    environment_size: int
    """Length of the recorded simulator state; 0 to record none."""

    def spec(self, task: TaskSpec) -> PolicySpec:
        """Return the spec of the expert as a policy that reads these cameras at every step."""
        return dataclasses.replace(
            scripted_policy(EXPERT).spec,
            robot=self.robot,
            cameras=self.cameras,
            image_hw=(self.image_size, self.image_size),
            action_size=task.action_size,
        )


DEMONSTRATION = "demonstration"
"""Name of the file that `DemonstrationRecorder` attaches to an episode."""


class Demonstrator:
    """The expert with noise on its actions, drawn from the key of each query."""

    def __init__(self, spec: PolicySpec, noise: float):
        self.spec = spec
        self._noise = noise
        self._expert = scripted_policy(EXPERT)

    def infer(self, queries: Sequence[Query]) -> list[Chunk]:
        """Return a chunk of one action per query."""
        clean = self._expert.infer(queries)
        return [Chunk(self._noisy(query, chunk.actions)) for query, chunk in zip(queries, clean, strict=True)]

    def _noisy(self, query: Query, actions: np.ndarray) -> np.ndarray:
        if self._noise == 0.0 or query.action_low is None or query.action_high is None:
            return actions
        generator = np.random.Generator(np.random.PCG64(query.key))
        half_range = (query.action_high - query.action_low) / 2
        moved = actions + self._noise * half_range * generator.standard_normal(actions.shape)
        return np.clip(moved, query.action_low, query.action_high).astype(np.float32)


class DemonstrationRecorder(Recorder):
    """Record images, states and the expert's actions of one episode."""

    def __init__(self, spec: EpisodeSpec, settings: DemonstrationSettings):
        super().__init__()
        self._spec = spec
        self._settings = settings
        self._expert = scripted_policy(EXPERT)
        self._states: list[np.ndarray] = []
        self._actions: list[np.ndarray] = []
        self._environment_states: list[np.ndarray] = []
        self._encoders = {name: VideoEncoder(settings.fps, settings.crf) for name in settings.cameras}
        self._sampled: dict[str, list[np.ndarray]] = {name: [] for name in settings.cameras}
        self._instruction = ""

    def on_query(self, query: Query, reply: Reply) -> None:
        self._instruction = query.instruction
        size = self._settings.image_size
        for name, encoder in self._encoders.items():
            frame = resize_with_pad(query.images[name], size, size)
            encoder.add(frame)
            if len(self._states) % IMAGE_STATS_EVERY == 0:
                self._sampled[name].append(frame)
        self._states.append(query.state)
        if query.privileged is not None and self._settings.environment_size:
            self._environment_states.append(query.privileged.astype(np.float32))
        self._actions.append(self._expert.act(query))

    def on_end(self, result: RolloutResult) -> None:
        self.attachments[DEMONSTRATION] = Demonstration(
            suite=self._spec.suite,
            task=self._spec.task,
            episode=self._spec.episode,
            seed=self._spec.seed,
            instruction=self._instruction,
            success=result.ended_by == "success",
            states=np.stack(self._states),
            actions=np.stack(self._actions),
            environment_states=np.reshape(self._environment_states, (len(self._states), -1)).astype(
                np.float32
            ),
            videos={name: encoder.finish() for name, encoder in self._encoders.items()},
            image_stats={name: image_stats(frames) for name, frames in self._sampled.items()},
        ).to_bytes()

    def close(self) -> None:
        for encoder in self._encoders.values():
            encoder.close()
