import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.flow_matching import training_noise_and_time
from simloop.policies.models.lora import is_frozen
from simloop.policies.models.model_input import ModelInput
from simloop.policies.models.parameters import model_from
from simloop.policies.training.optimizer import AdamW, CosineDecay
from simloop.policies.training.step import StepRules, TrainingBatch, flow_draws, initial_state, make_step
from simloop.policies.transforms.augmentation import PUBLISHED
from tests.helpers.small_models import random_batch, random_flat, random_noise, small_config, with_lora

GOLDEN = Path(__file__).parents[2] / "golden"


def rules(**changes) -> StepRules:
    rate = CosineDecay(1e-3, 2, 10, 1e-4).schedule()
    adam = AdamW(weight_decay=0.01).transformation(rate)
    return dataclasses.replace(StepRules(rate, adam, ema_decay=0.9), **changes)


def small_training(family: str, rows: int = 4, *, lora: bool = False):
    config = with_lora(small_config(family)) if lora else small_config(family)
    flat = {name: jnp.asarray(value) for name, value in random_flat(config).items()}
    frozen = {name: value for name, value in flat.items() if is_frozen(name, config)}
    trained = {name: value for name, value in flat.items() if name not in frozen}
    inputs = random_batch(config, rows)
    if family == "pi0_fast":
        inputs.token_loss_mask[:, -4:] = True
        return config, trained, frozen, TrainingBatch(inputs)
    return config, trained, frozen, TrainingBatch(inputs, random_noise(config, rows, seed=5))


@functools.cache
def compiled_step(family: str, lora: bool, **changes):
    """Compiled once for all tests, since compilation dominates their cost."""
    config, _, _, _ = small_training(family, lora=lora)
    return jax.jit(make_step(config, rules(**changes)))


def run_steps(family: str, steps: int, *, lora: bool = False, **changes):
    _, trained, frozen, batch = small_training(family, lora=lora)
    step = compiled_step(family, lora, **changes)
    state, metrics = initial_state(trained, frozen, rules(**changes)), []
    for _ in range(steps):
        state, one = step(state, batch, jax.random.key(1))
        metrics.append(one)
    return state, metrics


def test_three_steps_equal_those_of_the_reference():
    with np.load(GOLDEN / "training" / "train_pi0_dummy.npz") as file:
        recorded = dict(file)
    cases = json.loads((GOLDEN / "models" / "cases.json").read_text())["cases"]
    config = ModelConfig.from_case(cases["pi0_dummy"])
    with np.load(GOLDEN / "models" / "params_pi0_dummy.npz") as file:
        start = {name: np.array(file[name]) for name in file.files}
    start["PaliGemma/llm/embedder/input_embedding"][recorded["token_rows/ids"]] = recorded[
        "token_rows/values"
    ]
    with np.load(GOLDEN / "models" / "inputs_images.npz") as file:
        images = {
            camera: np.stack([file[camera][0], recorded[f"second_image/{camera}"]])
            for camera in config.cameras
        }
    inputs = ModelInput(
        images=images,
        image_masks={camera: recorded[f"in/image_mask/{camera}"] for camera in config.cameras},
        state=recorded["in/state"],
        tokens=recorded["in/tokenized_prompt"],
        token_mask=recorded["in/tokenized_prompt_mask"],
    )
    batch = TrainingBatch(inputs, recorded["in/actions"])
    key = jax.random.split(jax.random.key(42))[0]
    step = jax.jit(make_step(config, rules()))
    state = initial_state({name: jnp.asarray(value) for name, value in start.items()}, {}, rules())
    for row in recorded["info"]:
        state, metrics = step(state, batch, key)
        got = [metrics.loss, metrics.gradient_norm, metrics.parameter_norm]
        np.testing.assert_allclose(got, row, rtol=2e-4)
    names = [name for name in recorded if name.startswith("params_delta/")]
    assert len(names) == len(start)
    for name in names:
        parameter = name.removeprefix("params_delta/")
        change = np.asarray(state.trained[parameter], np.float64) - np.asarray(start[parameter], np.float64)
        norm, total = recorded[name]
        if parameter.endswith("key/bias"):
            # It shifts all scores of a query equally, so its gradient is rounding, which Adam rescales.
            assert norm < 1e-3
            continue
        assert np.linalg.norm(change) == pytest.approx(norm, rel=0.02), parameter
        assert change.sum() == pytest.approx(total, abs=0.02 * norm * np.sqrt(change.size)), parameter


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "samples", "delay"), [("pi0", 1, 0), ("pi0", 3, 0), ("pi05", 3, 2), ("pi0_fast", 1, 0)]
)
def test_micro_batches_give_the_gradients_of_the_batch(family, samples, delay):
    chosen = {"flow_samples": samples, "max_delay": delay}
    whole, of_whole = run_steps(family, 2, **chosen)
    split, of_split = run_steps(family, 2, **chosen, micro_batches=2)
    for one, other in zip(of_whole, of_split, strict=True):
        np.testing.assert_allclose(one.loss, other.loss, rtol=1e-5)
        np.testing.assert_allclose(one.gradient_norm, other.gradient_norm, rtol=1e-4)
    for name, value in whole.trained.items():
        np.testing.assert_allclose(value, split.trained[name], atol=2e-4, err_msg=name)


