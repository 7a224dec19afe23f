"""Policies on several devices, which are parts of the CPU in a separate process."""

import textwrap

import pytest

from tests.helpers.fresh_python import run_python

ANSWERS = """
    import jax
    import numpy as np
    from simloop.policies.inference import loading
    from simloop.policies.models import sharding
    from simloop.policies.bench.random_weights import random_queries
    from simloop.policies.models.inference_plan import InferencePlan
    from simloop.policies.models.parameters import flatten
    from simloop.policies.presets import PRESETS

    assert len(jax.devices()) == 4
    name = {name!r}
    asked = random_queries(PRESETS[name], PRESETS[name].cameras, 4)
    one = loading.load_policy(name)
    spread = {{"copies": loading.load_policy(name, plan=InferencePlan(devices=4))}}
    loading.serving_mesh = lambda count, size: sharding.make_mesh(2, count)
    # The tiny presets have small arrays.
    loading.state_sharding = lambda flat, mesh: sharding.state_sharding(flat, mesh, 1024)
    spread["split"] = loading.load_policy(name, plan=InferencePlan(devices=4))
    spread["laid out anew"] = loading.load_policy(name, plan=InferencePlan(devices=4), keep_model=False)
    kind = jax.devices()[0].device_kind
    assert spread["copies"].device() == f"4 x {{kind}}"
    assert spread["split"].device() == f"4 x {{kind}}, 2 to a copy of the weights"
    weights = flatten(spread["split"].model).values()
    assert sum(not x.sharding.is_fully_replicated for x in weights) > 10, "the larger arrays"
    assert all(x.sharding.is_fully_replicated for x in flatten(spread["copies"].model).values())
    laid_out = jax.tree.leaves(spread["split"].programs.arguments)
    assert all(len(x.sharding.device_set) == 4 for x in laid_out), "layers lie where their stack lay"
    assert sum(not x.sharding.is_fully_replicated for x in laid_out) > 10
    for policy in spread.values():
        policy.prepare(4)
    for bucket in (4, 1, 3):  # Rows that four devices divide, and such that they do not.
        want = one.infer(asked[:bucket], bucket).chunks
        for how, policy in spread.items():
            got = policy.infer(asked[:bucket], bucket).chunks
            for a, b in zip(want, got, strict=True):
                np.testing.assert_allclose(a.actions, b.actions, atol=2e-4, err_msg=how)
    assert all(len(policy.programs) == 3 for policy in spread.values())
    print("equal")
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pi0-tiny", "pi05-tiny", "pi0_fast-tiny"])
def test_answers_do_not_depend_on_the_number_of_devices(name):
    printed = run_python(textwrap.dedent(ANSWERS).format(name=name), devices=4)
    assert printed.strip().endswith("equal")


LAID_OUT = """
    import dataclasses
    import jax
    import numpy as np
    from flax import nnx
    from simloop.policies.bench.random_weights import in_8_bits
    from simloop.policies.inference.flat_jit import compiled
    from simloop.policies.inference.weight_layout import laid_out
    from simloop.policies.models.inference_plan import InferencePlan
    from simloop.policies.models.parameters import flatten, model_from
    from simloop.policies.models.sharding import make_mesh, state_sharding
    from tests.helpers.small_models import random_batch, random_noise, relative, small_config, small_model

    def sample(model, batch, noise):
        return model.sample_actions(batch, noise, 2)

    config = small_config("pi05")
    plan = InferencePlan(unroll_layers=True, fused_projections=True, aligned=True)
    mesh, flat = make_mesh(2), flatten(small_model(config))
    split = jax.device_put(flat, state_sharding(flat, mesh, 256))
    one, spread = model_from(config, flat), model_from(config, split)
    batch, noise = random_batch(config, 4), random_noise(config, 4)
    for made in (lambda model: laid_out(model, plan), lambda model: in_8_bits(model, "int8")):
        changed = made(spread)
        for path, leaf in nnx.state(changed).flat_state():
            if leaf.ndim == 3 and {"qkv", "gating", "linear", "mlp"} & set(path):
                assert not leaf[...].sharding.is_fully_replicated, path
        want, got = (compiled(made(model), sample)(batch, noise) for model in (one, spread))
        assert relative(got, want) < 1e-5
    print("split")
"""


@pytest.mark.slow
def test_weights_that_are_laid_out_anew_stay_split():
    printed = run_python(textwrap.dedent(LAID_OUT), devices=4)
    assert printed.strip().endswith("split")


MEMORY = """
    import pytest
    from simloop.policies.models import sharding

    class Device:
        device_kind = "small"

        def __init__(self, device):
            self._device = device

        def memory_stats(self):
            return {"bytes_limit": 10_000_000_000}

    assert sharding.serving_mesh(1, 10**15) is None, "the default device is whatever there is"
    assert sharding.serving_mesh(4, 10**15).shape == {"batch": 4, "fsdp": 1}, "a CPU does not say what it has"
    real = sharding.make_mesh

    class Mesh:
        def __init__(self, per_copy, count):
            self.devices = sharding.np.array([Device(None)] * count)
            self.shape = (count // per_copy, per_copy)

    sharding.make_mesh = Mesh
    assert sharding.serving_mesh(4, 4 * 10**9).shape == (4, 1)
    assert sharding.serving_mesh(4, 8 * 10**9).shape == (2, 2)
    assert sharding.serving_mesh(4, 16 * 10**9).shape == (1, 4)
    with pytest.raises(sharding.DevicesError, match="weights take 30.0 GB .* devices have 40.0 GB. Use more"):
        sharding.serving_mesh(4, 30 * 10**9)
    sharding.make_mesh = real
    with pytest.raises(sharding.DevicesError, match="sees 4 devices .*; got 5. Ask for no more"):
        sharding.serving_mesh(5, 1)
    with pytest.raises(sharding.DevicesError, match="must divide the number of devices, 4; got 3"):
        sharding.make_mesh(3)
    print("right")
"""


def test_weights_are_split_over_as_few_devices_as_can_hold_them():
    assert run_python(textwrap.dedent(MEMORY), devices=4).strip() == "right"
