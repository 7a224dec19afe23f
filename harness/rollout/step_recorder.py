"""Recorder of step records: queries, answers, saved states and steps of an episode."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64

from simloop.envs.interface import Env
from simloop.envs.rendering import renderer_name
from simloop.envs.scene_types import Scene
from simloop.harness.planning.plan import EpisodeSpec
from simloop.harness.rollout.camera_frames import CameraFrames
from simloop.harness.rollout.latency import Reply
from simloop.harness.rollout.observers import Observer, Recorder, StepRecord
from simloop.harness.rollout.result import RolloutResult
from simloop.policies.files.video import VideoEncoder, lossless_encoder
from simloop.policies.interface import Query
from simloop.results.records.paths import IMAGES, STEP_RECORDS
from simloop.results.records.step_records import (
    Level,
    RecordedQuery,
    RecordedStep,
    StepHeader,
    StepRecords,
)


class _Executed(NamedTuple):
    """A step that has been executed and not yet described."""

    record: StepRecord
    snapshot: Float64[np.ndarray, "_"]
    state: Float32[np.ndarray, "s"] | None
    """State of the suite, where the level asks for it."""


class StepObserver(Observer):
    """Keep the step records of an episode in memory.

    Hashes and scenes are computed for all steps of a chunk at once. After every step, they would evict the simulation
    from the caches of the processor, which costs as much again.

    Args:
      first_query: Number of the first query, where an episode continues.
      images: Whether the images of the queries are stored beside the records.
    """

    def __init__(self, spec: EpisodeSpec, level: Level, first_query: int = 0, *, images: bool = False):
        super().__init__()
        self._spec = spec
        self._level = level
        self._first_query = first_query
        self._stores_images = images
        self._env: Env | None = None
        self._header: StepHeader | None = None
        self._queries: list[RecordedQuery] = []
        self._executed: list[_Executed] = []

    @property
    def records(self) -> StepRecords | None:
        """What has been recorded so far; None before the reset."""
        self._add_steps()
        return None if self._header is None else StepRecords(self._header, tuple(self._queries))

    def on_reset(self, frames: CameraFrames, env: Env) -> None:
        self._env, spec, task = env, self._spec, env.spec
        self._header = StepHeader(
            level=self._level,
            policy=spec.policy,
            suite=spec.suite,
            protocol=spec.protocol,
            task=spec.task,
            episode=spec.episode,
            seed=spec.seed,
            source=env.save().version,
            renderer="",
            control_hz=task.control_hz,
            cameras=(),
            stores_images=self._stores_images,
            state_names=task.state_names,
            action_names=task.action_names,
        )

    def on_query(self, query: Query, reply: Reply) -> None:
        assert self._env is not None
        self._add_steps()
        if query.images and not self._queries:
            self._change_header(cameras=tuple(query.images), renderer=renderer_name())
        self._queries.append(
            RecordedQuery(
                query=self._first_query + len(self._queries),
                step=query.step,
                key=query.key,
                instruction=query.instruction,
                state=query.state,
                privileged=query.privileged,
                action_low=query.action_low,
                action_high=query.action_high,
                images_sha256=tuple(map(_sha256, query.images.values())),
                chunk=reply.chunk.actions,
                undecodable=reply.chunk.undecodable,
                latency=None,
                env_state=self._env.save().to_bytes(),
            )
        )

    def on_step(self, record: StepRecord) -> None:
        assert self._env is not None
        state = self._env.state() if self._level == "steps" else None
        self._executed.append(_Executed(record, self._env.snapshot(), state))

    def on_end(self, result: RolloutResult) -> None:
        self._change_header(ended_by=result.ended_by)
        latencies = result.queries[-len(self._queries) :]  # An episode that continues has earlier ones.
        self._queries = [
            dataclasses.replace(query, latency=latency)
            for query, latency in zip(self._queries, latencies, strict=True)
        ]

    def _add_steps(self) -> None:
        """Describe the steps since the last query, and give them to it."""
        executed, self._executed = self._executed, []
        if not executed or not self._queries:
            return
        assert self._env is not None
        scenes = self._env.scenes([step.snapshot for step in executed]) if self._level == "steps" else None
        described = itertools.starmap(_described, itertools.zip_longest(executed, scenes or []))
        last = self._queries[-1]
        self._queries[-1] = dataclasses.replace(last, steps=(*last.steps, *described))

    def _change_header(self, **fields: Any) -> None:
        assert self._header is not None
        self._header = dataclasses.replace(self._header, **fields)


class StepRecorder(StepObserver, Recorder):
    """Record an episode as a file of step records and, where wanted, a lossless video per camera.

    An episode that breaks leaves what was recorded until then.
    """

    def __init__(self, spec: EpisodeSpec, level: Level, *, images: bool = False):
        super().__init__(spec, level, spec.fork.query if spec.fork else 0, images=images)
        self._videos: dict[str, VideoEncoder] = {}

    def on_query(self, query: Query, reply: Reply) -> None:
        super().on_query(query, reply)
        if not self._stores_images:
            return
        for camera, image in query.images.items():
            if camera not in self._videos:
                self._videos[camera] = lossless_encoder()
            self._videos[camera].add(image)

    def close(self) -> None:
        records = self.records
        if records is not None and not self.attachments:
            self.attachments[STEP_RECORDS] = records.to_bytes()
            for camera, video in self._videos.items():
                self.attachments[f"{IMAGES}{camera}"] = video.finish()


def _described(step: _Executed, scene: Scene | None) -> RecordedStep:
    """Describe a step; without a scene where the level or the suite has none."""
    record = step.record
    fields: dict[str, Any] = {}
    if scene is not None:
        fields = {
            "time_s": scene.time_s,
            "poses": {name: np.concatenate(pose) for name, pose in scene.poses.items()},
            "contacts": tuple(map(tuple, scene.contacts)),
            "held": scene.held,
        }
    return RecordedStep(
        step=record.step,
        action=record.action,
        executed=record.executed,
        chunk_index=record.chunk_index,
        index_in_chunk=record.index_in_chunk,
        reward=record.reward,
        success=record.success,
        state_sha256=_sha256(step.snapshot.astype("<f8", copy=False)),
        state=step.state,
        **fields,
    )


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
