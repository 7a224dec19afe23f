import jax.numpy as jnp
import numpy as np
import pytest

from simloop.policies.inference.flat_jit import compiled
from tests.helpers.small_models import small_config, small_model

pytestmark = pytest.mark.usefixtures("strict_promotion")


def test_a_compiled_function_sees_the_parameters_and_is_traced_once_per_shape():
    model = small_model(small_config("pi0"))
    traced = []

    def project(model, x):
        traced.append(x.shape)
        return model.action_in_proj(x)

    call = compiled(model, project)
    x = jnp.ones((2, 4))
    for _ in range(3):
        np.testing.assert_allclose(call(x), model.action_in_proj(x), rtol=1e-6)
    assert traced == [(2, 4)]
    call(jnp.ones((3, 4)))
    assert traced == [(2, 4), (3, 4)]


def test_options_reach_the_compiler():
    model = small_model(small_config("pi0"))
    call = compiled(model, lambda model, x, times: model.action_in_proj(x) * times, static_argnums=2)
    x = jnp.ones((1, 4))
    np.testing.assert_allclose(call(x, 3), 3 * model.action_in_proj(x), rtol=1e-6)
