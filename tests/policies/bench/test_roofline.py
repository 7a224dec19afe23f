import dataclasses

import pytest

from simloop.policies.bench.roofline import Ceilings, QueryWorkload, roofline_stages
from simloop.policies.models import configs
from simloop.policies.presets import PRESETS

H200 = Ceilings(790e12, 4.3e12, "sustained")


def teraflops_of(work: QueryWorkload) -> float:
    return sum(stage.times * stage.flops for stage in roofline_stages(work, 1)) / 1e12


def milliseconds_of(work: QueryWorkload, batch: int, ceilings: Ceilings) -> float:
    return 1e3 * sum(stage.times * stage.seconds(ceilings) for stage in roofline_stages(work, batch))


PI0 = configs.pi0()
PI0_SHORT = configs.pi0(action_horizon=10)
PI05_SHORT = configs.pi05(action_horizon=10)
FAST = configs.pi0_fast()

# Counted by hand for the full size, and with them the published roofline of an RTX 4090 comes out
# (arXiv 2510.26742: 12.8, 19.4 and 26.2 ms for one to three cameras).
TERAFLOPS = [(PI0, 3, 48, 4.1957), (PI0_SHORT, 2, 48, 2.6600)]
MILLISECONDS = [
    (PI0, 3, 48, 0, 1, 6.32),
    (PI0, 3, 48, 0, 32, 170.0),
    (PI05_SHORT, 2, 32, 0, 1, 4.67),
    (PI05_SHORT, 2, 32, 0, 32, 104.9),
    (FAST, 3, 180, 60, 1, 76.0),
    (FAST, 3, 180, 60, 32, 262.0),
]


@pytest.mark.parametrize(("config", "cameras", "prompt", "teraflops"), TERAFLOPS)
def test_full_size_queries_have_the_flops_counted_by_hand(config, cameras, prompt, teraflops):
    assert teraflops_of(QueryWorkload(config, cameras, prompt)) == pytest.approx(teraflops, rel=2e-3)


@pytest.mark.parametrize(("config", "cameras", "prompt", "answer", "batch", "ms"), MILLISECONDS)
def test_full_size_queries_have_the_roofline_counted_by_hand(config, cameras, prompt, answer, batch, ms):
    work = QueryWorkload(config, cameras, prompt, answer_tokens=answer)
    assert milliseconds_of(work, batch, H200) == pytest.approx(ms, rel=0.01)


@pytest.mark.parametrize(("cameras", "ms"), [(1, 12.8), (2, 19.4), (3, 26.2)])
def test_reproduces_the_published_roofline_of_an_rtx_4090(cameras, ms):
    work = QueryWorkload(configs.pi0(action_horizon=63), cameras, prompt_tokens=0)
    assert milliseconds_of(work, 1, Ceilings(182.8e12, 1.01e12, "")) == pytest.approx(ms, rel=0.02)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_a_roofline_whose_batches_read_weights_once(name):
    preset = PRESETS[name]
    work = QueryWorkload(preset.model, len(preset.cameras), preset.prompt_lengths[0], answer_tokens=9)
    for one, eight in zip(roofline_stages(work, 1), roofline_stages(work, 8), strict=True):
        assert eight.flops == pytest.approx(8 * one.flops)
        assert one.bytes <= eight.bytes < 8 * one.bytes


def test_a_stage_is_bound_by_the_slower_of_arithmetic_and_memory():
    (encoder, *_) = roofline_stages(QueryWorkload(PI0, 1, 1), 1)
    bound_by_memory = Ceilings(1e30, 1e9, "")
    bound_by_arithmetic = dataclasses.replace(bound_by_memory, flops_per_s=1e9, bytes_per_s=1e30)
    assert encoder.seconds(bound_by_memory) == encoder.bytes / 1e9
    assert encoder.seconds(bound_by_arithmetic) == encoder.flops / 1e9
