"""Small recorded episodes without a simulator: a coloured square that moves as the actions say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simloop.policies.files.video import VideoEncoder
from simloop.policies.training.dataset_writer import DatasetHeader, write_dataset
from simloop.policies.training.demonstration import Demonstration, image_stats

FPS = 20
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb")
INSTRUCTIONS = ("Push the puck to a goal", "Open a drawer")


def picture(state: np.ndarray, camera: str, size: int) -> np.ndarray:
    """A square whose place is the first two entries of the state; colours differ between cameras."""
    image = np.full((size, size, 3), 60, np.uint8)
    y, x = (np.clip(state[:2] * 0.5 + 0.5, 0, 1) * (size - 8)).astype(int)
    image[y : y + 8, x : x + 8] = (220, 40, 40) if camera == CAMERAS[0] else (40, 220, 40)
    return image


def environment_states(states: np.ndarray) -> np.ndarray:
    """Where the square is, in another unit than the state has it, and a number that never changes."""
    return np.concatenate([0.3 * states[:, :2], np.full((len(states), 1), 7.0)], axis=1).astype(np.float32)


def demonstration(
    seed: int, *, steps: int = 24, size: int = 32, cameras: Sequence[str] = CAMERAS, state_size: int = 4
) -> Demonstration:
    """An episode that moves from a random place to the middle."""
    rng = np.random.default_rng(seed)
    state = rng.uniform(-0.9, 0.9, state_size).astype(np.float32)
    states, actions = [], []
    encoders = {camera: VideoEncoder(FPS) for camera in cameras}
    pictures: dict[str, list[np.ndarray]] = {camera: [] for camera in cameras}
    for _ in range(steps):
        action = np.clip(-state[:4], -1, 1).astype(np.float32)
        states.append(state.copy())
        actions.append(action)
        for camera, encoder in encoders.items():
            pictures[camera].append(picture(state, camera, size))
            encoder.add(pictures[camera][-1])
        state = state.copy()
        state[:4] += 0.1 * action
    return Demonstration(
        suite="points",
        task=f"task-{seed % 2}",
        episode=seed,
        seed=1000 + seed,
        instruction=INSTRUCTIONS[seed % 2],
        success=True,
        states=np.stack(states),
        actions=np.stack(actions),
        environment_states=environment_states(np.stack(states)),
        videos={camera: encoder.finish() for camera, encoder in encoders.items()},
        image_stats={camera: image_stats(frames) for camera, frames in pictures.items()},
    )


def header(*, size: int = 32, cameras: Sequence[str] = CAMERAS, state_size: int = 4) -> DatasetHeader:
    """What the episodes of `demonstration` share."""
    return DatasetHeader(
        robot="metaworld",
        fps=FPS,
        state_names=tuple(f"s{i}" for i in range(state_size)),
        action_names=("dx", "dy", "dz", "grip"),
        cameras=tuple(cameras),
        image_hw=(size, size),
        environment_size=3,
        notes={"suite": "points"},
    )


def small_dataset(folder: Path, episodes: int = 3, *, size: int = 32, steps: int = 24) -> Path:
    """A dataset of such episodes on disk."""
    made = (demonstration(seed, size=size, steps=steps + seed) for seed in range(episodes))
    write_dataset(folder, header(size=size), made)
    return folder
