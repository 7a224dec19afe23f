"""An episode as a recording of Rerun (.rrd): cameras, scene, actions, chunks and rewards on one timeline.

Axis letters: n moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simloop.harness.export.exported_episode import ExportedEpisode, Moment
from simloop.policies.files.images import jpeg

if TYPE_CHECKING:
    import rerun as rr
    import rerun.blueprint as rrb

APPLICATION = "simloop"
STEP, TIME = "step", "time"
"""Timelines: control steps executed, and seconds since the beginning of the episode."""
AXIS_M = 0.05


def write_rerun(episode: ExportedEpisode, path: Path) -> None:
    """Write an episode as an .rrd file, which opens with cameras above the scene and curves.

    Raises:
      EpisodeError, StateError: As `ExportedEpisode.moments`.
    """
    import rerun as rr

    moments = list(episode.moments())
    with rr.RecordingStream(APPLICATION, recording_id=episode.name) as recording:
        recording.save(path, default_blueprint=blueprint(tuple(moments[0].images)))
        recording.send_recording_name(episode.name)
        recording.send_property("episode", rr.AnyValues(**episode.metadata))
        recording.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        recording.log("instruction", rr.TextDocument(episode.instruction), static=True)
        writer = _Writer(recording, moments)
        for camera in moments[0].images:
            writer.camera(camera)
        writer.scene()
        writer.steps(episode)
        writer.queries(episode)
        recording.flush()


def blueprint(cameras: Sequence[str]) -> rrb.Blueprint:
    """What an episode opens with: cameras and scene above, curves below, what happened beside them."""
    import rerun.blueprint as rrb

    views = [rrb.Spatial2DView(origin=f"world/cameras/{camera}", name=camera) for camera in cameras]
    curves = [
        rrb.TimeSeriesView(origin=origin, name=origin)
        for origin in ("executed", "state", "reward", "contacts")
    ]
    return rrb.Blueprint(
        rrb.Vertical(
            rrb.Horizontal(*views, rrb.Spatial3DView(origin="world", name="scene")),
            rrb.Horizontal(
                rrb.Vertical(*curves[:2]),
                rrb.Vertical(*curves[2:]),
                rrb.Vertical(
                    rrb.TensorView(origin="chunk", name="chunk"),
                    rrb.TextLogView(origin="events", name="events"),
                ),
            ),
            row_shares=[3, 2],
        ),
        rrb.TimePanel(state="collapsed", timeline=STEP),
        rrb.BlueprintPanel(state="collapsed"),
        rrb.SelectionPanel(state="collapsed"),
    )


class _Writer:
    def __init__(self, recording: rr.RecordingStream, moments: Sequence[Moment]):
        self._recording = recording
        self._moments = moments

    def _send(self, entity: str, moments: Sequence[Moment], columns: rr.ComponentColumnList) -> None:
        import rerun as rr

        indexes = [
            rr.TimeColumn(STEP, sequence=[moment.steps for moment in moments]),
            rr.TimeColumn(TIME, duration=[moment.time_s for moment in moments]),
        ]
        self._recording.send_columns(entity, indexes, columns)

    def camera(self, camera: str) -> None:
        """Images, and where the camera is."""
        import rerun as rr

        entity, moments = f"world/cameras/{camera}", self._moments
        images = [jpeg(moment.images[camera]) for moment in moments]
        self._send(
            entity, moments, rr.EncodedImage.columns(blob=images, media_type=["image/jpeg"] * len(images))
        )
        views = [moment.views[camera] for moment in moments if camera in moment.views]
        if not views:
            return
        first = views[0]
        pinhole = rr.Pinhole(
            image_from_camera=first.intrinsics,
            resolution=[first.width, first.height],
            camera_xyz=rr.ViewCoordinates.RDF,
            image_plane_distance=0.2,
        )
        self._recording.log(entity, pinhole, static=True)
        poses = [view.extrinsics for view in views]
        columns = rr.Transform3D.columns(
            translation=[-pose[:, :3].T @ pose[:, 3] for pose in poses],
            mat3x3=[pose[:, :3].T for pose in poses],
        )
        self._send(entity, moments, columns)

    def scene(self) -> None:
        """Poses of things, and the grippers with their openings."""
        import rerun as rr

        told = [(moment, moment.scene) for moment in self._moments if moment.scene is not None]
        if not told:
            return
        moments = [moment for moment, _ in told]
        for thing in told[0][1].poses:
            poses = [scene.poses[thing] for _, scene in told]
            self._recording.log(f"world/things/{thing}", rr.TransformAxes3D(AXIS_M), static=True)
            columns = rr.Transform3D.columns(
                translation=[pose.position_m for pose in poses],
                quaternion=[np.roll(pose.quaternion, -1) for pose in poses],
            )
            self._send(f"world/things/{thing}", moments, columns)
        for index in range(len(told[0][1].grippers)):
            grippers = [scene.grippers[index] for _, scene in told]
            positions = np.array([gripper.position_m for gripper in grippers])
            self._recording.log(f"world/grippers/{index}/path", rr.LineStrips3D([positions]), static=True)
            points = rr.Points3D.columns(
                positions=positions, radii=[gripper.opening_m / 2 for gripper in grippers]
            )
            self._send(f"world/grippers/{index}", moments, points)
        touched = {contact.other for _, scene in told for contact in scene.contacts}
        for other in sorted(touched):
            forces = [sum(c.force_n for c in scene.contacts if c.other == other) for _, scene in told]
            self._send(f"contacts/{other}", moments, rr.Scalars.columns(scalars=forces))

    def steps(self, episode: ExportedEpisode) -> None:
        """State at every moment; action, reward and success of every step, at the moment after it."""
        import rerun as rr

        header = episode.records.header
        for i, name in enumerate(header.state_names):
            states = [moment.state[i] for moment in self._moments]
            self._send(f"state/{name}", self._moments, rr.Scalars.columns(scalars=states))
        after = [(moment, moment.step) for moment in self._moments if moment.step is not None]
        moments = [moment for moment, _ in after]
        for i, name in enumerate(header.action_names):
            for kind in ("action", "executed"):
                values = [getattr(step, kind)[i] for _, step in after]
                self._send(f"{kind}/{name}", moments, rr.Scalars.columns(scalars=values))
        for kind in ("reward", "success"):
            values = [float(getattr(step, kind)) for _, step in after]
            self._send(kind, moments, rr.Scalars.columns(scalars=values))

    def queries(self, episode: ExportedEpisode) -> None:
        """The whole chunk and the latency of every query, at its moment."""
        import rerun as rr

        queries = episode.records.queries
        moments = [self._moments[query.step] for query in queries]
        for query, moment in zip(queries, moments, strict=True):
            self._recording.set_time(STEP, sequence=moment.steps)
            self._recording.set_time(TIME, duration=moment.time_s)
            self._recording.log("chunk", rr.Tensor(query.chunk, dim_names=("action", "entry")))
            self._recording.log("events", rr.TextLog(f"query {query.query}: {query.instruction}"))
        self._recording.reset_time()
        answered = [
            (moment, query.latency) for moment, query in zip(moments, queries, strict=True) if query.latency
        ]
        if answered:
            totals = [latency.total_ms for _, latency in answered]
            self._send("latency_ms", [moment for moment, _ in answered], rr.Scalars.columns(scalars=totals))
