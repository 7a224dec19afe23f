"""In host memory, weights are laid out without compiling a program for each shape."""

import jax
import jax.numpy as jnp
import numpy as np

from simloop.policies.inference.flat_jit import _separated
from simloop.policies.inference.host_memory import in_host_memory, share_memory
from simloop.policies.inference.weight_layout import lay_out
from simloop.policies.models.inference_plan import InferencePlan
from simloop.policies.models.parameters import shapes
from tests.helpers.small_models import small_config


def test_weights_are_laid_out_without_a_compiled_program(caplog):
    config = small_config("pi0")
    random = np.random.default_rng(0)
    params = {
        name: jax.device_put(random.standard_normal(shape, np.float32))
        for name, shape in shapes(config).items()
    }
    with jax.log_compiles(), caplog.at_level("WARNING"):
        after = lay_out(params, config, InferencePlan(fused_projections=True).on("cpu"))
        layers = [_separated(array, consume=False) for array in after.values() if array.ndim > 2]
    assert not [record for record in caplog.records if "compil" in record.getMessage().lower()]
    assert len(after) < len(params)
    assert len(layers) > 10


def test_layers_share_the_memory_of_their_stack():
    stack = jnp.arange(2 * 16 * 16, dtype=jnp.float32).reshape(2, 16, 16)
    layers = _separated(stack, consume=True)
    assert not stack.is_deleted()
    assert all(share_memory(layer, stack) for layer in layers)
    assert not share_memory(*layers)
    assert np.array_equal(np.stack(layers), stack)


def test_traced_arrays_are_not_in_host_memory():
    assert in_host_memory(jnp.zeros(3))
    seen = []
    jax.eval_shape(lambda x: seen.append(in_host_memory(x)), jnp.zeros(3))
    assert seen == [False]
