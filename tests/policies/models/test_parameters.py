import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from simloop.policies.models import configs
from simloop.policies.models.lora import is_frozen
from simloop.policies.models.parameters import flatten, model_from, random_model, shapes
from tests.helpers.families import first_of
from tests.helpers.small_models import random_flat, small_config, with_lora

pytestmark = pytest.mark.usefixtures("strict_promotion")

TABLES = json.loads((Path(__file__).parents[2] / "golden" / "models" / "param_tables.json").read_text())
FULL_SIZE = {
    "pi0": configs.pi0(),
    "pi05": configs.pi05(),
    "pi0_fast": configs.pi0_fast(),
    "pi0_lora_both": configs.pi0(configs.GEMMA_2B_LORA, configs.GEMMA_300M_LORA),
    "pi0_fast_lora": configs.pi0_fast(configs.GEMMA_2B_LORA),
}


@pytest.mark.parametrize("name", FULL_SIZE)
def test_the_full_size_tree_is_the_published_one(name):
    table, got = TABLES[name], shapes(FULL_SIZE[name])
    assert got == {name: tuple(shape) for name, shape in table["shapes"].items()}
    assert sum(int(np.prod(shape)) for shape in got.values()) == table["total"]


@pytest.mark.parametrize("name", FULL_SIZE)
def test_fine_tuning_freezes_what_the_published_one_does(name):
    frozen = {name_ for name_ in TABLES[name]["shapes"] if is_frozen(name_, FULL_SIZE[name])}
    assert frozen == set(TABLES[name]["frozen"])


def test_adapters_on_one_expert_freeze_that_expert_only():
    names = [name for name in TABLES["pi0_lora_both"]["shapes"] if "lora_" not in name]
    of_expert = {name for name in names if "llm" in name and "_1/" in name}
    on_language = configs.pi0(configs.GEMMA_2B_LORA, configs.GEMMA_300M)
    on_expert = configs.pi0(configs.GEMMA_2B, configs.GEMMA_300M_LORA)
    assert {name for name in names if is_frozen(name, on_expert)} == of_expert
    on_first = {name for name in names if is_frozen(name, on_language)}
    assert on_first == {name for name in names if "llm" in name} - of_expert


@pytest.mark.parametrize("family", first_of("pi0_fast", "pi0", "pi05"))
def test_parameters_come_back_by_name_as_they_went_in(family):
    config = with_lora(small_config(family))
    flat = random_flat(config)
    back = flatten(model_from(config, flat))
    assert set(back) == set(flat)
    for name, value in flat.items():
        np.testing.assert_array_equal(back[name], value)


def test_parameters_can_be_stored_in_bfloat16():
    config = small_config("pi05")
    model = model_from(config, random_flat(config), dtype="bfloat16")
    assert {leaf.dtype for leaf in flatten(model).values()} == {jnp.dtype("bfloat16")}


def test_a_missing_left_over_or_misshapen_parameter_is_named():
    config = small_config("pi0")
    flat = random_flat(config)
    kernel = flat.pop("state_proj/kernel")
    with pytest.raises(ValueError, match="Missing: state_proj/kernel; left over: none"):
        model_from(config, flat)
    with pytest.raises(ValueError, match="Missing: none; left over: time_mlp_in/bias"):
        model_from(config, {**flat, "state_proj/kernel": kernel, "time_mlp_in/bias": kernel[0]})
    with pytest.raises(ValueError, match=r"state_proj/kernel has shape \(4, 24\).*got \(24, 4\)"):
        model_from(config, {**flat, "state_proj/kernel": kernel.T})


def test_fresh_weights_depend_on_the_seed_and_follow_the_published_initializers():
    config = small_config("pi05")
    flat, again, other = (flatten(random_model(config, seed)) for seed in (0, 0, 1))
    q = "PaliGemma/llm/layers/attn/q_einsum/w"
    np.testing.assert_array_equal(flat[q], again[q])
    assert np.any(flat[q] != other[q])
    assert np.any(flat[q][0] != flat[q][1]), "layers start alike"

    def spread(name: str) -> float:
        return float(np.std(flat[name]))

    width, expert = config.language.width, config.action_expert
    assert spread(q) == pytest.approx(width**-0.5, rel=0.1)
    assert spread("PaliGemma/llm/layers/attn/kv_einsum/w") == pytest.approx(width**-0.5, rel=0.1)
    # The output projection's fan-in is all heads together.
    fan_in = expert.num_heads * expert.head_dim
    assert spread("PaliGemma/llm/layers/attn/attn_vec_einsum_1/w") == pytest.approx(fan_in**-0.5, rel=0.1)
    assert spread("PaliGemma/llm/layers/mlp/gating_einsum") == pytest.approx(width**-0.5, rel=0.1)
    assert spread("PaliGemma/llm/embedder/input_embedding") == pytest.approx(0.01, rel=0.1)
    for zero in ("PaliGemma/llm/final_norm/scale", "PaliGemma/llm/layers/pre_ffw_norm_1/Dense_0/kernel"):
        assert not np.any(flat[zero])
    # Not as published: images that start as zeros teach nothing behind RMS norm.
    assert spread("PaliGemma/img/head/kernel") > 0.1
    assert np.all(np.asarray(flat["PaliGemma/img/Transformer/encoder_norm/scale"]) == 1)


@pytest.mark.slow
def test_fresh_bfloat16_weights_are_the_rounded_float32_ones():
    config = small_config("pi0_fast")
    wide, narrow = flatten(random_model(config, 3)), flatten(random_model(config, 3, dtype="bfloat16"))
    for name, value in narrow.items():
        np.testing.assert_array_equal(value, wide[name].astype(jnp.bfloat16))


def test_a_model_is_an_ordinary_nnx_module():
    config = small_config("pi0")
    graph, state = nnx.split(model_from(config, random_flat(config)))
    assert nnx.merge(graph, state).config == config
