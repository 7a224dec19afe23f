"""Several devices compute the step of one. The devices are simulated on the CPU of a separate process."""

import textwrap

import pytest

from tests.helpers.fresh_python import run_python

PROGRAM = """
    import jax
    import numpy as np
    from tests.policies.training.test_step import rules, small_training
    from simloop.policies.models.sharding import FSDP, batch_sharding, make_mesh, replicated, state_sharding
    from simloop.policies.training.step import initial_state, make_step

    config, trained, frozen, batch = small_training("pi0", rows=8)
    chosen = rules(micro_batches=2)
    results = []
    for mesh in (None, make_mesh(1), make_mesh(2)):
        state = jax.tree.map(lambda x: x.copy(), initial_state(trained, frozen, chosen))
        places = {}
        if mesh is not None:
            states = state_sharding(state, mesh, split_from_bytes=1024)
            everywhere = replicated(mesh)
            places = {
                "in_shardings": (states, batch_sharding(mesh), everywhere),
                "out_shardings": (states, everywhere),
            }
        step = jax.jit(make_step(config, chosen), **places)
        for _ in range(2):
            state, metrics = step(state, batch, jax.random.key(1))
        results.append((float(metrics.loss), float(metrics.gradient_norm)))
        if mesh is not None:
            split = [name for name, x in state.trained.items() if FSDP in x.sharding.spec]
            assert bool(split) == (mesh.shape[FSDP] == 2), split
            for name in split:
                shard = state.trained[name].addressable_shards[0].data
                assert 2 * shard.size == state.trained[name].size
    assert len(jax.devices()) == 4
    np.testing.assert_allclose(results[1:], [results[0]] * 2, rtol=1e-5)
    print("equal")
"""


@pytest.mark.slow
def test_data_parallel_and_sharded_steps_equal_the_single_device_step():
    printed = run_python(textwrap.dedent(PROGRAM), devices=4)
    assert printed.strip() == "equal"
