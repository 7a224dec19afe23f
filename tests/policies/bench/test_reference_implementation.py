import numpy as np
import pytest

from simloop.policies.bench import reference_implementation
from simloop.policies.bench.reference_implementation import padded
from simloop.policies.bench.roofline import QueryWorkload
from simloop.policies.bench.stages import random_batch
from simloop.policies.models.pi0 import Pi0
from tests.helpers.small_models import random_noise, relative, run, small_config, small_model

pytestmark = pytest.mark.usefixtures("strict_promotion")


@pytest.mark.parametrize("family", ["pi0", "pi05"])
def test_actions_equal_those_of_the_reference(family):
    config = small_config(family)
    work = QueryWorkload(config, cameras=2, prompt_tokens=6)
    model, batch, noise = small_model(config), random_batch(work, 2), random_noise(config, 2)
    inputs = padded(work, batch)
    assert len(inputs.images) == 3
    assert not inputs.image_masks[config.cameras[2]].any()
    assert inputs.tokens.shape == (2, config.max_token_len)
    np.testing.assert_array_equal(inputs.token_mask.sum(axis=1), [6, 6])

    schedule = run(model, lambda model: model.schedule(4))
    ours = run(model, Pi0.sample_actions, batch, noise, schedule)
    theirs = run(
        model,
        lambda model, batch, noise: reference_implementation.sample_actions(model, batch, noise, 4),
        inputs,
        noise,
    )
    assert relative(ours, theirs) < 1e-5


def test_tokens_equal_those_of_the_reference():
    config = small_config("pi0_fast")
    work = QueryWorkload(config, cameras=3, prompt_tokens=6)
    model, batch = small_model(config), random_batch(work, 2)
    ours = run(model, lambda model, batch: model.sample_tokens(batch, 8, stop="all_at_once").tokens, batch)
    theirs = run(
        model,
        lambda model, batch: reference_implementation.sample_tokens(model, batch, 8),
        padded(work, batch),
    )
    np.testing.assert_array_equal(ours, theirs)
    assert len(np.unique(ours)) > 3
