import dataclasses
import functools
import re

import jax
import numpy as np
import pytest
from flax import nnx

from simloop.policies.inference.flat_jit import compiled
from simloop.policies.inference.fused_weights import with_joined_projections
from simloop.policies.inference.sampling import answering
from simloop.policies.models.optimizations import Optimizations
from simloop.policies.models.parameters import flatten
from simloop.policies.models.pi0 import Pi0
from simloop.policies.models.projections import ALIGNED_TO
from tests.helpers.small_models import (
    LANGUAGE,
    random_batch,
    random_noise,
    relative,
    run,
    small_config,
    small_model,
    with_lora,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")

ALL_HEADS = dataclasses.replace(LANGUAGE, num_kv_heads=LANGUAGE.num_heads)

ROWS, STEPS, LENGTH = 3, 4, 7
JOINABLE = [
    small_config("pi0"),
    small_config("pi05", language=ALL_HEADS, action_expert=dataclasses.replace(ALL_HEADS, width=24)),
]
UNOPTIMIZED = {"xla_backend_optimization_level": 0}


def generated(model, batch):
    return model.sample_tokens(batch, LENGTH).tokens


def with_savings(config, **changes):
    return dataclasses.replace(config, optimizations=dataclasses.replace(config.optimizations, **changes))


@pytest.mark.parametrize(("family", "unrolled"), [("pi0", False), ("pi05", True)])
def test_stopping_at_the_keys_of_the_last_layer_changes_nothing_that_is_read(family, unrolled):
    config = dataclasses.replace(small_config(family), unroll_layers=unrolled)
    batch = random_batch(config, ROWS)
    short, whole = (
        run(small_model(with_savings(config, keys_only=keys_only)), Pi0.read_prefix, batch).cache
        for keys_only in (True, False)
    )
    assert short.end == whole.end
    assert relative(short.k, whole.k) < 1e-6
    assert relative(short.v, whole.v) < 1e-6


def test_one_layer_alone_can_stop_at_its_keys():
    config = small_config("pi0")
    one = {
        name: dataclasses.replace(getattr(config, name), depth=1) for name in ("language", "action_expert")
    }
    config = dataclasses.replace(config, **one)
    batch, noise = random_batch(config, ROWS), random_noise(config, ROWS)
    short, whole = (
        run(small_model(with_savings(config, keys_only=keys_only)), Pi0.sample_actions, batch, noise, 2)
        for keys_only in (True, False)
    )
    assert relative(short, whole) < 1e-6


@pytest.mark.parametrize(("family", "unrolled"), [("pi0", True), ("pi05", False)])
def test_a_schedule_made_beforehand_changes_only_rounding(family, unrolled):
    config = with_savings(small_config(family), unrolled_steps=unrolled)
    model, batch, noise = small_model(config), random_batch(config, ROWS), random_noise(config, ROWS)
    schedule = run(model, lambda model: model.schedule(STEPS))
    wanted = run(model, Pi0.sample_actions, batch, noise, STEPS)
    assert relative(run(model, Pi0.sample_actions, batch, noise, schedule), wanted) < 2e-6


def test_times_of_a_schedule_are_those_that_the_loop_sums_up():
    schedule = run(small_model(small_config("pi0")), lambda model: model.schedule(10))
    time, times = np.float32(1), []
    for _ in range(10):
        times.append(time)
        time = time + np.float32(-1) / np.float32(10)
    np.testing.assert_array_equal(schedule.time, times)


def test_weights_in_an_array_per_layer_change_no_bit():
    config = dataclasses.replace(small_config("pi0"), unroll_layers=True)
    batch = random_batch(config, ROWS)

    def keys(model, batch):
        return model.read_prefix(batch).cache.k

    apart, stacked = (
        compiled(small_model(config), keys, separate_layers=separate, compiler_options=UNOPTIMIZED)(batch)
        for separate in (True, False)
    )
    np.testing.assert_array_equal(apart, stacked)


def test_separate_layers_are_read_where_they_lie():
    config = dataclasses.replace(small_config("pi0"), unroll_layers=True)
    call = compiled(small_model(config), lambda model, x: model.image_encoder(x).out, separate_layers=True)
    images = np.zeros((1, config.image_size, config.image_size, 3), np.float32)
    jitted, leaves = call.func, call.args[0]
    program = jitted.lower(leaves, images).compile().as_text()
    stacked = f"f32[{config.image_encoder.depth},{config.image_encoder.width},{config.image_encoder.mlp_dim}]"
    assert stacked not in program


@pytest.mark.parametrize("config", JOINABLE)
def test_joined_projections_change_only_rounding(config):
    config = dataclasses.replace(config, unroll_layers=True)
    batch = random_batch(config, ROWS)

    def keys(model, batch):
        return model.read_prefix(batch).cache.k

    model = small_model(config)
    joined, apart = (compiled(one, keys)(batch) for one in (with_joined_projections(model), model))
    assert relative(joined, apart) < 1e-6


def test_joining_leaves_the_model_as_it_was():
    model = small_model(small_config("pi05"))
    before = flatten(model)
    joined = nnx.state(with_joined_projections(model))
    after = flatten(model)
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    assert sum(leaf.size for leaf in jax.tree.leaves(joined)) == sum(leaf.size for leaf in after.values())


def test_adapters_are_not_joined():
    config = with_lora(small_config("pi0", unroll_layers=True))
    joined = with_joined_projections(small_model(config))
    assert hasattr(joined.transformer.experts[0].layers.attention, "q")
    assert hasattr(joined.image_encoder.blocks.attention, "joined")


def compiled_text(config, batch):
    """The compiled program that answers a batch."""
    keys = np.arange(2 * ROWS, dtype=np.uint32).reshape(ROWS, 2)
    with jax.numpy_dtype_promotion("standard"):
        call = answering(small_model(config), flow_steps=STEPS, answer_tokens=LENGTH)
    jitted, arguments = call.func, call.args
    if isinstance(jitted, functools.partial):
        jitted, arguments = jitted.func, (*jitted.args, *arguments)
    return jitted.lower(*arguments, batch, keys).compile().as_text()


@pytest.mark.parametrize(("family", "room"), [("pi0", 6), ("pi0_fast", LENGTH)])
def test_loops_write_into_the_cache_in_place_and_read_weights_where_they_lie(family, room):
    config = small_config(family, unroll_layers=True)
    program = compiled_text(config, random_batch(config, ROWS))
    loops = "".join(part for part in program.split("\n\n") if not part.startswith("ENTRY"))
    language = config.language
    slots = 3 * config.tokens_per_image + config.max_token_len + room
    cache = re.escape(f"f32[{ROWS},{slots},{language.num_kv_heads},{language.head_dim}]")
    assert len(re.findall(rf"= {cache}\S* dynamic-update-slice\(", loops)) >= 2 * language.depth
    assert not re.search(rf"= {cache}\S* copy\(", loops)
    expert = config.experts[-1]
    one = f"f32[{expert.width},{2 * expert.mlp_dim}]"
    assert one in loops
    assert f"f32[{expert.depth},{expert.width},{2 * expert.mlp_dim}]" not in program


def test_policies_answer_alike_with_and_without_savings():
    config = small_config("pi05", unroll_layers=True)
    batch, keys = random_batch(config, ROWS), np.arange(2 * ROWS, dtype=np.uint32).reshape(ROWS, 2)
    nothing = Optimizations(**dict.fromkeys(vars(Optimizations()), False))
    with jax.numpy_dtype_promotion("standard"):
        spared, plain = (
            answering(
                small_model(dataclasses.replace(config, optimizations=optimizations)),
                flow_steps=3,
                answer_tokens=1,
            )(batch, keys)
            for optimizations in (Optimizations(), nothing)
        )
    assert relative(spared, plain) < 2e-6


@pytest.mark.parametrize("family", ["pi0", "pi05"])
def test_sums_of_lengths_that_kernels_can_divide_change_only_rounding(family):
    config = small_config(family, unroll_layers=True)
    assert config.image_encoder.mlp_dim % ALIGNED_TO
    batch, keys = random_batch(config, ROWS), np.arange(2 * ROWS, dtype=np.uint32).reshape(ROWS, 2)
    aligned = with_savings(config, aligned=True)
    assert run(small_model(aligned), Pi0.read_prefix, batch).cache.slots % ALIGNED_TO == 0
    hidden = with_joined_projections(small_model(aligned)).image_encoder.blocks.mlp
    assert hidden.into.kernel.shape[-1] == hidden.out.kernel.shape[-2] == ALIGNED_TO
    with jax.numpy_dtype_promotion("standard"):
        filled, as_it_is = (
            answering(small_model(one), flow_steps=3, answer_tokens=1)(batch, keys)
            for one in (aligned, config)
        )
    assert relative(filled, as_it_is) < 2e-6


@pytest.mark.parametrize("decode_mask", ["valid", "window"])
def test_a_cache_with_more_slots_changes_no_token(decode_mask):
    config = small_config("pi0_fast", unroll_layers=True, decode_mask=decode_mask)
    batch = random_batch(config, ROWS, all_valid=decode_mask == "window")
    more, as_many = (
        run(small_model(with_savings(config, aligned=aligned)), generated, batch) for aligned in (True, False)
    )
    np.testing.assert_array_equal(more, as_many)


@pytest.mark.parametrize("mlp_dim", [24, ALIGNED_TO])
def test_what_serving_lays_out_anew_is_deleted_and_nothing_else(mlp_dim):
    config = small_config("pi0", unroll_layers=True)
    images = dataclasses.replace(config.image_encoder, mlp_dim=mlp_dim)
    config = with_savings(dataclasses.replace(config, image_encoder=images), aligned=True)
    batch, keys = random_batch(config, ROWS), np.arange(2 * ROWS, dtype=np.uint32).reshape(ROWS, 2)
    answers = []
    for consume in (False, True):
        model = small_model(config)
        filled_up = model.image_encoder.blocks.mlp.into.kernel[...]
        call = answering(model, flow_steps=2, answer_tokens=1, consume=consume)
        assert filled_up.is_deleted() == consume
        answers.append(np.asarray(call(batch, keys)))
    np.testing.assert_array_equal(*answers)


def test_what_is_filled_up_leaves_the_model_as_it_was():
    model = small_model(with_savings(small_config("pi05"), aligned=True))
    before = flatten(model)
    with_joined_projections(model)
    assert all(before[name] is leaf for name, leaf in flatten(model).items())


def test_savings_are_turned_off_by_name():
    assert not Optimizations().without("schedule").schedule
    assert Optimizations().without("schedule").keys_only
    with pytest.raises(ValueError, match=r"no saving 'sleep'; there are keys_only, schedule"):
        Optimizations().without("sleep")
