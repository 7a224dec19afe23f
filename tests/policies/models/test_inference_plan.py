"""Inference plans: every optimization changes answers by rounding at most."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from simloop.policies.inference.flat_jit import compiled
from simloop.policies.inference.sampling import compiled_for_inference, sampler
from simloop.policies.inference.weight_layout import laid_out, lay_out
from simloop.policies.models.experts import AttentionProjections
from simloop.policies.models.guidance import CommittedPrefix
from simloop.policies.models.inference_plan import PLAIN, InferencePlan
from simloop.policies.models.parameters import flatten
from simloop.policies.models.pi0 import Pi0
from simloop.policies.models.projections import ALIGNED_TO
from simloop.policies.models.siglip import FusedEncoderAttention
from tests.helpers.families import first_of
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
from tests.helpers.xla import PRODUCTION

pytestmark = pytest.mark.usefixtures("strict_promotion")

ALL_HEADS = dataclasses.replace(LANGUAGE, num_kv_heads=LANGUAGE.num_heads)
PACKED = small_config("pi05", language=ALL_HEADS, action_expert=dataclasses.replace(ALL_HEADS, width=24))

ROWS, LENGTH = 3, 7
UNROLLED = InferencePlan(unroll_layers=True)
FUSED = InferencePlan(fused_projections=True)
ACCELERATOR = InferencePlan().on("gpu")


def sample(model, batch, noise):
    return model.sample_actions(batch, noise, 2)


def generated(model, batch):
    return model.sample_tokens(batch, LENGTH).tokens


def cached_keys(model, batch):
    return model.read_prefix(batch).cache.k


@pytest.mark.parametrize(("family", "plan"), first_of(("pi05", UNROLLED), ("pi0", PLAIN)))
def test_keys_only_changes_no_key_or_value(family, plan):
    config = small_config(family)
    batch = random_batch(config, ROWS)
    short, whole = (
        run(small_model(config, plan=each), Pi0.read_prefix, batch).cache
        for each in (plan, plan.without("keys_only"))
    )
    assert short.end == whole.end
    assert relative(short.k, whole.k) < 1e-6
    assert relative(short.v, whole.v) < 1e-6


def test_a_single_layer_can_stop_at_its_keys():
    config = small_config("pi0")
    one = {
        name: dataclasses.replace(getattr(config, name), depth=1) for name in ("language", "action_expert")
    }
    config = dataclasses.replace(config, **one)
    batch = random_batch(config, ROWS)
    short, whole = (
        run(small_model(config, plan=plan), cached_keys, batch)
        for plan in (PLAIN, PLAIN.without("keys_only"))
    )
    assert relative(short, whole) < 1e-6


@pytest.mark.parametrize("family", first_of("pi05", "pi0"))
def test_precomputed_time_features_change_only_rounding(family):
    config = small_config(family)
    time = jnp.full((1,), 0.3, jnp.float32)

    def both(model, batch, x):
        prefix, times = model.read_prefix(batch), jnp.broadcast_to(time, ROWS)
        known = model.time_features(time)
        return [model.velocity(prefix, batch.state, x, times, features) for features in (known, None)]

    known, computed = run(small_model(config), both, random_batch(config, ROWS), random_noise(config, ROWS))
    assert relative(known, computed) < 2e-6


@pytest.mark.parametrize("family", first_of("pi05", "pi0"))
def test_given_actions_are_kept_and_change_the_others_and_no_row_without_any(family):
    config = small_config(family)
    target = random_noise(config, ROWS, seed=3)
    weights = np.zeros(target.shape[:2], np.float32)
    weights[0, :2] = 1

    def all_three(model, batch, noise):
        prefix = CommittedPrefix(target, weights)
        step = (model.read_prefix(batch), batch.state, noise, jnp.float32(1), jnp.float32(-1))
        return [
            model.sample_actions(batch, noise, 1, prefix),
            model.euler_step(*step, guidance=prefix)[0],
            model.sample_actions(batch, noise, 1),
        ]

    sampled, stepped, plain = run(
        small_model(config), all_three, random_batch(config, ROWS), random_noise(config, ROWS)
    )
    np.testing.assert_array_equal(sampled[0, :2], target[0, :2])
    assert relative(sampled, stepped) < 2e-6
    assert relative(sampled[1:], plain[1:]) < 2e-6
    assert relative(sampled[0, 2:], plain[0, 2:]) > 1e-3


def test_schedules_sum_up_steps_in_float32():
    schedule = run(small_model(small_config("pi0")), lambda model: model.schedule(10))
    time, times = np.float32(1), []
    for _ in range(10):
        times.append(time)
        time = time + np.float32(-1) / np.float32(10)
    np.testing.assert_array_equal(schedule.time, times)


def test_separate_layers_change_no_bit():
    config = small_config("pi0")
    model, batch = small_model(config, plan=UNROLLED), random_batch(config, ROWS)
    separate, stacked = (
        compiled(model, cached_keys, separate_layers=separate)(batch) for separate in (True, False)
    )
    np.testing.assert_array_equal(separate, stacked)


def test_separate_layers_are_not_stacked_again():
    config = small_config("pi0")
    model = small_model(config, plan=UNROLLED)
    call = compiled(model, lambda model, x: model.image_encoder(x).out, separate_layers=True)
    images = np.zeros((1, config.image_size, config.image_size, 3), np.float32)
    jitted, leaves = call.func, call.args[0]
    program = jitted.lower(leaves, images).compile(PRODUCTION).as_text()
    stacked = f"f32[{config.image_encoder.depth},{config.image_encoder.width},{config.image_encoder.mlp_dim}]"
    assert stacked not in program


@pytest.mark.parametrize("config", first_of(PACKED, small_config("pi0")))
def test_fused_projections_change_only_rounding(config):
    batch = random_batch(config, ROWS)
    fused, plain = (run(small_model(config, plan=plan), cached_keys, batch) for plan in (FUSED, PLAIN))
    assert relative(fused, plain) < 1e-6


@pytest.mark.parametrize("config", [small_config("pi0"), PACKED])
def test_laying_out_changes_neither_parameters_nor_their_number(config):
    model = small_model(config)
    before = flatten(model)
    fused = lay_out(before, config, FUSED)
    after = flatten(model)
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    assert sum(leaf.size for leaf in fused.values()) == sum(leaf.size for leaf in after.values())
    assert len(fused) < len(before)


def test_a_model_in_the_layout_of_the_plan_stays_the_same():
    model = small_model(small_config("pi0"), plan=FUSED)
    assert laid_out(model, FUSED) is model


def test_experts_with_adapters_are_not_fused():
    fused = small_model(with_lora(small_config("pi0")), plan=FUSED)
    assert isinstance(fused.transformer.experts[0].layers.attention, AttentionProjections)
    assert isinstance(fused.image_encoder.blocks.attention, FusedEncoderAttention)


def compiled_text(config, batch):
    """The compiled program that answers a batch."""
    keys = np.arange(2 * ROWS, dtype=np.uint32).reshape(ROWS, 2)
    plan = InferencePlan().on("cpu", unroll_on_cpu=True)
    with jax.numpy_dtype_promotion("standard"):
        call = sampler(small_model(config), plan, flow_steps=4, answer_tokens=LENGTH)
    jitted, arguments = call.func, call.args
    if isinstance(jitted, functools.partial):
        jitted, arguments = jitted.func, (*jitted.args, *arguments)
    return jitted.lower(*arguments, batch, keys).compile(PRODUCTION).as_text()


@pytest.mark.parametrize(("family", "room"), first_of(("pi0", 6), ("pi0_fast", LENGTH)))
def test_loops_write_into_the_cache_in_place_and_copy_no_weights(family, room):
    config = small_config(family)
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


@pytest.mark.parametrize("family", first_of("pi05", "pi0"))
def test_all_optimizations_together_change_only_rounding(family):
    config = small_config(family)
    assert config.image_encoder.mlp_dim % ALIGNED_TO
    batch, noise = random_batch(config, ROWS), random_noise(config, ROWS)
    model = small_model(config, plan=ACCELERATOR)
    hidden = model.image_encoder.blocks.mlp
    assert hidden.into.kernel.shape[-1] == hidden.out.kernel.shape[-2] == ALIGNED_TO
    none = PLAIN.without("keys_only", "attention_in_place")
    with jax.numpy_dtype_promotion("standard"):
        optimized = compiled_for_inference(model, sample, ACCELERATOR)(batch, noise)
    # Less than 1e-6 here; XLA's production options fuse the two programs differently, which adds up to 4e-6.
    assert relative(optimized, run(small_model(config, plan=none), sample, batch, noise)) < 5e-6


@pytest.mark.parametrize("decode_mask", first_of("valid", "window"))
def test_aligned_caches_change_no_token(decode_mask):
    config = small_config("pi0_fast", decode_mask=decode_mask)
    batch = random_batch(config, ROWS, all_valid=decode_mask == "window")
    aligned, exact = (
        run(small_model(config, plan=InferencePlan(aligned=aligned)), generated, batch)
        for aligned in (True, False)
    )
    np.testing.assert_array_equal(aligned, exact)


@pytest.mark.parametrize("mlp_dim", first_of(ALIGNED_TO, 24))
def test_deletes_consumed_weights_and_no_others(mlp_dim):
    config = small_config("pi0")
    images = dataclasses.replace(config.image_encoder, mlp_dim=mlp_dim)
    config = dataclasses.replace(config, image_encoder=images)
    plan = dataclasses.replace(ACCELERATOR, unroll_steps=False)
    batch, keys = random_batch(config, ROWS), np.arange(2 * ROWS, dtype=np.uint32).reshape(ROWS, 2)
    answers = []
    for consume in (False, True):
        model = small_model(config)
        padded = model.image_encoder.blocks.mlp.into.kernel[...]
        with jax.numpy_dtype_promotion("standard"):
            call = sampler(model, plan, flow_steps=2, answer_tokens=1, consume=consume)
            assert padded.is_deleted() == consume
            answers.append(np.asarray(call(batch, keys)))
    np.testing.assert_array_equal(*answers)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(nnx.state(small_model(config))))


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_unrolls_and_aligns_everything_on_accelerators(platform):
    plan = InferencePlan().on(platform)
    assert plan.unroll_layers
    assert plan.unroll_steps
    assert plan.aligned
    assert plan.fused_projections
    assert plan.on("cpu") == plan, "choices stay"
    assert not InferencePlan(unroll_layers=False).on(platform).fused_projections


def test_unrolls_small_models_alone_on_cpus():
    assert not InferencePlan().on("cpu").unroll_layers
    plan = InferencePlan().on("cpu", unroll_on_cpu=True)
    assert plan.unroll_layers
    assert plan.fused_projections
    assert not plan.unroll_steps
    assert not plan.aligned


def test_switches_optimizations_off_by_name():
    plan = InferencePlan().without("keys_only")
    assert not plan.keys_only
    assert plan.attention_in_place
    with pytest.raises(ValueError, match=r"Optimizations are unroll_layers, .*; got 'sleep'"):
        InferencePlan().without("sleep")
