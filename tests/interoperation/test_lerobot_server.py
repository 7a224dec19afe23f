"""Policies of LeRobot are served from an environment that holds LeRobot and nothing of simloop."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from simloop.harness.planning.policy_names import parse
from simloop.harness.remote.robots import ROBOTS
from tests.harness.remote.test_policy import query

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "lerobot"
FEATURES = """
from lerobot.configs.types import FeatureType, PolicyFeature
import torch

features = {
    "input_features": {
        "observation.images.base": PolicyFeature(FeatureType.VISUAL, (3, 224, 224)),
        "observation.images.wrist": PolicyFeature(FeatureType.VISUAL, (3, 224, 224)),
        "observation.state": PolicyFeature(FeatureType.STATE, (4,)),
    },
    "output_features": {"action": PolicyFeature(FeatureType.ACTION, (4,))},
    "device": "cpu",
}
numbers = {"mean": torch.full((4,), 0.2), "std": torch.full((4,), 0.5), "min": -torch.ones(4), "max": torch.ones(4)}
pixels = {"mean": torch.full((3, 1, 1), 0.5), "std": torch.full((3, 1, 1), 0.3)}
stats = {name: pixels if "images" in name else numbers for name in [*features["input_features"], "action"]}
torch.manual_seed(0)
"""
ACT = (
    FEATURES
    + """
import sys
import numpy as np
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors

config = ACTConfig(
    **features, chunk_size=10, n_action_steps=10, dim_model=64, n_heads=4, dim_feedforward=128, latent_dim=8,
    n_encoder_layers=1, n_vae_encoder_layers=1, pretrained_backbone_weights=None,
)
policy = ACTPolicy(config).eval()
before, after = make_pre_post_processors(config, dataset_stats=stats)
for part in (policy, before, after):
    part.save_pretrained(sys.argv[1])
given = np.load(sys.argv[2])
batch = {name: torch.from_numpy(given[name.rpartition(".")[2]])[None] for name in features["input_features"]}
batch = {name: x.permute(0, 3, 1, 2).float() / 255 if "images" in name else x for name, x in batch.items()}
with torch.no_grad():
    chunk = policy.predict_action_chunk(before(batch | {"task": ["wave"]}))
np.save(sys.argv[3], np.stack([after(action)[0].numpy() for action in chunk.unbind(1)]))
"""
)
SMALL_PI0 = (
    FEATURES
    + """
import transformers
from lerobot.policies.pi0 import modeling_pi0
from lerobot.policies.pi0.configuration_pi0 import PI0Config

from server import Server


class Tokenizer:  # The real one is on a hub.
    padding_side = "right"

    def __call__(self, texts, *, max_length, **options):
        ids = torch.arange(max_length)[None].repeat(len(texts), 1)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def small(config):
    config.text_config.vocab_size, config._vocab_size, config.image_token_index = 512, 512, 511
    config.projection_dim = 64
    config.vision_config.update(
        {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
         "projection_dim": 64}
    )
    return real(config=config)


transformers.AutoTokenizer.from_pretrained = lambda *a, **k: Tokenizer()
real = modeling_pi0.PaliGemmaForConditionalGenerationWithPiGemma
modeling_pi0.PaliGemmaForConditionalGenerationWithPiGemma = small
modeling_pi0.get_gemma_config = lambda variant: modeling_pi0.GemmaConfig(64, 2, 128, 2, 1, 32)
from lerobot.policies.factory import make_pre_post_processors

config = PI0Config(**features, chunk_size=10, n_action_steps=10, num_inference_steps=2, dtype="float32")
Server(modeling_pi0.PI0Policy(config), *make_pre_post_processors(config, dataset_stats=stats)).serve()
"""
)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A copy of the example, whose child processes look nothing up on a hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return Path(shutil.copytree(EXAMPLE, tmp_path / "policy"))


def answer(folder: Path, asked) -> np.ndarray:
    policy = parse(f"process:{folder}?python={os.environ['SIMLOOP_LEROBOT_PYTHON']}").load()
    try:
        policy.prepare(1)
        return policy.infer([asked], 1).chunks[0].actions
    finally:
        policy.close()


def test_a_checkpoint_of_act_is_served_with_the_actions_of_lerobot(lerobot, folder):
    asked = query(1)
    sent = ROBOTS["metaworld"].observation(asked)
    base, wrist, state = (sent[f"observation/{name}"] for name in ("image", "wrist_image", "state"))
    np.savez(folder / "given.npz", base=base, wrist=wrist, state=np.float32(state))
    lerobot(ACT, folder / "checkpoint", folder / "given.npz", folder / "expected.npy")
    np.testing.assert_allclose(answer(folder, asked), np.load(folder / "expected.npy"), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("lerobot")
def test_a_pi0_of_lerobot_with_random_weights_is_served(folder):
    (folder / "small_pi0.py").write_text(SMALL_PI0)
    manifest = folder / "simloop-policy.toml"
    manifest.write_text(manifest.read_text().replace('["server.py", "checkpoint"]', '["small_pi0.py"]'))
    actions = answer(folder, query(1))
    assert actions.shape == (10, 4)
    assert np.isfinite(actions).all()
    assert np.ptp(actions) > 0
