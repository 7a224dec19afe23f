import dataclasses
import json
from pathlib import Path

import pytest

from simloop.policies.models import configs
from simloop.policies.models.configs import GEMMA_2B, GEMMA_300M, LoraConfig, ModelConfig

CASES = json.loads((Path(__file__).parents[2] / "golden" / "models" / "cases.json").read_text())["cases"]
MECHANISMS = (
    "state_as",
    "time_conditioning",
    "rope_dtype",
    "first_decode_position",
    "decode_mask",
    "image_size",
)


def test_a_recorded_case_is_its_family_in_other_sizes():
    for case in CASES.values():
        config = ModelConfig.from_case(case)
        published = {"pi0": configs.pi0, "pi05": configs.pi05, "pi0_fast": configs.pi0_fast}[case["family"]]()
        for mechanism in MECHANISMS:
            assert getattr(config, mechanism) == getattr(published, mechanism)
        assert config.state_in_prompt == case["state_in_prompt"]
        assert config.tokens_per_image == 196


def test_pi05_without_state_in_the_prompt_does_not_use_the_state():
    config = ModelConfig.from_case({**CASES["pi05_dummy"], "state_in_prompt": False})
    assert config.state_as == "unused"


def test_a_full_size_camera_takes_256_tokens():
    assert configs.pi0().tokens_per_image == 256


def test_adapters_are_scaled_by_alpha_over_rank_or_its_root():
    assert LoraConfig(rank=4, alpha=8.0).scaling == 2.0
    assert LoraConfig(rank=4, alpha=8.0, rslora=True).scaling == 4.0


def test_experts_that_cannot_share_an_attention_are_refused():
    with pytest.raises(ValueError, match="head_dim must agree; got 256 and 128"):
        configs.pi0(GEMMA_2B, dataclasses.replace(GEMMA_300M, head_dim=128))


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match="got 'pi1'"):
        ModelConfig.from_case({**CASES["pi0_dummy"], "family": "pi1"})
