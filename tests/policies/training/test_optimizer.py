from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from simloop.policies.training.optimizer import AdamW, CosineDecay

RECORDED = np.load(Path(__file__).parents[2] / "golden" / "training" / "optim.npz")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("cosine_default", CosineDecay()),
        ("cosine_pi05_libero", CosineDecay(5e-5, 10_000, 1_000_000, 5e-5)),
    ],
)
def test_learning_rates_equal_those_of_the_reference(name, settings):
    schedule = jax.jit(settings.schedule())
    rates = [float(schedule(step)) for step in RECORDED["steps"]]
    recorded = RECORDED[f"lr/{name}"]
    np.testing.assert_allclose(rates, recorded, rtol=5e-6, atol=1e-7 * recorded.max())


def test_updates_equal_those_of_the_reference():
    transformation = AdamW().transformation(CosineDecay().schedule())
    parameters = {key: RECORDED[f"init/{key}"] for key in "ab"}
    state = transformation.init(parameters)
    for step in range(3):
        gradients = {key: RECORDED[f"grads/{step}/{key}"] for key in "ab"}
        updates, state = transformation.update(gradients, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
        for key in "ab":
            recorded = RECORDED[f"adamw/{step}/{key}"]
            change = np.abs(recorded - RECORDED[f"init/{key}"]).max()
            np.testing.assert_allclose(parameters[key], recorded, atol=1e-3 * change, rtol=1e-7)
