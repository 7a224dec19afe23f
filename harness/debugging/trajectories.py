"""Compute where the chunks of an episode lead, where its robot went, and how cameras see both.

A predicted trajectory is what the simulator does from the saved state of a query if the whole chunk is executed as the
policy gave it: without the queries that interrupted it, the delay and the perturbation of actions. It assumes nothing
of the meaning of actions, and contacts and the controller act as they would.

Axis letters: h image height, w image width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from simloop.envs.camera_view import CameraView
from simloop.envs.interface import Env
from simloop.harness.adapters.registry import filmed_cameras
from simloop.harness.debugging.episodes import EpisodeError, PlannedEpisode, find_episode
from simloop.harness.debugging.playback import played_back, restore
from simloop.harness.errors import SimloopError
from simloop.harness.recording.run_folder import write_atomically
from simloop.results.records.paths import trajectories_path
from simloop.results.records.step_records import RecordedQuery, StepRecords, load_steps
from simloop.results.records.trajectories import Affine, Path3D, Point, Projection, Trajectories

STILL = 1e-6
"""Entries of a projection that differ by less are those of a camera that stands still."""


def write_trajectories(run: Path, name: str) -> Path:
    """Compute the trajectories of an episode of a run, and write them beside its step records.

    Raises:
      EpisodeError, StepRecordsError, StateError: If there are no step records, or this machine does not repeat them, or
        the suite does not tell where its grippers are.
    """
    episode = find_episode(run, name)
    records = load_steps(run, episode.spec.id)
    with contextlib.closing(episode.make_env()) as env:
        found = trajectories(episode, records, env)
    path = run / trajectories_path(episode.spec.id)
    write_atomically(path, found.to_bytes())
    return path


def trajectories(episode: PlannedEpisode, records: StepRecords, env: Env) -> Trajectories:
    """Compute the trajectories of a recorded episode in an environment of its task.

    Raises:
      EpisodeError: If the suite does not tell where its grippers are, or the simulator is not that of the run.
      StateError: If this machine cannot use the saved states.
    """
    inputs = {camera: episode.adapter.cameras[camera] for camera in records.header.cameras}
    video = _filmed(episode, env)
    executed: Path3D = []
    projections: dict[str, list[Projection]] = {
        camera: [] for camera in dict.fromkeys([*inputs.values(), *video])
    }
    for _ in played_back(episode, records, env):
        executed.append(_grippers(env))
        for camera, found in projections.items():
            if (view := env.view(camera)) is not None:
                found.append(_projection(view))
    render = episode.experiment.protocol.render
    affine = image_affine(episode.adapter.image, render.height, render.width)
    return Trajectories(
        actions_sha256=records.actions_sha256,
        executed=executed,
        predicted=[_predicted(episode, query, env) for query in records.queries],
        cameras={camera: _thinned(found) for camera, found in projections.items() if found},
        inputs={camera: (suite, affine) for camera, suite in inputs.items()} if affine else {},
        video=list(video),
        aspect=render.height / render.width,
    )


def _predicted(episode: PlannedEpisode, query: RecordedQuery, env: Env) -> Path3D:
    """The trajectory of a whole chunk; its beginning alone if the tokens decode to none."""
    restore(episode, query, env)
    path = [_grippers(env)]
    if query.undecodable is not None:
        return path
    for action in episode.adapter.actions(env.spec, query.chunk):
        try:
            env.step(action)
        except (
            ValueError,
            RuntimeError,
        ):  # An action that is not finite, an unstable simulation, the step limit.
            break
        path.append(_grippers(env))
    return path


def _grippers(env: Env) -> list[Point]:
    scenes = env.scenes([env.snapshot()])
    if scenes is None or not scenes[0].grippers:
        raise EpisodeError(
            f"Suite {env.spec.suite} does not tell where its grippers are (Env.scenes), so there are no trajectories."
        )
    return [_point(*gripper.position_m, gripper.opening_m) for gripper in scenes[0].grippers]


def _point(*values: float) -> Point:
    x, y, z, opening = (round(float(value), 5) for value in values)  # Hundredths of a millimetre.
    return x, y, z, opening


def _projection(view: CameraView) -> Projection:
    matrix = np.diag([1 / view.width, 1 / view.height, 1]) @ view.intrinsics @ view.extrinsics
    return tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in matrix)


def _thinned(projections: list[Projection]) -> list[Projection]:
    return projections[:1] if np.ptp(np.array(projections), axis=0).max() < STILL else projections


def _filmed(episode: PlannedEpisode, env: Env) -> tuple[str, ...]:
    """Cameras in the video of the episode; none if a policy of the run is not known on this machine."""
    try:
        return filmed_cameras(episode.experiment.policy_specs().values(), [env.spec])
    except (SimloopError, ImportError):
        return ()


def image_affine(convert: Callable[[np.ndarray], np.ndarray], height: int, width: int) -> Affine | None:
    """How an adapter moves pixels, in units of width and height; None if it is no affine map.

    The adapter is given images whose colours are their coordinates.

    Args:
      convert: `Adapter.image`.
      height, width: Of the suite's images.
    """
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    horizontal = _coordinates(convert, columns, width)
    vertical = _coordinates(convert, rows, height)
    inside = (horizontal > 0) & (vertical > 0)  # Padding is black.
    v, u = (np.argwhere(inside) + 0.5).T / np.array(inside.shape)[:, None]
    source = np.column_stack([horizontal[inside], vertical[inside], np.ones(len(u))])
    target = np.column_stack([u, v])
    matrix, *_ = np.linalg.lstsq(source, target, rcond=None)
    off = np.abs(source @ matrix - target)
    if len(u) < 3 or np.quantile(off, 0.95) > 2 / min(
        inside.shape
    ):  # Padding shines into the edge beside it.
        return None
    to_u, to_v = (
        (float(column[0]), float(column[1]), float(column[2]))
        for column in np.round(matrix, 5).T.reshape(2, 3)
    )
    return to_u, to_v


def _coordinates(
    convert: Callable[[np.ndarray], np.ndarray], index: np.ndarray, size: int
) -> Float64[np.ndarray, "h w"]:
    """Coordinate of the source of every pixel in units of the size; 0 where there is none."""
    grey = 1 + index * 254.0 / max(1, size - 1)
    image = np.repeat(grey[..., None], 3, axis=-1).round().astype(np.uint8)
    seen = convert(image)[..., 0].astype(np.float64)
    return np.where(seen > 0, ((seen - 1) / 254.0 * (size - 1) + 0.5) / size, 0.0)
