"""What a model learns from is what it will be asked: same pictures, states and prompts."""

import dataclasses

import numpy as np
import pytest

from simloop.policies.inference.query_encoder import QueryEncoder
from simloop.policies.interface import Query
from simloop.policies.presets import PRESETS
from simloop.policies.training.config import TrainConfig
from simloop.policies.training.dataset_layout import DatasetError
from simloop.policies.training.dataset_statistics import chunk_rows, data_stats
from simloop.policies.training.dataset_writer import write_dataset
from simloop.policies.training.errors import TrainingError
from simloop.policies.training.examples import Shuffle
from simloop.policies.training.prepared import prepare
from simloop.policies.training.setup import Setup, set_up
from simloop.policies.transforms.normalization import Normalizer
from simloop.policies.transforms.preprocessing import resize_with_pad
from tests.helpers.demonstrations import CAMERAS, demonstration, header, small_dataset

KEYS = {camera: f"observation.images.{camera}" for camera in CAMERAS}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("data") / "points", episodes=3, steps=20)


def ready(data, out, preset: str, **changes) -> Setup:
    return set_up(TrainConfig(preset=preset, data=(data,), out=out, action_vocabulary=400, **changes), str)


@pytest.mark.parametrize("preset", ["pi0-tiny", "pi05-tiny", "pi0_fast-tiny"])
def test_examples_equal_encoded_queries(data, tmp_path, preset):
    setup = ready(data, tmp_path, preset)
    prepared, chosen = setup.data, setup.preset
    frames = np.array([3, 30, 11, 30])
    batch = setup.examples.batch(frames).inputs
    state = Normalizer(chosen.normalization, setup.stats["state"])
    encoder = QueryEncoder(chosen, setup.tokenizers.text, state, state)
    for i, frame in enumerate(frames):
        query = Query(
            task="",
            instruction=prepared.instructions[prepared.task_of_frame[frame]],
            key=0,
            state=prepared.states[frame],
            images={camera: np.asarray(prepared.frames[camera][frame]) for camera in CAMERAS},
        )
        row = encoder.encode(query)
        np.testing.assert_allclose(batch.state[i], row.state, atol=1e-6)
        prompt = row.tokens[row.token_mask]
        np.testing.assert_array_equal(batch.tokens[i][: len(prompt)], prompt)
        for camera in CAMERAS:
            np.testing.assert_array_equal(batch.images[camera][i], row.images[camera])
        if preset != "pi0_fast-tiny":
            assert batch.token_mask[i].sum() == len(prompt)


def test_chunks_hold_the_next_actions_and_repeat_the_last(data, tmp_path):
    setup = ready(data, tmp_path, "pi0-tiny")
    actions = Normalizer("z_score", setup.stats["actions"])
    batch = setup.examples.batch(np.array([0, 15]))
    first, near_end = actions.unnormalize(np.asarray(batch.actions, np.float64))
    steps = setup.preset.model.action_horizon
    assert steps > 5
    np.testing.assert_allclose(first, setup.data.actions[:steps], atol=1e-5)
    np.testing.assert_allclose(near_end[:5], setup.data.actions[15:20], atol=1e-5)
    np.testing.assert_allclose(near_end[5:], np.tile(setup.data.actions[19], (steps - 5, 1)), atol=1e-5)
    assert chunk_rows(np.array([18]), setup.data.episode_end, 4).tolist() == [[18, 19, 19, 19]]


def test_answers_encode_the_actions(data, tmp_path):
    setup = ready(data, tmp_path, "pi0_fast-tiny")
    frames = np.arange(0, setup.data.size, 7)
    steps = setup.preset.model.action_horizon
    inputs = setup.examples.batch(frames).inputs
    for i, frame in enumerate(frames):
        answer = inputs.tokens[i][inputs.token_loss_mask[i]]
        assert answer[-1] == 1, "the end token is learnt too"
        decoded = setup.tokenizers.answer.decode(answer[:-1], steps=steps, size=4)
        chunk = setup.data.actions[chunk_rows(np.array([frame]), setup.data.episode_end, steps)[0]]
        wanted = Normalizer("quantile", setup.stats["actions"]).normalize(chunk.astype(np.float64))
        assert np.abs(decoded.actions - wanted).max() < 0.15, "coefficients are rounded to tenths"
    np.testing.assert_array_equal(inputs.token_ar_mask.astype(bool), inputs.token_loss_mask)
    assert not (inputs.token_loss_mask & ~inputs.token_mask).any()


