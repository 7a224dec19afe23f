import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from simloop.harness.parity.models import LOOP, ONE_PASS, Case
from simloop.policies.models.flow_matching import noise_from_keys, training_noise_and_time
from simloop.policies.models.inference_plan import InferencePlan
from simloop.policies.models.model_input import image_as_float
from simloop.policies.models.parameters import named_leaves
from simloop.policies.models.pi0 import Pi0
from tests.helpers.families import first_of
from tests.helpers.small_models import (
    random_batch,
    random_noise,
    relative,
    run,
    small_config,
    small_model,
    take_rows,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")

GOLDEN = Path(__file__).parents[2] / "golden" / "models"
FAMILIES = first_of("pi05", "pi0")
ROWS = 4
STEPS = 3


def sample(model, batch, noise):
    return model.sample_actions(batch, noise, STEPS)


def sample_in_ten_steps(model, batch, noise):
    return model.sample_actions(batch, noise)


@pytest.mark.parametrize("name", ["pi0_dummy", "pi05_dummy"])
def test_samples_and_losses_agree_with_the_reference(name):
    case = Case(GOLDEN, name, "f32")
    recorded, batch = case.recorded, case.batch()
    noise = recorded["suffix/noisy_actions"]
    actions = run(case.model, sample_in_ten_steps, batch, noise)
    assert relative(actions, recorded["sample/actions_10"]) <= LOOP
    drawn = recorded["in/actions"], recorded["loss/noise"], recorded["loss/time"]
    assert relative(run(case.model, Pi0.loss, batch, *drawn), recorded["loss/loss"]) <= ONE_PASS
    all_valid = run(case.model, Pi0.loss, case.batch(all_cameras_valid=True), *drawn)
    assert relative(all_valid, recorded["loss/loss_all_cams_valid"]) <= ONE_PASS


@pytest.mark.parametrize("family", FAMILIES)
def test_velocity_after_a_cached_prefix_equals_one_joint_pass(family):
    config = small_config(family)
    x, time = jnp.asarray(random_noise(config, ROWS)), jnp.array([0.9, 0.4, 0.1, 0.6])

    def both(model, batch, x, time):
        cached = model.velocity(model.read_prefix(batch), batch.state, x, time)
        _, out = model.joint(model.embed_prefix(batch), model.embed_suffix(batch.state, x, time))
        return cached, model.velocity_from(out)

    cached, joint = run(small_model(config), both, random_batch(config, ROWS), x, time)
    assert relative(cached, joint) < 2e-6


@pytest.mark.parametrize("family", first_of("pi0", "pi05"))
def test_losses_at_many_flow_times_equal_losses_at_one_time_each(family):
    config = small_config(family)
    model, batch, actions = small_model(config), random_batch(config, ROWS), random_noise(config, ROWS, 7)
    noise = np.stack([random_noise(config, ROWS, seed) for seed in (3, 4)], axis=1)
    times = np.random.default_rng(5).uniform(size=(ROWS, 2)).astype(np.float32)
    many = run(model, Pi0.loss_of_many, batch, actions, noise, times)
    assert many.shape == (ROWS, 2, config.action_horizon)
    for i in range(2):
        one = run(model, Pi0.loss, batch, actions, noise[:, i], times[:, i])
        assert relative(many[:, i], one) < 2e-6


@pytest.mark.parametrize("family", first_of("pi0", "pi05"))
def test_unrolled_layers_change_only_rounding(family):
    config = small_config(family)
    batch, noise = random_batch(config, ROWS), random_noise(config, ROWS)
    looped = run(small_model(config), sample, batch, noise)
    assert (
        relative(
            run(small_model(config, plan=InferencePlan(unroll_layers=True)), sample, batch, noise), looped
        )
        < 2e-6
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_dropping_masked_cameras_and_prompt_padding_changes_only_rounding(family):
    config = small_config(family)
    model, noise = small_model(config), random_noise(config, ROWS)
    base, second, third = config.cameras
    batch = random_batch(config, ROWS)
    batch = dataclasses.replace(batch, image_masks={**batch.image_masks, second: np.zeros(ROWS, np.bool_)})
    longest = int(batch.token_mask.sum(axis=1).max())
    assert longest < config.max_token_len
    cut = dataclasses.replace(
        batch,
        images={base: batch.images[base], third: batch.images[third]},
        image_masks={base: batch.image_masks[base], third: batch.image_masks[third]},
        tokens=batch.tokens[:, :longest],
        token_mask=batch.token_mask[:, :longest],
        token_ar_mask=None,
        token_loss_mask=None,
    )
    assert relative(run(model, sample, cut, noise), run(model, sample, batch, noise)) < 1e-5


@pytest.mark.parametrize("family", first_of("pi0", "pi05"))
def test_a_row_depends_neither_on_its_index_nor_on_other_rows(family):
    config = small_config(family, dtype="bfloat16")
    model = small_model(config)
    batch, noise = random_batch(config, ROWS), random_noise(config, ROWS)
    wanted = np.asarray(run(model, sample, batch, noise, production=True))

    order = [2, 0, 3, 1]
    got = run(model, sample, take_rows(batch, order), noise[order], production=True)
    np.testing.assert_array_equal(got, wanted[order])

    others, other_noise = random_batch(config, ROWS, seed=9), random_noise(config, ROWS, seed=9)
    mixed = jax.tree.map(lambda mine, other: np.concatenate([mine[:2], other[2:]]), batch, others)
    got = run(model, sample, mixed, np.concatenate([noise[:2], other_noise[2:]]), production=True)
    np.testing.assert_array_equal(got[:2], wanted[:2])
    assert np.any(got[2:] != wanted[2:])


@pytest.mark.parametrize(("family", "reads_state"), [("pi0", True), ("pi05", False)])
def test_every_input_matters_but_pi05_reads_no_state(family, reads_state):
    config = small_config(family)
    model, noise = small_model(config), random_noise(config, ROWS)
    batch = random_batch(config, ROWS, all_valid=True)
    wanted = np.asarray(run(model, sample, batch, noise))

    def change(**fields) -> float:
        return relative(run(model, sample, dataclasses.replace(batch, **fields), noise), wanted)

    for camera in config.cameras:
        assert change(images={**batch.images, camera: 255 - batch.images[camera]}) > 1e-4
    assert change(tokens=np.roll(batch.tokens, 1, axis=0)) > 1e-4
    assert (change(state=batch.state + 1) > 1e-4) == reads_state


@pytest.mark.parametrize("family", FAMILIES)
def test_euler_steps_add_up_to_a_sample(family):
    config = small_config(family)
    model, batch, noise = small_model(config), random_batch(config, ROWS), random_noise(config, ROWS)

    def step_by_step(model, batch, x):
        prefix, schedule = model.read_prefix(batch), model.schedule(STEPS)
        for i in range(STEPS):
            # Features computed at every step would differ by 3e-5: phases of up to 1570 rad round by 1e-4 rad.
            features = jax.tree.map(lambda leaf, step=i: leaf[step], schedule.features)
            x, prefix = model.euler_step(
                prefix, batch.state, x, schedule.time[i], schedule.step_size, features
            )
        return x

    assert relative(run(model, step_by_step, batch, noise), run(model, sample, batch, noise)) < 2e-6


def test_rejects_a_mask_of_another_width():
    config = small_config("pi0")
    transformer = small_model(config).transformer
    x = jnp.ones((1, 2, config.language.width))
    with pytest.raises(ValueError, match="about 2 slots; got 3"):
        transformer([x, None], jnp.array([[0, 1]]), jnp.ones((1, 2, 3), jnp.bool_))


def test_converts_uint8_images_to_the_same_floats():
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    as_float = image.astype(np.float32) / 255 * 2 - 1
    np.testing.assert_allclose(image_as_float(image), as_float, atol=1e-7)
    np.testing.assert_array_equal(image_as_float(as_float), as_float)


def test_noise_of_a_row_depends_on_its_key_only():
    keys = jax.random.split(jax.random.key(3), 4)
    noise = noise_from_keys(keys, 5, 4)
    np.testing.assert_array_equal(noise_from_keys(keys[2:3], 5, 4)[0], noise[2])
    np.testing.assert_array_equal(noise_from_keys(jax.random.key_data(keys), 5, 4), noise)


def test_training_times_follow_their_distribution():
    _, time = training_noise_and_time(jax.random.key(0), 20_000, 1, 1)
    assert 0.001 <= time.min() < time.max() <= 1.0
    # P(Beta(1.5, 1) <= u) = u^1.5, and 20 000 draws stay within 0.0138 of it with probability 0.999.
    u = np.linspace(0.01, 0.99, 50)
    share = (np.asarray(time)[:, None] <= 0.001 + 0.999 * u[None]).mean(axis=0)
    assert np.abs(share - u**1.5).max() < 0.0138


def test_rejects_an_unknown_camera():
    config = small_config("pi0")
    batch, noise = random_batch(config, 1), random_noise(config, 1)
    images = {**batch.images, "head": batch.images[config.cameras[0]]}
    with pytest.raises(ValueError, match=r"base_0_rgb.*got images for.*head"):
        small_model(config).sample_actions(dataclasses.replace(batch, images=images), noise, 1)


@pytest.mark.parametrize("family", first_of("pi0", "pi05"))
def test_trains_every_parameter_that_the_loss_reads(family):
    config = small_config(family)
    model, batch = small_model(config), random_batch(config, 2)

    graph, state = nnx.split(model)
    actions, noise = random_noise(config, 2, seed=5), random_noise(config, 2)
    time = np.array([0.3, 0.8], np.float32)

    def loss(state, model_batch):
        return nnx.merge(graph, state).loss(model_batch, actions, noise, time).mean()

    gradients = dict(named_leaves(jax.jit(jax.grad(loss))(state, batch)))
    unread = {name for name, gradient in gradients.items() if not np.asarray(gradient).any()}
    # The prefix is only read through its keys and values, so nothing after them in its last layer is.
    assert unread == {"PaliGemma/llm/final_norm/scale"}
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
