import dataclasses
from pathlib import Path

import numpy as np
import pytest

from simloop.harness.parity import units
from simloop.policies.models import lora
from simloop.policies.models.parameters import model_from
from tests.helpers.small_models import (
    LANGUAGE,
    LORA,
    random_batch,
    random_flat,
    random_noise,
    relative,
    run,
    small_config,
    with_lora,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")

GOLDEN = Path(__file__).parents[2] / "golden" / "models"


def first_logits(model, batch):
    return model.read_prompt(batch, 1)[0]


def sample(model, batch, noise):
    return model.sample_actions(batch, noise, 3)


@pytest.mark.parametrize("family", ["pi05", "pi0_fast"])
def test_merged_adapters_equal_applied_ones(family):
    config = with_lora(small_config(family))
    flat, batch = random_flat(config), random_batch(config, 2)
    merged = lora.merge(flat, config)
    assert not any("lora" in name for name in merged)
    plain = lora.without_adapters(config)
    function, args = (first_logits, ()) if family == "pi0_fast" else (sample, (random_noise(config, 2),))
    applied = run(model_from(config, flat), function, batch, *args)
    got = run(model_from(plain, merged), function, batch, *args)
    assert relative(got, applied) < 2e-5

    without = {name: flat[name] for name in merged}
    assert relative(run(model_from(plain, without), function, batch, *args), applied) > 1e-2


def test_merging_serves_fused_projections_too():
    fused = dataclasses.replace(LANGUAGE, num_kv_heads=LANGUAGE.num_heads, lora=LORA)
    config = small_config("pi0_fast", language=fused)
    flat, batch = random_flat(config), random_batch(config, 2)
    assert "PaliGemma/llm/layers/attn/qkv_einsum/lora_a" in flat
    merged = model_from(lora.without_adapters(config), lora.merge(flat, config))
    applied = run(model_from(config, flat), first_logits, batch)
    assert relative(run(merged, first_logits, batch), applied) < 2e-5


def test_adapters_and_other_parts_agree_with_the_reference():
    comparisons = list(units.checks(GOLDEN))
    assert sum("lora" in comparison.name for comparison in comparisons) == 6
    assert [comparison.name for comparison in comparisons if not comparison.passed] == []


def test_merging_keeps_the_dtype_of_the_weights():
    config = with_lora(small_config("pi0"))
    flat = {name: value.astype(np.float16) for name, value in random_flat(config).items()}
    assert {value.dtype for value in lora.merge(flat, config).values()} == {np.dtype(np.float16)}


def test_an_adapter_that_the_config_does_not_have_is_refused():
    config = with_lora(small_config("pi0"))
    with pytest.raises(ValueError, match="has no place in this model"):
        lora.merge(random_flat(config), lora.without_adapters(config))