def test_relative_actions_subtract_the_state_of_their_frame(data, tmp_path, monkeypatch):
    relative = dataclasses.replace(PRESETS["pi0-tiny"], relative=(True, True, False))
    monkeypatch.setitem(PRESETS, "pi0-tiny", relative)
    setup = ready(data, tmp_path, "pi0-tiny")
    batch = setup.examples.batch(np.array([4]))
    actions = Normalizer("z_score", setup.stats["actions"]).unnormalize(np.asarray(batch.actions[0], float))
    shift = np.append(setup.data.states[4][:2], [0.0, 0.0])
    np.testing.assert_allclose(actions + shift, setup.data.actions[4 : 4 + len(actions)], atol=1e-5)


def test_draws_every_frame_once_per_epoch():
    frames = np.arange(10, 33)
    order = Shuffle(frames, 4, seed=5)
    drawn = np.concatenate([order.frames_of(step) for step in range(23)])
    for turn in range(4):
        assert sorted(drawn[23 * turn : 23 * (turn + 1)]) == list(frames)
    assert not np.array_equal(drawn[:23], drawn[23:46])
    fresh = Shuffle(frames, 4, seed=5)
    np.testing.assert_array_equal(fresh.frames_of(17), order.frames_of(17))
    assert not np.array_equal(Shuffle(frames, 4, seed=6).frames_of(0), order.frames_of(0))


def test_statistics_cover_the_chunks(data):
    prepared = prepare(data, KEYS, 96)
    preset = PRESETS["pi05-tiny"]
    stats = data_stats(prepared, preset)
    rows = chunk_rows(np.arange(prepared.size), prepared.episode_end, preset.model.action_horizon)
    chunks = prepared.actions[rows].reshape(-1, 4).astype(np.float64)
    np.testing.assert_allclose(stats["actions"].mean, chunks.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(stats["state"].std, prepared.states.std(axis=0), atol=1e-5)
    low, high = np.quantile(chunks, [0.01, 0.99], axis=0)
    np.testing.assert_allclose(stats["actions"].q01, low, atol=0.02)
    np.testing.assert_allclose(stats["actions"].q99, high, atol=0.02)


def test_rarely_changing_entries_get_their_whole_range(tmp_path):
    steady = demonstration(0, steps=300)
    steady.actions[:, 3] = 1.0
    steady.actions[:, 2] = -1.0
    steady.actions[150, 2] = 1.0
    write_dataset(tmp_path / "data", header(), [steady])
    prepared = prepare(tmp_path / "data", KEYS, 96)
    stats = data_stats(prepared, dataclasses.replace(PRESETS["pi05-tiny"]))
    normalized = Normalizer("quantile", stats["actions"]).normalize(prepared.actions.astype(np.float64))
    assert np.abs(normalized[:, 2]).max() < 1.5
    np.testing.assert_allclose(normalized[:, 3], 0.0, atol=1e-5)


def test_prepares_once_and_opens_without_the_dataset(data, tmp_path):
    messages: list[str] = []
    prepared = prepare(data, KEYS, 32, log=messages.append)
    again = prepare(data, KEYS, 32, log=messages.append)
    assert len(messages) == 1
    assert again.sha256 == prepared.sha256
    moved = prepared.folder.rename(tmp_path / "elsewhere")
    alone = prepare(moved, KEYS, 32)
    assert alone.sha256 == prepared.sha256
    for camera in CAMERAS:
        assert alone.frames[camera].shape == (prepared.size, 32, 32, 3)
        assert isinstance(alone.frames[camera], np.memmap)
    with pytest.raises(DatasetError, match="prepared with image_size 32; this run needs 96"):
        prepare(moved, KEYS, 96)


def test_frames_are_resized_as_at_inference(data):
    small, large = prepare(data, KEYS, 16), prepare(data, KEYS, 32)
    for camera in CAMERAS:
        for row in (0, 40):
            wanted = resize_with_pad(np.asarray(large.frames[camera][row]), 16, 16)
            np.testing.assert_array_equal(small.frames[camera][row], wanted)


def test_rejects_data_with_too_many_long_answers(data, tmp_path, monkeypatch):
    whole = PRESETS["pi0_fast-tiny"]
    short = dataclasses.replace(whole, model=dataclasses.replace(whole.model, max_token_len=36))
    monkeypatch.setitem(PRESETS, "pi0_fast-tiny", short)
    with pytest.raises(
        TrainingError, match=r"frames, \d+ have actions that take more tokens than pi0_fast-tiny"
    ):
        ready(data, tmp_path, "pi0_fast-tiny")
