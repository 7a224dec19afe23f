"""Adapters in checkpoints of models without adapters."""

import numpy as np
import pytest

from simloop.policies.checkpoints import CheckpointMismatch, open_checkpoint, save_checkpoint
from simloop.policies.inference import loading
from simloop.policies.models.lora import adapter_shapes
from simloop.policies.models.parameters import flatten, shapes
from simloop.policies.presets import preset
from simloop.policies.transforms.normalization import identity_stats

NAMES = ("attn/q_einsum/", "attn/attn_vec_einsum_1/", "mlp/gating_einsum_")


def written(folder, name, change=lambda adapters: None):
    """A checkpoint of random weights with adapters of rank 4; returns weights and adapters."""
    of_model, rng = shapes(preset(name).model), np.random.default_rng(0)
    flat = {key: rng.normal(0, 0.1, shape).astype("f") for key, shape in of_model.items()}
    for stem in (f"PaliGemma/llm/layers/{one}" for one in NAMES):
        weight = stem + "w" if stem.endswith("/") else stem.removesuffix("_")
        if weight in flat:
            for half, shape in zip("ab", adapter_shapes(flat[weight].shape, 4), strict=True):
                flat[f"{stem}lora_{half}"] = rng.normal(0, 0.1, shape).astype("f")
    change(flat)
    stats = {key: identity_stats(4) for key in ("state", "actions")}
    save_checkpoint(folder, flat, preset=name, normalization=None, config={}, norm_stats={"arm": stats})
    return flat


@pytest.mark.parametrize("name", ["pi0-tiny", "pi05-tiny", "pi0_fast-tiny"])
def test_adapters_are_merged_for_every_family(tmp_path, name):
    flat = written(tmp_path / "c", name)
    config = preset(name).model
    model = flatten(loading._checkpoint_model(config, open_checkpoint(tmp_path / "c"), None))
    assert model.keys() == shapes(config).keys()
    query = "PaliGemma/llm/layers/attn/q_einsum/"
    expected = flat[query + "w"] + flat[query + "lora_a"] @ flat[query + "lora_b"]
    np.testing.assert_allclose(np.asarray(model[query + "w"]), expected, rtol=1e-5, atol=1e-6)


def test_adapters_of_another_shape_are_refused(tmp_path):
    def cut(flat):
        flat["PaliGemma/llm/layers/attn/q_einsum/lora_b"] = np.zeros((1, 2, 3), np.float32)

    written(tmp_path / "c", "pi0-tiny", cut)
    with pytest.raises(CheckpointMismatch, match="It contains LoRA adapters"):
        loading._checkpoint_model(preset("pi0-tiny").model, open_checkpoint(tmp_path / "c"), None)
