"""Kernels of libraries: how models call them, and that answers agree up to rounding."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simloop.policies.inference.sampling import compiled_for_inference
from simloop.policies.kernels import IMPLEMENTATIONS, Kernels
from simloop.policies.models.attention import attend, attend_by_library
from simloop.policies.models.experts import gated_product, gated_product_by_library
from simloop.policies.models.inference_plan import PLAIN, InferencePlan
from simloop.policies.models.pi0 import Pi0
from simloop.policies.models.pi0_fast import Pi0Fast
from tests.helpers.families import first_of
from tests.helpers.small_models import (
    random_batch,
    random_noise,
    relative,
    small_config,
    small_model,
)

ROWS, LENGTH = 3, 4
CUDNN = Kernels(image_attention="cudnn", prompt_attention="cudnn", action_attention="cudnn")


@pytest.fixture
def asked(monkeypatch):
    """Replace cuDNN's attention by JAX's own; returns the calls."""
    calls = []
    plain = jax.nn.dot_product_attention

    def instead(q, k, v, *, implementation, **options):
        assert implementation == "cudnn"
        how = {"key_value_seq_lengths": "lengths", "mask": "mask"}
        (said,) = [how[name] for name in options if name in how] or ["all"]
        calls.append((q.shape[1], k.shape[1], said))
        return plain(q, k, v, implementation="xla", **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", instead)
    return calls


def queries(config):
    """Rows that have all cameras, with prompts of different lengths."""
    batch = random_batch(config, ROWS, all_valid=True)
    masks = dict.fromkeys(batch.image_masks)
    return dataclasses.replace(batch, image_masks=masks, token_ar_mask=None, token_loss_mask=None)


def answers(config, batch, plan=PLAIN):
    model = small_model(config)
    if isinstance(model, Pi0Fast):
        return compiled_for_inference(model, lambda model, batch: model.read_prompt(batch, 4)[0], plan)(batch)
    noise = random_noise(config, ROWS)
    sample = compiled_for_inference(
        model, lambda model, batch: Pi0.sample_actions(model, batch, noise, 3), plan
    )
    return sample(batch)


@pytest.mark.parametrize("unroll", first_of(True, False))
@pytest.mark.parametrize("family", first_of("pi05", "pi0", "pi0_fast"))
def test_kernels_change_answers_by_rounding(asked, family, unroll):
    config, plan = small_config(family), InferencePlan(unroll_layers=unroll)
    batch = queries(config)
    plain = answers(config, batch, plan)
    assert not asked
    assert relative(answers(config, batch, dataclasses.replace(plan, kernels=CUDNN)), plain) < 1e-5
    assert asked


def test_kernels_get_lengths_if_padding_comes_last(asked):
    config = small_config("pi05")
    answers(config, queries(config), InferencePlan(kernels=CUDNN))
    image = config.tokens_per_image
    prompt = 3 * image + config.max_token_len
    steps = config.action_horizon
    assert set(asked) == {
        (image, image, "all"),
        (prompt, prompt, "lengths"),
        (steps, steps + prompt, "lengths"),
    }


def test_kernels_get_a_mask_for_a_state_token(asked):
    config = small_config("pi0")
    answers(config, queries(config), InferencePlan(kernels=CUDNN))
    suffix = config.action_horizon + 1
    assert {how for tokens, _, how in asked if tokens == suffix} == {"mask"}


def test_kernels_get_a_mask_for_masked_cameras(asked):
    config = small_config("pi05")
    batch = dataclasses.replace(random_batch(config, ROWS), token_loss_mask=None)
    plain = answers(config, batch)
    assert relative(answers(config, batch, InferencePlan(kernels=CUDNN)), plain) < 1e-5
    assert {how for _, _, how in asked} == {"all", "mask"}


def test_no_masks_equal_masks_of_all_true():
    config = small_config("pi05")
    batch = random_batch(config, ROWS, all_valid=True)
    np.testing.assert_array_equal(answers(config, batch), answers(config, queries(config)))


def test_cudnn_accepts_the_shapes_of_the_full_size(monkeypatch):
    """Lowering for an NVIDIA GPU like the H100 checks shapes, types and layout."""
    from jax._src.cudnn import fused_attention_stablehlo as library

    monkeypatch.setattr(library, "check_cudnn_version", lambda: 91400)
    monkeypatch.setattr(library, "check_compute_capability", lambda capability: True)
    monkeypatch.setattr(library, "is_cuda_compute_capability_equal", lambda capability: False)

    def called(tokens, slots, heads, kv_heads, width, how):
        q, kv = (
            jax.ShapeDtypeStruct((8, length, count, width), jnp.bfloat16)
            for length, count in ((tokens, heads), (slots, kv_heads))
        )
        seen = {
            "mask": {"mask": jax.ShapeDtypeStruct((8, tokens, slots), jnp.bool_)},
            "lengths": {"mask": None, "lengths": jax.ShapeDtypeStruct((8,), jnp.int32)},
            "all": {"mask": None},
        }[how]

        @jax.jit
        def function(q, k, v, seen):
            return attend_by_library("cudnn", q, k, v, **seen)

        text = function.trace(q, kv, kv, seen).lower(lowering_platforms=("cuda",)).as_text()
        (call,) = set(re.findall(r"__cudnn\$\w+", text))
        (padding,) = set(re.findall(r"mask_type\\22: \\22(\w+)", text))
        return call, padding

    assert called(256, 256, 16, 16, 72, "all") == ("__cudnn$fmhaSoftmax", "NO_MASK")
    assert called(560, 560, 8, 1, 256, "lengths") == ("__cudnn$fmhaSoftmax", "PADDING")
    assert called(50, 610, 8, 1, 256, "lengths") == ("__cudnn$fmhaSoftmax", "PADDING")
    assert called(51, 867, 8, 1, 256, "mask") == ("__cudnn$fmhaScaleBiasSoftmax", "NO_MASK")
    assert called(1, 1008, 8, 1, 256, "mask") == ("__cudnn$fmhaScaleBiasSoftmax", "NO_MASK")


def test_tokamax_agrees():
    pytest.importorskip("tokamax", reason="an extra package, for Python 3.12")
    rng = np.random.default_rng(0)
    q, k, v = (
        jnp.asarray(rng.standard_normal((2, n, heads, 16)), jnp.float32)
        for n, heads in ((5, 4), (9, 2), (9, 2))
    )
    lengths = jnp.array([4, 9], jnp.int32)
    mask = jnp.broadcast_to(jnp.arange(9)[None, None] < lengths[:, None, None], (2, 5, 9))
    wanted = attend(q, k, v, mask)
    assert relative(attend_by_library("tokamax", q, k, v, mask), wanted) < 1e-6
    assert relative(attend_by_library("tokamax", q, k, v, None, lengths), wanted) < 1e-6
    x, joined = rng.standard_normal((2, 300, 8)), rng.standard_normal((8, 24))
    x, joined = jnp.asarray(x, jnp.float32), jnp.asarray(joined, jnp.float32)
    assert relative(gated_product_by_library(x, joined), gated_product(x @ joined)) < 1e-6


def test_calls_a_fused_product_for_prompts_alone(monkeypatch):
    calls = []

    def instead(x, joined):
        calls.append(x.shape)
        return gated_product(jnp.matmul(x, joined))

    monkeypatch.setattr("simloop.policies.models.experts.gated_product_by_library", instead)
    monkeypatch.setattr("simloop.policies.models.experts.FUSED_KERNEL_TOKENS", ROWS * 20)
    config, fused = small_config("pi05"), InferencePlan(fused_projections=True)
    by_library = dataclasses.replace(fused, kernels=Kernels(gated_product="tokamax"))
    batch = queries(config)
    np.testing.assert_array_equal(answers(config, batch, by_library), answers(config, batch, fused))
    prompt = 3 * config.tokens_per_image + config.max_token_len
    assert set(calls) == {(ROWS, prompt, config.language.width)}


def test_reads_and_rejects_names():
    assert Kernels.of({"image_attention": "cudnn"}) == Kernels(image_attention="cudnn")
    assert Kernels.of(CUDNN.names()) == CUDNN
    assert Kernels().names() == dict.fromkeys(IMPLEMENTATIONS, "xla")
    with pytest.raises(ValueError, match="no operation 'attention'; there are image_attention, prompt"):
        Kernels.of({"attention": "cudnn"})
    with pytest.raises(ValueError, match="gated_product can be computed by xla, tokamax; got 'cudnn'"):
        Kernels.of({"gated_product": "cudnn"})


def test_reads_words_of_the_command_line():
    assert Kernels.from_words(()) == Kernels()
    assert Kernels.from_words(("xla",)) == Kernels()
    assert Kernels.from_words(("image_attention=cudnn", "gated_product=tokamax")) == Kernels(
        image_attention="cudnn", gated_product="tokamax"
    )
    for wrong in (("cudnn",), ("xla", "image_attention=cudnn"), ("image_attention=",)):
        with pytest.raises(ValueError, match="OPERATION=IMPLEMENTATION, or xla for all; got"):
            Kernels.from_words(wrong)


@pytest.mark.parametrize("family", first_of("pi0", "pi05", "pi0_fast"))
def test_prompts_have_their_own_kernel(asked, family):
    config = small_config(family)
    answers(config, queries(config), InferencePlan(kernels=Kernels(prompt_attention="cudnn")))
    prompt = 3 * config.tokens_per_image + config.max_token_len
    assert {tokens for tokens, _, _ in asked} == {prompt}