@pytest.mark.slow
def test_draws_several_flow_times_independently_and_averages_their_losses():
    config, trained, frozen, batch = small_training("pi0")
    state = initial_state(trained, frozen, rules())
    key = jax.random.fold_in(jax.random.key(1), 0)
    noise, times = training_noise_and_time(key, 4 * 3, config.action_horizon, config.action_dim)
    assert len(np.unique(times)) == 12
    model = model_from(config, trained)
    losses = []
    for i in range(3):
        own = slice(i, None, 3)
        losses.append(model.loss(batch.inputs, batch.actions, noise[own], times[own]).mean())
    _, metrics = compiled_step("pi0", False, flow_samples=3)(state, batch, jax.random.key(1))
    np.testing.assert_allclose(metrics.loss, np.mean(losses), rtol=1e-5)


def test_steps_before_a_delay_have_flow_time_zero_and_no_loss():
    config, key = small_config("pi0"), jax.random.key(1)
    _, plain_times = training_noise_and_time(key, 6, config.action_horizon, config.action_dim)
    draws = flow_draws(config, 3, key, rules(flow_samples=2, max_delay=2))
    given = np.asarray(draws.time) == 0
    assert draws.noise.shape[:3] == given.shape == (3, 2, config.action_horizon)
    assert set(given.sum(axis=-1).flat) == {0, 1, 2}
    np.testing.assert_array_equal(draws.time[..., -1].ravel(), plain_times)
    np.testing.assert_array_equal(np.asarray(draws.weights) == 0, given)
    np.testing.assert_allclose(draws.weights.mean(), 1, rtol=1e-6)


@pytest.mark.slow
def test_trains_adapters_and_freezes_adapted_weights():
    state, _ = run_steps("pi0", 2, lora=True)
    config, trained, frozen, _ = small_training("pi0", lora=True)
    assert any("lora" in name for name in state.trained)
    assert all("llm" in name for name in frozen)
    for name, value in frozen.items():
        np.testing.assert_array_equal(value, state.frozen[name], err_msg=name)
    unchanged = [name for name, value in trained.items() if np.array_equal(value, state.trained[name])]
    assert unchanged == []
    assert config.language.lora is not None


def test_moving_average_follows_the_weights():
    start, _ = run_steps("pi0", 0, lora=True)
    one, _ = run_steps("pi0", 1, lora=True)
    two, _ = run_steps("pi0", 2, lora=True)
    assert one.averaged.keys() == one.trained.keys()
    for name, first in start.trained.items():
        after_one = 0.9 * np.asarray(first) + 0.1 * np.asarray(one.trained[name])
        np.testing.assert_allclose(one.averaged[name], after_one, atol=1e-6, err_msg=name)
        after_two = 0.9 * after_one + 0.1 * np.asarray(two.trained[name])
        np.testing.assert_allclose(two.averaged[name], after_two, atol=1e-6, err_msg=name)
    assert initial_state(start.trained, {}, rules(ema_decay=None)).averaged is None


@pytest.mark.slow
def test_losses_decrease_on_one_augmented_batch():
    _, metrics = run_steps("pi0", 12, augmentation=PUBLISHED)
    assert metrics[-1].loss < 0.7 * metrics[0].loss
    _, again = run_steps("pi0", 1, augmentation=PUBLISHED)
    assert again[0].loss == metrics[0].loss
    _, plain = run_steps("pi0", 1)
    assert plain[0].loss != metrics[0].loss
