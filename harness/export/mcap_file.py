"""An episode as an MCAP file with Foxglove's schemas, which Foxglove and ROS tools open."""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.transform import Rotation

from simloop.envs.camera_view import CameraView
from simloop.harness.export.exported_episode import ExportedEpisode, Moment
from simloop.policies.files.images import jpeg
from simloop.results.records.step_records import RecordedQuery

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp
    from mcap.writer import Writer

WORLD = "world"
NUMBER, NUMBERS = {"type": "number"}, {"type": "array", "items": {"type": "number"}}
STEP_SCHEMA = {
    "title": "simloop.Step",
    "type": "object",
    "properties": {
        "step": {"type": "integer"},
        "query": {"type": "integer"},
        "reward": NUMBER,
        "success": {"type": "boolean"},
        "held": {"type": "array", "items": {"type": "string"}},
        "contacts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"gripper": {"type": "string"}, "other": {"type": "string"}, "force_n": NUMBER},
            },
        },
    },
}
"""Reward, success and contacts, for which Foxglove has no schema."""
QUERY_SCHEMA = {
    "title": "simloop.Query",
    "type": "object",
    "properties": {
        "query": {"type": "integer"},
        "instruction": {"type": "string"},
        "state": NUMBERS,
        "chunk": {"type": "array", "items": NUMBERS},
        "total_ms": NUMBER,
    },
}


@functools.cache
def foxglove(name: str) -> Any:
    """The message class of one of Foxglove's schemas."""
    return getattr(importlib.import_module(f"foxglove_schemas_protobuf.{name}_pb2"), name)


def write_mcap(episode: ExportedEpisode, path: Path) -> None:
    """Write an episode as an MCAP file. Its times begin at 0.

    Raises:
      EpisodeError, StateError: As `ExportedEpisode.moments`.
    """
    from mcap.writer import Writer

    with path.open("wb") as file:
        log = _Log(Writer(file))
        log.writer.add_metadata("episode", {name: str(value) for name, value in episode.metadata.items()})
        asked = {query.step: query for query in episode.records.queries}
        for moment in episode.moments():
            log.at(moment)
            for topic, message in _messages(episode, moment, log.stamp):
                log.write(topic, message)
            if moment.step is not None:
                log.write_json("/step", STEP_SCHEMA, _step(moment))
            if moment.steps in asked:
                query = asked[moment.steps]
                log.write("/log", _said(log.stamp, query))
                log.write_json("/query", QUERY_SCHEMA, _query(query))
        log.writer.finish()


