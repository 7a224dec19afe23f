"""Compare a suite, as a policy sees it, with demonstrations: first images and states, prompts, and replayed actions.

Axis letters: n frames, k first frames, s state size, a action size, h image height, w image width, t steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from simloop.envs.interface import Env
from simloop.harness.adapters.base import Adapter
from simloop.harness.gate.causes import FLOOR
from simloop.harness.gate.findings import Finding
from simloop.harness.gate.orientations import MIN_CORRELATION, best_match
from simloop.harness.gate.training import Training
from simloop.policies.training.dataset_layout import IMAGE_PREFIX
from simloop.policies.training.dataset_reader import Dataset, open_dataset
from simloop.policies.transforms.normalization import EntryStats

EPISODES = 4
"""Demonstrations of a task whose first frames and actions are used."""
STEPS = 60
"""Actions of a demonstration that are executed."""
MOVED = 0.1
"""Share of the usual range of an entry beyond which it counts as moved."""


@dataclass(frozen=True)
class Demonstrations:
    """A dataset of demonstrations in the convention of the policy, and its cameras by the policy's names."""

    data: Dataset
    cameras: Mapping[str, str]

    @property
    def training(self) -> Training:
        """The demonstrations as training data."""
        stats = {"state": _stats(self.data.states), "actions": _stats(self.data.actions)}
        return Training(stats, instructions=self.data.instructions, fps=self.data.fps)

    def episodes(self, instruction: str) -> list[tuple[int, int]]:
        """First and last frame of some demonstrations of an instruction; of any, if it has none."""
        bounds = [(episode.begin, episode.end) for episode in self.data.episodes]
        texts = [self.data.instructions[self.data.task_of_frame[begin]] for begin, _ in bounds]
        own = [bound for bound, text in zip(bounds, texts, strict=True) if text == instruction]
        return (own or bounds)[:EPISODES]

    def first_states(self, instruction: str) -> Training:
        """The first states of demonstrations, with a deviation of at least a twentieth of the range of all states."""
        states = np.stack([self.data.states[begin] for begin, _ in self.episodes(instruction)])
        spread = np.maximum(states.std(axis=0), 0.05 * np.ptp(self.data.states, axis=0))
        return Training({"state": EntryStats(states.mean(axis=0), spread)})

    def first_images(self, instruction: str) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
        """Mean image of the first frames of demonstrations, by camera."""
        wanted = {begin for begin, _ in self.episodes(instruction)}
        found = {}
        for camera, key in self.cameras.items():
            frames = []
            for row, image in self.data.images(key):
                if row in wanted:
                    frames.append(image.astype(np.float64))
                if len(frames) == len(wanted):
                    break
            found[camera] = np.mean(frames, axis=0).astype(np.uint8)
        return found


def read_demonstrations(folder: Path, cameras: Sequence[str]) -> Demonstrations:
    """Open a dataset, and find the cameras of a policy in it by their names.

    Raises:
      DatasetError: If the folder is no dataset.
    """
    from simloop.policies.presets.recorded import CAMERAS  # Imports JAX.

    data, keys = open_dataset(folder), dict[str, str]()
    short = {key.removeprefix(IMAGE_PREFIX).rpartition(".")[2]: key for key in data.cameras}
    for camera in cameras:
        for name in (camera, *CAMERAS.get(camera, ())):
            if name in short:
                keys.setdefault(camera, short[name])
    return Demonstrations(data, keys)


