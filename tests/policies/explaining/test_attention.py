"""Attention out of the model's own pass equals a slow computation in NumPy; rows sum to one."""

from pathlib import Path

import jax
import numpy as np
import pytest

from simloop.harness.parity.comparison import load_arrays
from simloop.harness.parity.models import Case
from simloop.policies.explaining.attention import (
    TokenLayout,
    answer_attention,
    flow_attention,
    rollout,
)
from simloop.policies.explaining.programs import flow_paths, keeping_attention, read_answer
from tests.helpers.numpy_transformer import Stream, attention_weights
from tests.helpers.small_models import relative, run

GOLDEN = Path(__file__).parents[2] / "golden" / "models"


def first_row(batch):
    return jax.tree.map(lambda array: array[:1], batch)


def valid_tokens(config, batch):
    images = [
        np.repeat(np.asarray(batch.image_masks[c])[:1], config.tokens_per_image) for c in config.cameras
    ]
    return np.concatenate([*images, np.asarray(batch.token_mask)[0]])


def layout_of(config, batch, actions, state_token=False):
    side = int(config.tokens_per_image**0.5)
    pieces = ("x",) * int(np.asarray(batch.token_mask).sum())
    return TokenLayout(config.cameras, side, pieces, state_token, actions)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pi0_dummy", "pi05_dummy"])
def test_attention_of_flow_models_equals_a_slow_computation(name):
    case = Case(GOLDEN, name, "f32")
    config, batch = case.config, first_row(case.batch(all_cameras_valid=True))
    noise = case.recorded["suffix/noisy_actions"][:1]
    model = keeping_attention(case.model)

    def explained(model, batch, noise):
        schedule = model.schedule(2)
        suffix = model.embed_suffix(batch.state, noise, schedule.time[:1])
        condition = suffix.condition if config.time_conditioning == "adaptive_norm" else None
        return (
            flow_paths(model, schedule, batch, noise),
            model.embed_prefix(batch).tokens,
            suffix.tokens,
            condition,
        )

    paths, prefix, suffix, condition = run(model, explained, batch, noise)
    valid = valid_tokens(config, batch)
    state = suffix.shape[1] - config.action_horizon
    layout = layout_of(config, batch, config.action_horizon, bool(state))
    first_step = paths.__class__(paths.x, paths.onto_slots[:, :1], paths.of_prefix)
    found = flow_attention(first_step, valid, layout)

    streams = [
        Stream(np.asarray(prefix)[0][valid]),
        Stream(np.asarray(suffix)[0], None if condition is None else np.asarray(condition)[0]),
    ]
    size, read = layout.size, int(valid.sum())
    mask = np.zeros((size, size), bool)
    mask[:, :read] = True
    mask[read:, read : read + state] = True
    mask[read + state :, read:] = True
    params = load_arrays(GOLDEN / f"params_{name}.npz")
    wanted, _ = attention_weights(config, params, streams, np.arange(size), mask)
    assert np.abs(found.weights - wanted[:, :, read + state :]).max() < 1e-4
    np.testing.assert_allclose(found.weights.sum(axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(found.rollout.sum(axis=-1), 1, atol=1e-5)
    product = np.eye(size)
    for layer in wanted.mean(axis=1):
        product = (0.5 * layer + 0.5 * np.eye(size)) @ product
    assert np.abs(found.rollout - product[read + state :]).max() < 1e-4


@pytest.mark.slow
def test_attention_and_logits_of_token_models_equal_a_slow_computation():
    case = Case(GOLDEN, "pi0fast_dummy", "f32")
    config, batch = case.config, first_row(case.batch(prompt="in_prefix", all_cameras_valid=True))
    answer = np.array([7, 2000, 31, 1644, 2, 1], np.int32)
    model = keeping_attention(case.model)
    read, prefix, embedded = run(
        model,
        lambda model, batch, answer: (
            read_answer(model, batch, answer),
            model.embed_prefix(batch).tokens,
            model.transformer.embed(answer[None]),
        ),
        batch,
        answer,
    )
    valid = valid_tokens(config, batch)
    found = answer_attention(read, valid, layout_of(config, batch, len(answer)))

    tokens = np.concatenate([np.asarray(prefix)[0][valid], np.asarray(embedded)[0]])
    length, size = int(valid.sum()), len(tokens)
    positions = np.arange(size) + (np.arange(size) >= length)  # The published gap before an answer.
    mask = np.tri(size, dtype=bool)
    mask[:length, :length] = True
    params = load_arrays(GOLDEN / "params_pi0fast_dummy.npz")
    wanted, outputs = attention_weights(config, params, [Stream(tokens)], positions, mask)
    assert np.abs(found.weights - wanted[:, :, length - 1 : -1]).max() < 1e-4
    np.testing.assert_allclose(found.weights.sum(axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(found.rollout.sum(axis=-1), 1, atol=1e-5)

    scale = 1 + params["PaliGemma/llm/final_norm/scale"].astype(np.float64)
    unit = outputs / np.sqrt((outputs**2).mean(axis=-1, keepdims=True) + 1e-6)
    logits = (unit * scale) @ params["PaliGemma/llm/embedder/input_embedding"].astype(np.float64).T
    assert relative(read.logits[0], logits[length - 1 :]) < 1e-4


def test_rollout_is_the_product_of_attention_and_residuals():
    rng = np.random.default_rng(0)
    weights = rng.random((3, 5, 5))
    weights /= weights.sum(axis=-1, keepdims=True)
    product = np.eye(5)
    for layer in weights:
        product = (0.5 * layer + 0.5 * np.eye(5)) @ product
    np.testing.assert_allclose(rollout(weights, 2), product[-2:])
    np.testing.assert_allclose(rollout(weights, 2).sum(axis=-1), 1)


def test_columns_are_told_apart_by_camera_word_and_state():
    pieces = ("<bos>", "Task", ":", "▁pi", "ck", "▁up", ",", "▁State", ":", "▁1", "2", "▁7", ";", "\n")
    layout = TokenLayout(("front", "wrist"), 2, pieces, state_token=False, actions=3)
    assert layout.size == 8 + 14 + 3
    assert layout.camera("wrist") == slice(4, 8)
    assert [pieces[i - 8] for i in layout.part("state")] == ["▁1", "2", "▁7"]
    assert layout.part("actions") == [22, 23, 24]
    assert ("pick", [11, 12]) in layout.words()
    assert ("up,", [13, 14]) in layout.words()
    with_token = TokenLayout(("front",), 1, ("a",), state_token=True, actions=1)
    assert with_token.part("state") == [2]
