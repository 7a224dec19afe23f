import dataclasses
import subprocess
import sys

import pytest

from simloop.policies.presets import PRESETS, UnknownPresetError, preset
from simloop.policies.tokenizers.sentencepiece_model import load_sentencepiece

FULL_SIZE = [p for p in PRESETS.values() if not p.name.endswith("-tiny")]
BUNDLED = [p for p in PRESETS.values() if p.bundled is not None]


def test_bundled_presets_cover_each_family():
    assert [p.model.family for p in BUNDLED] == ["pi0", "pi05", "pi0_fast"]
    assert {p.robot for p in BUNDLED} == {"metaworld_hand"}


@pytest.mark.parametrize("chosen", BUNDLED, ids=lambda p: p.name)
def test_bundled_presets_have_tokenizer_statistics_and_weights(chosen):
    assert load_sentencepiece(chosen.text_model).pieces == chosen.model.vocab_size
    assert chosen.untrained_stats.is_file()
    assert chosen.bundled.is_dir()


@pytest.mark.parametrize("full", FULL_SIZE, ids=lambda p: p.name)
def test_full_size_presets_have_the_published_sizes(full):
    assert full.model.language.width == 2048
    assert full.model.image_size == 224
    assert full.model.vocab_size == 257_152
    assert full.prompt_lengths[-1] == full.model.max_token_len


def test_pi0_fast_libero_uses_z_scores():
    # Unlike other models of its family; with quantiles it solves almost nothing.
    assert PRESETS["pi0_fast_libero"].normalization == "z_score"
    assert PRESETS["pi0_fast_droid"].normalization == "quantile"


def test_pi05_libero_does_not_use_the_state():
    assert PRESETS["pi05_libero"].spec().state_size is None
    assert PRESETS["pi05_droid"].spec().state_size == 8


def test_only_published_token_models_use_black_images_for_absent_cameras():
    black = {p.name for p in PRESETS.values() if p.absent_cameras == "black"}
    assert black == {"pi0_fast_libero", "pi0_fast_droid", "pi0_fast_droid_jointpos_polaris"}


def test_suggests_the_nearest_preset():
    with pytest.raises(UnknownPresetError, match=r"no preset 'pi0-tyni'. Did you mean 'pi0-tiny'"):
        preset("pi0-tyni")


def test_rejects_a_preset_that_contradicts_its_model():
    with pytest.raises(ValueError, match="no camera belly"):
        dataclasses.replace(PRESETS["pi0-tiny"], cameras=("belly",))
    with pytest.raises(ValueError, match="state_as 'token'"):
        dataclasses.replace(PRESETS["pi0-tiny"], prompt="instruction_and_state")


def test_listing_presets_needs_no_jax():
    code = "import sys, simloop.policies.presets; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_preset_has_any_horizon_without_a_preset_of_its_own():
    longer = preset("pi05_libero@h50")
    assert (longer.name, longer.model.action_horizon) == ("pi05_libero@h50", 50)
    assert longer.spec().chunk_steps == 50
    for wrong in ("pi05_libero@50", "pi05_libero@h0", "pi05_libero@h"):
        with pytest.raises(UnknownPresetError, match="pi05_libero@h50 for chunks of 50 actions"):
            preset(wrong)
