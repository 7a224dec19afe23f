import resource
import time

import numpy as np
import pytest

from simloop.policies.inference.flat_jit import compiled
from simloop.policies.models import configs
from simloop.policies.models.model_input import ModelInput
from simloop.policies.models.parameters import random_model
from simloop.policies.models.pi0 import Pi0

MEMORY_GIB = 24


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_full_size_pi0_answers_a_query_within_memory():
    config = configs.pi0()
    rng = np.random.default_rng(0)
    length = config.max_token_len
    batch = ModelInput(
        images={camera: rng.integers(0, 256, (1, 224, 224, 3), dtype=np.uint8) for camera in config.cameras},
        image_masks={camera: np.ones(1, np.bool_) for camera in config.cameras},
        state=rng.standard_normal((1, config.action_dim)).astype(np.float32),
        tokens=rng.integers(2, config.vocab_size, (1, length), dtype=np.int32),
        token_mask=np.ones((1, length), np.bool_),
    )
    noise = rng.standard_normal((1, config.action_horizon, config.action_dim)).astype(np.float32)
    times_s = [time.perf_counter()]
    model = random_model(config, 0, dtype="bfloat16")
    ask = compiled(model, Pi0.sample_actions)
    times_s.append(time.perf_counter())
    actions = np.asarray(ask(batch, noise, 10))
    times_s.append(time.perf_counter())
    again = np.asarray(ask(batch, noise, 10))
    times_s.append(time.perf_counter())
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    drawn, first, second = np.diff(times_s)
    print(
        f"\nfull-size pi0, bfloat16, 3 cameras: weights drawn in {drawn:.0f} s, first query {first:.0f} s with "
        f"compilation, second {second:.1f} s, peak memory {peak_gib:.1f} GiB"
    )
    np.testing.assert_array_equal(again, actions)
    assert actions.shape == noise.shape
    assert np.isfinite(actions).all()
    assert np.abs(actions - noise).max() > 1e-2
    assert peak_gib < MEMORY_GIB
