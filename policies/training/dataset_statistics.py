"""Normalization statistics and action tokenizers of a dataset.

Axis letters: n frames, b frames of a batch, c chunk steps, a action size, d entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

from simloop.policies.presets import Preset
from simloop.policies.tokenizers.fast_actions import FastActionTokenizer, fit_fast_actions
from simloop.policies.training.prepared import PreparedData
from simloop.policies.transforms.image_statistics import ImageStats, averaged, fit_image_stats
from simloop.policies.transforms.normalization import EntryStats, Normalizer, NormStats, RunningStats

BATCH_FRAMES = 4096
MAX_FITTED_CHUNKS = 100_000
MAX_FITTED_IMAGES = 2_000
MIN_QUANTILE_RANGE = 0.01
"""Least ratio of the range between the quantiles to the whole range."""


def chunk_rows(
    frames: Int[np.ndarray, " b"], episode_end: Int[np.ndarray, " n"], steps: int
) -> Int[np.ndarray, "b c"]:
    """Action rows of each frame's chunk; after the end of the episode, its last row is repeated."""
    rows = frames[:, None] + np.arange(steps)[None]
    return np.minimum(rows, episode_end[frames][:, None] - 1)


def action_chunks(
    data: PreparedData, frames: Int[np.ndarray, " b"], steps: int, relative: Sequence[bool]
) -> Float[np.ndarray, "b c a"]:
    """Action chunks in robot units, entries in `relative` minus the state of the frame."""
    actions = data.actions[chunk_rows(frames, data.episode_end, steps)].astype(np.float64)
    if any(relative):
        n = len(relative)
        actions[:, :, :n] -= np.where(relative, data.states[frames][:, :n], 0.0)[:, None]
    return actions


def data_stats(data: PreparedData, preset: Preset) -> NormStats:
    """Statistics of states and action chunks over all frames."""
    states, actions = _RobustStats(), _RobustStats()
    for frames in _batches(data.size):
        states.update(data.states[frames].astype(np.float64))
        actions.update(action_chunks(data, frames, preset.model.action_horizon, preset.relative))
    return {"state": states.stats(), "actions": actions.stats()}


def data_image_stats(data: PreparedData) -> dict[str, ImageStats]:
    """Statistics of the images of every camera: fitted to every other episode, with distances of the others' images.

    A dataset of one episode is fitted and measured as a whole.
    """
    frames = np.arange(0, data.size, -(-data.size // MAX_FITTED_IMAGES))
    _, episodes = np.unique(data.episode_end[frames], return_inverse=True)
    left_out = episodes % 2 == 1 if episodes.max() else np.ones(len(frames), np.bool_)
    fitted = ~left_out if episodes.max() else left_out
    found = {}
    for camera, images in data.frames.items():
        entries = np.stack([averaged(images[frames[[i]]][0]) for i in range(len(frames))])
        found[camera] = fit_image_stats(entries[fitted], entries[left_out])
    return found


def fit_action_tokens(
    data: PreparedData,
    preset: Preset,
    actions: Normalizer,
    *,
    vocabulary: int | None,
    scale: float,
) -> FastActionTokenizer:
    """Fit an action tokenizer to the chunks of the data.

    Two chunks at the corners of the normalized range are added, so that every chunk within it can be encoded.

    Args:
      data: Prepared dataset.
      preset: Model and robot.
      actions: Normalizer of actions.
      vocabulary: As in `fit_fast_actions`.
      scale: As in `fit_fast_actions`.
    """
    stride = -(-data.size // MAX_FITTED_CHUNKS)
    frames = np.arange(0, data.size, stride)
    shape = (preset.model.action_horizon, preset.action_size)
    normalized = actions.normalize(action_chunks(data, frames, shape[0], preset.relative))
    corners = [np.ones(shape), -np.ones(shape)]
    return fit_fast_actions([*corners, *normalized], vocab_size=vocabulary, scale=scale)


def _batches(size: int) -> Iterator[np.ndarray]:
    for begin in range(0, size, BATCH_FRAMES):
        yield np.arange(begin, min(begin + BATCH_FRAMES, size))


class _RobustStats:
    """Running statistics with usable ranges for entries that rarely change.

    A gripper that is open in all but a few frames has equal quantiles, and dividing by their difference would
    make the other frames enormous. Such an entry gets its whole range instead of the quantiles, and a constant
    entry a range of one unit to both sides.
    """

    def __init__(self) -> None:
        self._running = RunningStats()
        self._low: np.ndarray | None = None
        self._high: np.ndarray | None = None

    def update(self, x: Shaped[np.ndarray, "*n d"]) -> None:
        flat = x.reshape(-1, x.shape[-1])
        low, high = flat.min(axis=0), flat.max(axis=0)
        self._low = low if self._low is None else np.minimum(low, self._low)
        self._high = high if self._high is None else np.maximum(high, self._high)
        self._running.update(flat)

    def stats(self) -> EntryStats:
        stats = self._running.stats()
        low, high = self._low, self._high
        assert low is not None
        assert high is not None
        assert stats.q01 is not None
        assert stats.q99 is not None
        constant = high - low < 1e-9 + 1e-6 * np.abs(high)
        narrow = stats.q99 - stats.q01 < MIN_QUANTILE_RANGE * (high - low)
        q01, q99 = np.where(narrow, low, stats.q01), np.where(narrow, high, stats.q99)
        return EntryStats(
            mean=stats.mean,
            std=np.where(constant, 1.0, stats.std),
            q01=np.where(constant, stats.mean - 1.0, q01),
            q99=np.where(constant, stats.mean + 1.0, q99),
        )