class _Log:
    """An MCAP file that is written message by message, at one time after the other."""

    def __init__(self, writer: Writer):
        self.writer = writer
        self.writer.start(library="simloop")
        self._channels: dict[str, int] = {}
        self._ns = 0

    def at(self, moment: Moment) -> None:
        from google.protobuf.timestamp_pb2 import Timestamp

        self._ns = round(moment.time_s * 1e9)
        self.stamp = Timestamp(seconds=self._ns // 10**9, nanos=self._ns % 10**9)

    def write(self, topic: str, message: Message) -> None:
        from mcap.well_known import MessageEncoding
        from mcap_protobuf.schema import register_schema

        if topic not in self._channels:
            schema = register_schema(self.writer, type(message))
            self._channels[topic] = self.writer.register_channel(topic, MessageEncoding.Protobuf, schema)
        self._add(topic, message.SerializeToString())

    def write_json(self, topic: str, schema: Mapping[str, Any], value: Mapping[str, Any]) -> None:
        from mcap.well_known import MessageEncoding, SchemaEncoding

        if topic not in self._channels:
            content = json.dumps(schema).encode()
            number = self.writer.register_schema(str(schema["title"]), SchemaEncoding.JSONSchema, content)
            self._channels[topic] = self.writer.register_channel(topic, MessageEncoding.JSON, number)
        self._add(topic, json.dumps(value).encode())

    def _add(self, topic: str, content: bytes) -> None:
        self.writer.add_message(self._channels[topic], self._ns, content, self._ns)


def _messages(episode: ExportedEpisode, moment: Moment, stamp: Timestamp) -> Iterator[tuple[str, Message]]:
    """Messages of a moment by topic."""
    header = episode.records.header
    for camera, image in moment.images.items():
        picture = foxglove("CompressedImage")(
            timestamp=stamp, frame_id=camera, data=jpeg(image), format="jpeg"
        )
        yield f"/cameras/{camera}/image", picture
    for camera, view in moment.views.items():
        yield f"/cameras/{camera}/calibration", _calibration(camera, view, stamp)
    yield "/tf", foxglove("FrameTransforms")(transforms=_transforms(moment, stamp))
    yield "/state", _values(stamp, header.state_names, moment.state)
    if moment.step is not None:
        yield "/action", _values(stamp, header.action_names, moment.step.action)
        yield "/executed", _values(stamp, header.action_names, moment.step.executed)


def _calibration(camera: str, view: CameraView, stamp: Timestamp) -> Message:
    return foxglove("CameraCalibration")(
        timestamp=stamp,
        frame_id=camera,
        width=view.width,
        height=view.height,
        K=view.intrinsics.ravel(),
        R=np.eye(3).ravel(),
        P=np.column_stack([view.intrinsics, np.zeros(3)]).ravel(),
    )


def _transforms(moment: Moment, stamp: Timestamp) -> Iterator[Message]:
    """Cameras, things and grippers in the world frame."""
    for camera, view in moment.views.items():
        rotation = view.extrinsics[:, :3].T
        yield _transform(camera, stamp, -rotation @ view.extrinsics[:, 3], _quaternion(rotation))
    if moment.scene is not None:
        for thing, pose in moment.scene.poses.items():
            yield _transform(thing, stamp, pose.position_m, pose.quaternion)
        for index, gripper in enumerate(moment.scene.grippers):
            yield _transform(f"gripper {index}", stamp, gripper.position_m, np.array([1.0, 0.0, 0.0, 0.0]))


def _transform(child: str, stamp: Timestamp, position: np.ndarray, quaternion: np.ndarray) -> Message:
    (x, y, z), (w, i, j, k) = position, quaternion
    return foxglove("FrameTransform")(
        timestamp=stamp,
        parent_frame_id=WORLD,
        child_frame_id=child,
        translation=foxglove("Vector3")(x=x, y=y, z=z),
        rotation=foxglove("Quaternion")(x=i, y=j, z=k, w=w),
    )


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """Quaternion, scalar first."""
    return np.roll(Rotation.from_matrix(rotation).as_quat(), 1)


def _values(stamp: Timestamp, names: Iterable[str], values: np.ndarray) -> Message:
    joints = [
        foxglove("JointState")(name=name, position=float(value))
        for name, value in zip(names, values, strict=True)
    ]
    return foxglove("JointStates")(timestamp=stamp, joints=joints)


def _step(moment: Moment) -> dict[str, Any]:
    step, scene = moment.step, moment.scene
    assert step is not None
    return {
        "step": step.step,
        "query": moment.query.query,
        "reward": step.reward,
        "success": step.success,
        "held": list(scene.held) if scene else [],
        "contacts": [contact._asdict() for contact in scene.contacts] if scene else [],
    }


def _said(stamp: Timestamp, query: RecordedQuery) -> Message:
    log = foxglove("Log")
    return log(timestamp=stamp, level=log.INFO, name=f"query {query.query}", message=query.instruction)


def _query(query: RecordedQuery) -> dict[str, Any]:
    return {
        "query": query.query,
        "instruction": query.instruction,
        "state": query.state.tolist(),
        "chunk": query.chunk.tolist(),
        "total_ms": query.latency.total_ms if query.latency else 0.0,
    }
