import dataclasses

import pytest

from simloop.policies.bench.counts import count_actions, counts
from simloop.policies.bench.roofline import QueryWorkload, query_flops, stages
from simloop.policies.models import configs
from simloop.policies.models.configs import GemmaConfig, ImageEncoderConfig

WITHIN = 0.03

FULL_SIZE = {
    "pi0": QueryWorkload(configs.pi0(), 3, 48),
    "pi05": QueryWorkload(configs.pi05(action_horizon=10), 2, 32),
    "pi0_fast": QueryWorkload(configs.pi0_fast(), 3, 180, answer_tokens=60),
}

# Wide enough that what lies between the products of matrices counts for little.
LANGUAGE = GemmaConfig(width=384, depth=2, mlp_dim=1536, num_heads=4, num_kv_heads=1, head_dim=64)
EXPERT = dataclasses.replace(LANGUAGE, width=256, mlp_dim=1024)
IMAGES = ImageEncoderConfig(width=256, depth=1, mlp_dim=1024, num_heads=4, patch_size=14)


@pytest.mark.parametrize("family", FULL_SIZE)
def test_xla_counts_at_full_size_what_the_floor_counts(family):
    work = FULL_SIZE[family]
    counted = counts(work, 1)
    expected = {stage.name: stage for stage in stages(work, 1)}
    assert counted.keys() == expected.keys()
    for name, stage in expected.items():
        assert counted[name].flops == pytest.approx(stage.flops, rel=WITHIN), name
    total = sum(stage.times * counted[name].flops for name, stage in expected.items())
    assert total == pytest.approx(query_flops(work, 1), rel=WITHIN)


def small(make, **sizes) -> QueryWorkload:
    config = make(LANGUAGE, EXPERT, image_encoder=IMAGES, vocab_size=64, dtype="float32", **sizes)
    return QueryWorkload(dataclasses.replace(config, image_size=56), 2, 16, flow_steps=2)


@pytest.mark.parametrize("make", [configs.pi0, configs.pi05])
def test_a_compiled_query_has_the_flops_of_its_stages(make):
    work = small(make)
    assert count_actions(work, 2, compiled=True).flops == pytest.approx(query_flops(work, 2), rel=WITHIN)


def test_what_savings_save_is_seen_in_the_counts():
    work = small(configs.pi0)
    model = work.config

    def flops(*without: str) -> float:
        changed = dataclasses.replace(model, optimizations=model.optimizations.without(*without))
        return counts(dataclasses.replace(work, config=changed), 1)["prefill"].flops

    # Most of the last layer is dead code that JAX removes before it counts; what is joined to its keys is not.
    assert flops("keys_only") > 1.03 * flops()
