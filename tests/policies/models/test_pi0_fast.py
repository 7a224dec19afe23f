import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simloop.harness.parity.models import LOOP, ONE_PASS, Case
from simloop.policies.models.inference_plan import InferencePlan
from simloop.policies.models.parameters import flatten, model_from
from simloop.policies.models.pi0_fast import END_TOKEN, Pi0Fast, _draw, align_right
from tests.helpers.families import first_of
from tests.helpers.small_models import (
    random_batch,
    random_flat,
    relative,
    run,
    small_config,
    small_model,
    take_rows,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")

GOLDEN = Path(__file__).parents[2] / "golden" / "models"
TABLE = "PaliGemma/llm/embedder/input_embedding"
LENGTH, ROWS = 8, 3


def greedy(model, batch):
    return model.sample_tokens(batch, LENGTH)


def published_loop(model, batch):
    return model.sample_tokens(batch, LENGTH, stop="all_at_once")


def drawn(model, batch, keys):
    return model.sample_tokens(batch, LENGTH, temperature=1.0, keys=keys)


def test_tokens_logits_and_losses_agree_with_the_reference():
    case = Case(GOLDEN, "pi0fast_dummy", "f32")
    recorded = case.recorded

    def tokens_and_first_logits(model, batch):
        tokens = model.sample_tokens(batch, 32, stop="all_at_once").tokens
        return tokens, model.read_prompt(batch, 32)[0]

    for all_valid, suffix in ((False, ""), (True, "_all_cams_valid")):
        prompt = case.batch(prompt="in_prefix", all_cameras_valid=all_valid)
        clear = recorded[f"sample/step_top2_gap{suffix}"][:32].T > 1e-3
        assert clear.all()
        tokens, logits = run(case.model, tokens_and_first_logits, prompt)
        np.testing.assert_array_equal(tokens, recorded[f"sample/tokens{suffix}"])
        assert relative(logits, recorded[f"sample/first_logits{suffix}"]) <= LOOP
        answer = case.batch(all_cameras_valid=all_valid)
        assert relative(run(case.model, Pi0Fast.loss, answer), recorded[f"loss/loss{suffix}"]) <= ONE_PASS


def with_likely_end(config, step: int, row: int, batch) -> Pi0Fast:
    """A model that generates the end token in `row` at `step`."""
    flat = random_flat(config)
    tokens = np.asarray(run(model_from(config, flat), published_loop, batch).tokens)
    pair = [END_TOKEN, int(tokens[row, step])]
    flat[TABLE][pair] = flat[TABLE][pair[::-1]]
    return model_from(config, flat)


def test_ended_rows_stay_ended_while_others_continue():
    config = small_config("pi0_fast")
    batch = random_batch(config, ROWS, all_valid=True)
    model = with_likely_end(config, 4, 1, batch)
    sticky, published = run(model, greedy, batch), run(model, published_loop, batch)
    assert int(sticky.lengths[1]) <= 4
    for tokens, length, raw in zip(sticky.tokens, sticky.lengths, published.tokens, strict=True):
        np.testing.assert_array_equal(tokens[:length], raw[:length])
        if length < LENGTH:
            assert tokens[length] == END_TOKEN
            assert not tokens[length + 1 :].any()
        assert END_TOKEN not in tokens[:length]
    np.testing.assert_array_equal(sticky.lengths, published.lengths)


def test_decoding_stops_when_every_row_has_ended(monkeypatch):
    config = small_config("pi0_fast")
    batch = take_rows(random_batch(config, 1, all_valid=True), [0] * ROWS)
    model = with_likely_end(config, 3, 0, batch)
    passes = counting_passes(monkeypatch)
    result = run(model, lambda model, batch: model.sample_tokens(batch, LENGTH), batch)
    jax.effects_barrier()
    length = int(result.lengths[0])
    assert length <= 3
    # The first token comes from reading the prompt; each later one, the end token too, takes one pass.
    assert len(passes) == length


def counting_passes(monkeypatch):
    """Passes of the transformer over one token, counted while programs run."""
    passes, decode = [], Pi0Fast.decode

    def counted(*args):
        jax.debug.callback(lambda: passes.append(1))
        return decode(*args)

    monkeypatch.setattr(Pi0Fast, "decode", counted)
    return passes


@pytest.mark.parametrize(
    ("unrolled", "right", "rows"), first_of((True, 3, ROWS), (False, 2, 1), (True, 3, 1), (True, 0, 1))
)
def test_a_forced_prefix_saves_one_pass_per_accepted_token(monkeypatch, unrolled, right, rows):
    config = small_config("pi0_fast")
    plan = InferencePlan(unroll_layers=unrolled)
    model, batch = small_model(config, plan=plan), random_batch(config, rows, all_valid=True)
    wanted = np.asarray(run(model, greedy, batch).tokens)
    accepted = int(np.cumprod((wanted[:, :right] == wanted[:1, :right]).all(axis=0)).sum())
    forced = [int(token) for token in wanted[0, :right]] + [config.vocab_size - 1] * (3 - right)
    passes = counting_passes(monkeypatch)
    got = run(model, lambda model, batch: model.sample_tokens(batch, LENGTH, forced_prefix=forced), batch)
    jax.effects_barrier()
    np.testing.assert_array_equal(got.tokens, wanted)
    assert len(passes) == LENGTH - 1 - accepted


@pytest.mark.parametrize(("unrolled", "is_drawn"), first_of((False, True), (True, False)))
def test_doubles_a_single_row_in_bfloat16(monkeypatch, unrolled, is_drawn):
    config = small_config("pi0_fast", dtype="bfloat16")
    plan = InferencePlan(unroll_layers=unrolled)
    model, batch = small_model(config, plan=plan), random_batch(config, 1, all_valid=True)
    rows = []
    decode = Pi0Fast.decode

    def noted(model, prompt, token, *rest):
        rows.append(token.shape[0])
        return decode(model, prompt, token, *rest)

    monkeypatch.setattr(Pi0Fast, "decode", noted)
    key = jax.random.split(jax.random.key(3), 1)
    sample, own, twice = (drawn, [key], [jnp.repeat(key, 2, axis=0)]) if is_drawn else (greedy, [], [])
    alone = run(model, sample, batch, *own)
    assert alone.tokens.shape == (1, LENGTH)
    both = run(model, sample, take_rows(batch, [0, 0]), *twice)
    np.testing.assert_array_equal(alone.tokens, both.tokens[:1])
    assert set(rows) == {2}


def test_truncates_a_forced_prefix_to_the_answer():
    config = small_config("pi0_fast")
    model, batch = small_model(config), random_batch(config, 1, all_valid=True)
    wanted = np.asarray(run(model, greedy, batch).tokens)
    forced = [int(token) for token in wanted[0]]
    got = run(model, lambda model, batch: model.sample_tokens(batch, LENGTH, forced_prefix=forced), batch)
    np.testing.assert_array_equal(got.tokens, wanted)


def test_decoding_equals_reading_prompt_and_answer_at_once():
    config = small_config("pi0_fast", first_decode_position="next", decode_mask="valid")
    model = small_model(config)
    prompt = random_batch(config, 2)
    answer = np.random.default_rng(4).integers(2, config.vocab_size, (2, 3)).astype(np.int32)

    def step_by_step(model, prompt, answer):
        logits, read = model.read_prompt(prompt, answer.shape[1])
        out = [logits]
        for step in range(answer.shape[1]):
            logits, read = model.decode(read, answer[:, step], jnp.int32(step))
            out.append(logits)
        return jnp.stack(out, axis=1)

    def first_logits(model, batch):
        return model.read_prompt(batch, 1)[0]

    stepped = run(model, step_by_step, prompt, jnp.asarray(answer))
    for count in range(4):
        shape = (2, config.max_token_len + 3)
        tokens, ar_mask = np.zeros((2, *shape), np.int32)
        mask = np.zeros(shape, np.bool_)
        for row in range(2):
            length = int(prompt.token_mask[row].sum())
            tokens[row, : length + count] = [*prompt.tokens[row, :length], *answer[row, :count]]
            mask[row, : length + count] = True
            ar_mask[row, length : length + count] = 1
        longer = dataclasses.replace(
            prompt, tokens=tokens, token_mask=mask, token_ar_mask=ar_mask, token_loss_mask=None
        )
        assert relative(stepped[:, count], run(model, first_logits, longer)) < 1e-5


def test_dropping_a_masked_camera_is_exact_only_with_the_valid_decode_mask():
    for decode_mask in ("valid", "window"):
        config = small_config("pi0_fast", decode_mask=decode_mask)
        model, batch = small_model(config), random_batch(config, 2, all_valid=True)
        second = config.cameras[1]
        masked = dataclasses.replace(batch, image_masks={**batch.image_masks, second: np.zeros(2, np.bool_)})
        kept = [camera for camera in config.cameras if camera != second]
        dropped = dataclasses.replace(
            batch,
            images={camera: batch.images[camera] for camera in kept},
            image_masks={camera: batch.image_masks[camera] for camera in kept},
        )
        answer = np.full(2, 7, np.int32)

        def second_logits(model, batch, token):
            _, read = model.read_prompt(batch, 2)
            return model.decode(read, token, jnp.int32(0))[0]

        logits = [run(model, second_logits, batch, answer) for batch in (masked, dropped)]
        difference = relative(*logits)
        assert (difference < 1e-5) == (decode_mask == "valid")


def test_decode_masks_agree_if_no_camera_is_masked():
    config = small_config("pi0_fast")
    flat, batch = random_flat(config), random_batch(config, 3, all_valid=True)
    window, valid = (
        run(model_from(dataclasses.replace(config, decode_mask=mask), flat), greedy, batch)
        for mask in ("window", "valid")
    )
    np.testing.assert_array_equal(window.tokens, valid.tokens)


def test_draws_tokens_of_a_row_from_its_own_key():
    config = small_config("pi0_fast")
    model, batch = small_model(config), random_batch(config, ROWS)
    keys = jax.random.split(jax.random.key(0), ROWS)
    wanted = np.asarray(run(model, drawn, batch, keys).tokens)
    order = [2, 0, 1]
    reordered = run(model, drawn, take_rows(batch, order), keys[np.array(order)]).tokens
    np.testing.assert_array_equal(reordered, wanted[order])
    other = run(model, drawn, batch, keys.at[1].set(jax.random.key(99))).tokens
    np.testing.assert_array_equal(other[::2], wanted[::2])
    assert np.any(other[1] != wanted[1])
    assert np.any(wanted != run(model, greedy, batch).tokens)


def test_draws_tokens_with_the_probabilities_of_the_model():
    keys = jax.random.split(jax.random.key(0), 20_000)
    scores = jnp.log(jnp.array([0.5, 0.3, 0.2]))
    tokens = _draw(keys, jnp.int32(3), jnp.broadcast_to(scores[None], (20_000, 3)))
    share = np.bincount(np.asarray(tokens), minlength=3) / 20_000
    np.testing.assert_allclose(share, [0.5, 0.3, 0.2], atol=4 * np.sqrt(0.25 / 20_000))


def test_rejects_a_temperature_without_keys():
    config = small_config("pi0_fast")
    with pytest.raises(ValueError, match="needs a key per row"):
        small_model(config).sample_tokens(random_batch(config, 1), 2, temperature=1.0)


def test_rejects_a_forced_prefix_for_drawn_tokens():
    config = small_config("pi0_fast")
    keys = jax.random.split(jax.random.key(0), 1)
    with pytest.raises(ValueError, match="needs temperature 0 or a grammar"):
        small_model(config).sample_tokens(
            random_batch(config, 1), 2, temperature=1.0, keys=keys, forced_prefix=[5]
        )


def test_greedy_rows_do_not_depend_on_each_other():
    config = small_config("pi0_fast", dtype="bfloat16")
    model = small_model(config)
    batch, others = random_batch(config, ROWS), random_batch(config, ROWS, seed=9)
    mixed = jax.tree.map(lambda mine, other: np.concatenate([mine[:2], other[2:]]), batch, others)
    alone, beside = (run(model, greedy, rows, production=True).tokens for rows in (batch, mixed))
    np.testing.assert_array_equal(beside[:2], alone[:2])


def test_loss_is_the_mean_cross_entropy_of_the_predicted_tokens():
    config = small_config("pi0_fast")
    model, batch = small_model(config), random_batch(config, 3)
    wanted = np.zeros_like(batch.token_mask)
    wanted[0, 2:5], wanted[1, 0:3] = True, True
    batch = dataclasses.replace(batch, token_loss_mask=wanted, token_ar_mask=wanted.astype(np.int32))
    got, outputs = run(model, lambda m, batch: (m.loss(batch), m.predicting_outputs(batch)), batch)
    logits = np.asarray(outputs, np.float64) @ np.asarray(flatten(model)[TABLE], np.float64).T
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    for row in range(3):
        losses = [
            -log_p[row, t - 1, batch.tokens[row, t]] for t in range(1, wanted.shape[1]) if wanted[row, t]
        ]
        np.testing.assert_allclose(got[row], np.mean(losses) if losses else 0.0, rtol=2e-5)


def test_aligns_the_last_valid_token_to_the_right():
    valid = jnp.array([[1, 1, 0, 1, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], jnp.bool_)
    tokens = jnp.broadcast_to(jnp.arange(6.0)[None, :, None], (3, 6, 1))
    mask = valid[:, None, :] & valid[:, :, None]
    tokens, aligned, mask = align_right(tokens, valid, mask)
    np.testing.assert_array_equal(
        tokens[:, :, 0], [[4, 5, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]]
    )
    np.testing.assert_array_equal(aligned[0], [0, 0, 1, 1, 0, 1])
    np.testing.assert_array_equal(mask, aligned[:, None, :] & aligned[:, :, None])
