import resource

import numpy as np
import pytest

from policies import configs
from policies.inference import compiled
from policies.model_input import ModelInput
from policies.parameters import random_model
from policies.pi0 import Pi0

MEMORY_GIB = 24


@pytest.mark.slow
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
    model = random_model(config, 0, dtype="bfloat16")
    actions = np.asarray(compiled(model, Pi0.sample_actions)(batch, noise, 10))
    assert actions.shape == noise.shape
    assert np.isfinite(actions).all()
    assert np.abs(actions - noise).max() > 1e-2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < MEMORY_GIB * 2**20
