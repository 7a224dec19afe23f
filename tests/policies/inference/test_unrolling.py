import jax
import pytest

from simloop.policies.inference.loading import load_policy
from simloop.policies.inference.unrolling import unrolled_where_it_pays
from simloop.policies.presets import PRESETS


@pytest.mark.parametrize("name", ["pi05_libero", "pi0_fast_droid", "pi0-tiny"])
def test_everything_is_unrolled_on_accelerators_and_on_processors_what_the_preset_says(name):
    config = PRESETS[name].model
    assert unrolled_where_it_pays(config, "cpu") is config
    for platform in ("gpu", "tpu"):
        unrolled = unrolled_where_it_pays(config, platform)
        assert unrolled.unroll_layers
        assert unrolled.optimizations.unrolled_steps
        assert unrolled.optimizations.aligned
        assert unrolled_where_it_pays(unrolled, platform) == unrolled


def test_a_policy_is_the_same_one_wherever_it_is_loaded(monkeypatch):
    name = "pi0_libero-tiny"
    on_cpu = load_policy(name, random_weights=True)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    elsewhere = load_policy(name, random_weights=True)
    assert not on_cpu.model.config.unroll_layers
    assert elsewhere.model.config.unroll_layers
    assert elsewhere.preset == on_cpu.preset
    assert elsewhere.fingerprint() == on_cpu.fingerprint()