def image_findings(
    images: Mapping[str, UInt8[np.ndarray, "h w 3"]], first: Mapping[str, np.ndarray]
) -> Iterator[Finding]:
    """Compare what the policy sees after a reset with the first images of demonstrations, by camera."""
    matches = {
        camera: best_match(image, camera, first) for camera, image in images.items() if camera in first
    }
    swapped = {camera: match.camera for camera, match in matches.items() if match.camera != camera}
    for camera, match in matches.items():
        numbers = f"correlation {match.correlation:.2f}, as expected it would be {match.as_it_is:.2f}"
        if match.correlation < MIN_CORRELATION:
            yield Finding("images", "note", f"{camera} resembles no camera of the demonstrations ({numbers})")
        elif camera in swapped:
            text = (
                f"swapped cameras: {camera} shows what {match.camera} shows in the demonstrations ({numbers})"
            )
            yield Finding("cameras", "FAIL", text)
        elif match.orientation != "upright":
            text = f"{camera} is {match.orientation}, compared with the demonstrations ({numbers})"
            yield Finding("images", "FAIL", text)


def replay_findings(demonstrations: Demonstrations, env: Env, adapter: Adapter) -> Iterator[Finding]:
    """Execute the actions of demonstrations, and compare how far each entry of the state moves.

    An entry that moves the other way has an action with the wrong sign; entries that move a multiple of what they
    should have other units or another control rate.
    """
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for seed, (begin, end) in enumerate(demonstrations.episodes(env.spec.instruction)):
        actions = demonstrations.data.actions[begin:end][: min(STEPS, env.spec.max_steps)]
        env.reset(seed)
        states = [_state(adapter, env)]
        for action in adapter.actions(env.spec, actions):
            env.step(action)
            states.append(_state(adapter, env))
        shown = demonstrations.data.states[begin:end].astype(np.float64)
        steps = min(len(shown), len(states))
        pairs.append((np.stack(states[:steps]) - states[0], shown[:steps] - shown[0]))
    moved, wanted = (np.concatenate(part) for part in zip(*pairs, strict=True))
    usual = np.ptp(demonstrations.data.states, axis=0)
    entries = np.flatnonzero(np.abs(wanted).max(axis=0) > np.maximum(MOVED * usual, FLOOR / 2))
    ratios = (moved * wanted).sum(axis=0)[entries] / (wanted**2).sum(axis=0)[entries]
    yield from _ratio_findings(dict(zip(entries.tolist(), ratios.tolist(), strict=True)), env)


def _ratio_findings(ratios: Mapping[int, float], env: Env) -> Iterator[Finding]:
    """Findings on movements relative to those of demonstrations, by entry of the state."""
    names = env.spec.state_names

    def listed(chosen: Mapping[int, float]) -> str:
        return ", ".join(f"{names[i] if i < len(names) else i} by {ratio:.2f}" for i, ratio in chosen.items())

    reverse = {i: ratio for i, ratio in ratios.items() if ratio < -0.3}
    still = {i: ratio for i, ratio in ratios.items() if abs(ratio) <= 0.3}
    others = {i: ratio for i, ratio in ratios.items() if ratio > 0.3 and not 1 / 1.4 < ratio < 1.4}
    if reverse:
        text = f"the other sign: entries of the state move against the demonstrations ({listed(reverse)})"
        yield Finding("replayed actions", "FAIL", text)
    if still and len(still) > len(ratios) / 2:
        text = f"the robot hardly moves as in the demonstrations ({listed(still)}): other units, absolute for relative "
        yield Finding("replayed actions", "FAIL", f"{text}actions, or another order")
    elif still:
        yield Finding("replayed actions", "note", f"entries of the state hardly follow ({listed(still)})")
    if len(others) > len(ratios) / 2:
        text = f"the robot moves a multiple of the demonstrations ({listed(others)}): another control rate, or units"
        yield Finding("replayed actions", "FAIL", text)


def _state(adapter: Adapter, env: Env) -> Float[np.ndarray, "s"]:
    state: np.ndarray = adapter.convention.model_state(adapter.state(env).astype(np.float64))
    return state


def _stats(values: np.ndarray) -> EntryStats:
    low, high = np.quantile(values, [0.01, 0.99], axis=0)
    return EntryStats(values.mean(axis=0), values.std(axis=0), low, high)
