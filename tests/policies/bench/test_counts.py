import dataclasses

import pytest

from simloop.policies.bench.counts import counts
from simloop.policies.bench.roofline import QueryWorkload, roofline_stages
from simloop.policies.models import configs
from simloop.policies.models.configs import GemmaConfig, ImageEncoderConfig

WITHIN = 0.03

FULL_SIZE = {
    "pi0": QueryWorkload(configs.pi0(), 3, 48),
    "pi05": QueryWorkload(configs.pi05(action_horizon=10), 2, 32),
    "pi0_fast": QueryWorkload(configs.pi0_fast(), 3, 180, answer_tokens=60),
}

# Wide enough that operations other than matrix products count for little.
LANGUAGE = GemmaConfig(width=384, depth=2, mlp_dim=1536, num_heads=4, num_kv_heads=1, head_dim=64)
EXPERT = dataclasses.replace(LANGUAGE, width=256, mlp_dim=1024)
IMAGES = ImageEncoderConfig(width=256, depth=1, mlp_dim=1024, num_heads=4, patch_size=14)


@pytest.mark.parametrize("family", ["pi0", pytest.param("pi05", marks=pytest.mark.slow), "pi0_fast"])
def test_xla_counts_the_flops_of_the_roofline_at_full_size(family):
    work = FULL_SIZE[family]
    counted = counts(work, 1)
    expected = {stage.name: stage for stage in roofline_stages(work, 1)}
    assert counted.keys() == expected.keys()
    for name, stage in expected.items():
        assert counted[name].flops == pytest.approx(stage.flops, rel=WITHIN), name


def test_counts_show_what_an_optimization_saves():
    config = configs.pi0(LANGUAGE, EXPERT, image_encoder=IMAGES, vocab_size=64, dtype="float32")
    work = QueryWorkload(dataclasses.replace(config, image_size=56), 2, 16, flow_steps=2)

    def flops(*without: str) -> float:
        return counts(dataclasses.replace(work, plan=work.plan.without(*without)), 1)["prefill"].flops

    # JAX removes most of the last layer as dead code before counting, except what is fused with its keys.
    assert flops("keys_only") > 1.03 * flops()
