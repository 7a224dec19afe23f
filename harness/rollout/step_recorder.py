"""Recorder of step records: queries, answers, saved states and steps of an episode."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np

from simloop.envs.interface import Env
from simloop.envs.rendering import renderer_name
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


class StepObserver(Observer):
    """Keep the step records of an episode in memory.

    Args:
      first_query: Number of the first query, where an episode continues.
    """

    def __init__(self, spec: EpisodeSpec, level: Level, first_query: int = 0):
        super().__init__()
        self._spec = spec
        self._level = level
        self._first_query = first_query
        self._env: Env | None = None
        self._header: StepHeader | None = None
        self._queries: list[RecordedQuery] = []
        self._steps: list[RecordedStep] = []

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
        step = RecordedStep(
            step=record.step,
            action=record.action,
            executed=record.executed,
            chunk_index=record.chunk_index,
            index_in_chunk=record.index_in_chunk,
            reward=record.reward,
            success=record.success,
            state_sha256=_sha256(self._env.snapshot().astype("<f8", copy=False)),
        )
        if self._level == "steps":
            step = dataclasses.replace(step, state=self._env.state(), **_scene(self._env))
        self._steps.append(step)

    def on_end(self, result: RolloutResult) -> None:
        self._change_header(ended_by=result.ended_by)
        latencies = result.queries[-len(self._queries) :]  # An episode that continues has earlier ones.
        self._queries = [
            dataclasses.replace(query, latency=latency)
            for query, latency in zip(self._queries, latencies, strict=True)
        ]

    def _add_steps(self) -> None:
        """Give the steps since the last query to it."""
        if self._queries and self._steps:
            earlier = self._queries[-1].steps
            self._queries[-1] = dataclasses.replace(self._queries[-1], steps=(*earlier, *self._steps))
        self._steps = []

    def _change_header(self, **fields: Any) -> None:
        assert self._header is not None
        self._header = dataclasses.replace(self._header, **fields)


class StepRecorder(StepObserver, Recorder):
    """Record an episode as a file of step records and a lossless video per camera.

    An episode that breaks leaves what was recorded until then.
    """

    def __init__(self, spec: EpisodeSpec, level: Level):
        super().__init__(spec, level)
        self._videos: dict[str, VideoEncoder] = {}

    def on_query(self, query: Query, reply: Reply) -> None:
        super().on_query(query, reply)
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


def _scene(env: Env) -> dict[str, Any]:
    """The fields of `RecordedStep` that describe the scene; none where the suite does not tell."""
    scene = env.scene()
    if scene is None:
        return {}
    return {
        "time_s": scene.time_s,
        "poses": {name: np.concatenate(pose) for name, pose in scene.poses.items()},
        "contacts": tuple(map(tuple, scene.contacts)),
        "held": scene.held,
    }


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
