"""Names and layouts of PyTorch checkpoints, held against a list written by hand."""

import itertools
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from simloop.policies.checkpoints import open_checkpoint
from simloop.policies.checkpoints.torch_names import RULES, Layout, canonical_name, owner
from simloop.policies.models import configs
from simloop.policies.models.parameters import shapes
from tests.helpers.tiny_parameters import expecting, tiny_parameters
from tests.helpers.torch_checkpoints import torch_tensors

# Names and shapes of the published full-size checkpoints, by hand from the modules of Hugging Face
# that they were made with. {n} stands for n layers. The second copies of token tables come on top.
VISION = """
embeddings.patch_embedding.weight 1152 3 14 14
embeddings.patch_embedding.bias 1152
embeddings.position_embedding.weight 256 1152
encoder.layers.{27}.layer_norm1.weight 1152
encoder.layers.{27}.layer_norm1.bias 1152
encoder.layers.{27}.layer_norm2.weight 1152
encoder.layers.{27}.layer_norm2.bias 1152
encoder.layers.{27}.mlp.fc1.weight 4304 1152
encoder.layers.{27}.mlp.fc1.bias 4304
encoder.layers.{27}.mlp.fc2.weight 1152 4304
encoder.layers.{27}.mlp.fc2.bias 1152
encoder.layers.{27}.self_attn.q_proj.weight 1152 1152
encoder.layers.{27}.self_attn.q_proj.bias 1152
encoder.layers.{27}.self_attn.k_proj.weight 1152 1152
encoder.layers.{27}.self_attn.k_proj.bias 1152
encoder.layers.{27}.self_attn.v_proj.weight 1152 1152
encoder.layers.{27}.self_attn.v_proj.bias 1152
encoder.layers.{27}.self_attn.out_proj.weight 1152 1152
encoder.layers.{27}.self_attn.out_proj.bias 1152
post_layernorm.weight 1152
post_layernorm.bias 1152
"""
LANGUAGE = """
model.multi_modal_projector.linear.weight 2048 1152
model.multi_modal_projector.linear.bias 2048
model.language_model.embed_tokens.weight 257152 2048
model.language_model.layers.{18}.self_attn.q_proj.weight 2048 2048
model.language_model.layers.{18}.self_attn.k_proj.weight 256 2048
model.language_model.layers.{18}.self_attn.v_proj.weight 256 2048
model.language_model.layers.{18}.self_attn.o_proj.weight 2048 2048
model.language_model.layers.{18}.mlp.gate_proj.weight 16384 2048
model.language_model.layers.{18}.mlp.up_proj.weight 16384 2048
model.language_model.layers.{18}.mlp.down_proj.weight 2048 16384
model.language_model.layers.{18}.input_layernorm.weight 2048
model.language_model.layers.{18}.post_attention_layernorm.weight 2048
model.language_model.norm.weight 2048
"""
EXPERT = """
layers.{18}.self_attn.q_proj.weight 2048 1024
layers.{18}.self_attn.k_proj.weight 256 1024
layers.{18}.self_attn.v_proj.weight 256 1024
layers.{18}.self_attn.o_proj.weight 1024 2048
layers.{18}.mlp.gate_proj.weight 4096 1024
layers.{18}.mlp.up_proj.weight 4096 1024
layers.{18}.mlp.down_proj.weight 1024 4096
"""
PLAIN_NORMS = """
layers.{18}.input_layernorm.weight 1024
layers.{18}.post_attention_layernorm.weight 1024
norm.weight 1024
"""
ADAPTIVE_NORMS = """
layers.{18}.input_layernorm.dense.weight 3072 1024
layers.{18}.input_layernorm.dense.bias 3072
layers.{18}.post_attention_layernorm.dense.weight 3072 1024
layers.{18}.post_attention_layernorm.dense.bias 3072
norm.dense.weight 3072 1024
norm.dense.bias 3072
"""
ACTIONS = """
action_in_proj.weight 1024 32
action_in_proj.bias 1024
action_out_proj.weight 32 1024
action_out_proj.bias 32
"""
PI0_ACTIONS = """
state_proj.weight 1024 32
state_proj.bias 1024
action_time_mlp_in.weight 1024 2048
action_time_mlp_in.bias 1024
action_time_mlp_out.weight 1024 1024
action_time_mlp_out.bias 1024
"""
PI05_ACTIONS = """
time_mlp_in.weight 1024 1024
time_mlp_in.bias 1024
time_mlp_out.weight 1024 1024
time_mlp_out.bias 1024
"""
VLM, GEMMA = "paligemma_with_expert.paligemma.", "paligemma_with_expert.gemma_expert.model."


def _listed(prefix: str, table: str) -> dict[str, tuple[int, ...]]:
    listed = {}
    for line in table.strip().splitlines():
        name, *shape = line.split()
        layers = re.search(r"\{(\d+)\}", name)
        for layer in range(int(layers[1])) if layers else (0,):
            listed[prefix + re.sub(r"\{\d+\}", str(layer), name)] = tuple(map(int, shape))
    return listed


SHARED = _listed(VLM + "model.vision_tower.vision_model.", VISION) | _listed(VLM, LANGUAGE)
FLOW = SHARED | _listed(GEMMA, EXPERT) | _listed("", ACTIONS)
PUBLISHED = {
    "pi0": (configs.pi0(), FLOW | _listed(GEMMA, PLAIN_NORMS) | _listed("", PI0_ACTIONS)),
    "pi05": (configs.pi05(), FLOW | _listed(GEMMA, ADAPTIVE_NORMS) | _listed("", PI05_ACTIONS)),
    "pi0_fast": (configs.pi0_fast(), SHARED),
}


@pytest.mark.parametrize("family", PUBLISHED)
def test_table_covers_exactly_the_published_tensors(family):
    config, published = PUBLISHED[family]
    asked = {}
    for name, shape in shapes(config).items():
        for _, tensor, piece in RULES[name].pieces(shape):
            assert tensor not in asked
            asked[tensor] = RULES[name].layout.torch_shape(piece)
            assert owner(tensor) == name
    assert asked == published


def test_test_list_has_as_many_tensors_as_the_published_file():
    # LeRobot reports 777 tensors in lerobot/pi0_base (lerobot issue 3109): one token table, under the
    # name of the output head, and the action expert's unused head.
    assert len(PUBLISHED["pi0"][1]) + 1 == 777


@pytest.mark.parametrize("family", PUBLISHED)
def test_maps_every_entry_of_every_tensor(family, tmp_path):
    flat = tiny_parameters(family)
    save_file(torch_tensors(flat), tmp_path / "model.safetensors")
    loaded = open_checkpoint(tmp_path).load(expecting(flat))
    assert loaded.keys() == flat.keys()
    for name, array in flat.items():
        np.testing.assert_array_equal(np.asarray(loaded[name]), array, err_msg=name)


def test_layouts_agree_with_explicit_indices():
    n, d, h = 2, 3, 4
    tensor = np.arange(n * h * d).reshape(n * h, d)
    array = Layout("n d h", "(n h) d").to_model(tensor, (n, d, h))
    for i, j, k in itertools.product(range(n), range(d), range(h)):
        assert array[i, j, k] == tensor[i * h + k, j]
    assert Layout("n d h", "(n h) d").torch_shape((n, d, h)) == (n * h, d)


@pytest.mark.parametrize(
    ("spelling", "canonical"),
    [
        ("model.action_in_proj.weight", "action_in_proj.weight"),
        ("model.time_mlp_in.bias", "time_mlp_in.bias"),
        ("model." + GEMMA + "norm.weight", GEMMA + "norm.weight"),
        (VLM + "language_model.model.norm.weight", VLM + "model.language_model.norm.weight"),
        (VLM + "language_model.lm_head.weight", VLM + "lm_head.weight"),
        (VLM + "vision_tower.vision_model.x", VLM + "model.vision_tower.vision_model.x"),
        (VLM + "multi_modal_projector.linear.bias", VLM + "model.multi_modal_projector.linear.bias"),
    ],
)  # fmt: skip
def test_canonical_name_unifies_spellings(spelling, canonical):
    assert canonical_name(spelling) == canonical
    assert canonical_name("model." + spelling.removeprefix("model.")) == canonical


def test_a_published_name_is_already_canonical():
    for _, published in PUBLISHED.values():
        assert all(canonical_name(name) == name for name in published)


def test_unknown_tensors_have_no_owner():
    assert owner("proprio_history_proj.weight") is None
