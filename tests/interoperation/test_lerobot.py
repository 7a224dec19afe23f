"""What simloop writes is read by LeRobot and PEFT, and what they write by simloop, with equal values."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from simloop.policies.checkpoints import open_checkpoint
from simloop.policies.checkpoints.native_writer import save_checkpoint
from simloop.policies.checkpoints.peft import merge_adapters
from simloop.policies.training.dataset_reader import open_dataset
from tests.helpers.demonstrations import CAMERAS, INSTRUCTIONS, small_dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]

READ = """
import json, sys
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

data = LeRobotDataset("simloop/test", root=sys.argv[1], return_uint8=True)
rows = [data[i] for i in range(len(data))]
cameras = [key for key in rows[0] if key.startswith("observation.images.")]
keys = (*cameras, "observation.state", "action")
arrays = {key: np.stack([row[key].numpy() for row in rows]) for key in keys}
for key, stats in data.meta.stats.items():
    for name, value in stats.items():
        arrays[f"stats {key} {name}"] = np.asarray(value)
np.savez(sys.argv[2], tasks=np.array([row["task"] for row in rows]), **arrays)
"""


def read_by_lerobot(lerobot, folder, out):
    lerobot(READ, folder, out)
    with np.load(out) as arrays:
        return dict(arrays)


def frames(dataset, key):
    shown = np.zeros((len(dataset.states), *dataset.cameras[key], 3), np.uint8)
    for row, image in dataset.images(key):
        shown[row] = image
    return shown


def require_equal(dataset, theirs):
    np.testing.assert_array_equal(theirs["observation.state"], dataset.states)
    np.testing.assert_array_equal(theirs["action"], dataset.actions)
    assert [dataset.instructions[task] for task in dataset.task_of_frame] == theirs["tasks"].tolist()
    for key in dataset.cameras:
        image = theirs[key].transpose(0, 2, 3, 1)
        image = np.round(255 * image) if image.dtype.kind == "f" else image
        assert np.abs(frames(dataset, key).astype(int) - image.astype(int)).max() <= 2, key


def test_lerobot_reads_a_dataset_of_simloop(lerobot, tmp_path):
    theirs = read_by_lerobot(lerobot, small_dataset(tmp_path / "data", 3, size=96), tmp_path / "read.npz")
    dataset = open_dataset(tmp_path / "data")
    require_equal(dataset, theirs)
    assert len(dataset.cameras) == len(CAMERAS)
    assert set(theirs["tasks"]) == set(INSTRUCTIONS)
    for key, values in (("observation.state", dataset.states), ("action", dataset.actions)):
        for name, q in (("q01", 0.01), ("q99", 0.99)):
            wanted = np.quantile(values.astype(np.float64), q, axis=0)
            np.testing.assert_allclose(theirs[f"stats {key} {name}"], wanted, rtol=1e-6, atol=1e-9)


WRITE = """
import sys
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

features = {
    "observation.state": {"dtype": "float32", "shape": (4,), "names": list("abcd")},
    "action": {"dtype": "float32", "shape": (3,), "names": list("xyz")},
    "observation.images.top": {"dtype": sys.argv[2], "shape": (96, 128, 3), "names": ["height", "width", "channels"]},
}
data = LeRobotDataset.create(
    "simloop/test", fps=10, features=features, root=sys.argv[1], use_videos=sys.argv[2] == "video"
)
draw = np.random.default_rng(0)
y, x = np.mgrid[:96, :128]
for episode in range(3):
    for step in range(8 + episode):
        image = np.stack([2 * y, x, np.full_like(x, 20 * step + 5 * episode)], axis=-1).astype(np.uint8)
        data.add_frame({
            "observation.state": draw.normal(size=4).astype(np.float32),
            "action": draw.normal(size=3).astype(np.float32),
            "observation.images.top": image,
            "task": ["open the drawer", "push"][episode % 2],
        })
    data.save_episode()
data.finalize()
"""


@pytest.mark.parametrize("kind", ["video", "image"])
def test_simloop_reads_a_dataset_of_lerobot(lerobot, tmp_path, kind):
    lerobot(WRITE, tmp_path / "data", kind)
    dataset = open_dataset(tmp_path / "data")
    assert [episode.end - episode.begin for episode in dataset.episodes] == [8, 9, 10]
    require_equal(dataset, read_by_lerobot(lerobot, tmp_path / "data", tmp_path / "read.npz"))


POLICY = """
import importlib, json, sys
import numpy as np, torch, transformers
from safetensors.torch import save_file
from lerobot.configs.types import FeatureType, PolicyFeature

class Tokenizer:  # The real one is on a hub.
    padding_side = "right"

transformers.AutoTokenizer.from_pretrained = lambda *a, **k: Tokenizer()
transformers.AutoProcessor.from_pretrained = lambda *a, **k: Tokenizer()
kind, folder, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
config_of = importlib.import_module(f"lerobot.policies.{kind}.configuration_{kind}")
process = importlib.import_module(f"lerobot.policies.{kind}.processor_{kind}")
name = {"pi0": "PI0Config", "pi05": "PI05Config", "pi0_fast": "PI0FastConfig"}[kind]
config = getattr(config_of, name)(
    input_features={
        "observation.images.base_0_rgb": PolicyFeature(FeatureType.VISUAL, (3, 224, 224)),
        "observation.images.left_wrist_0_rgb": PolicyFeature(FeatureType.VISUAL, (3, 224, 224)),
        "observation.state": PolicyFeature(FeatureType.STATE, (8,)),
    },
    output_features={"action": PolicyFeature(FeatureType.ACTION, (7,))},
    device="cpu",
    **options,
)
stats = {
    key: {name: torch.arange(size) * 0.1 + shift for name, shift in
          (("mean", 0.0), ("std", 1.0), ("q01", -2.0), ("q99", 3.0), ("min", -3.0), ("max", 4.0))}
    for key, size in (("observation.state", 8), ("action", 7))
}
before, after = getattr(process, f"make_{kind}_pre_post_processors")(config, dataset_stats=stats)
config.save_pretrained(folder)
before.save_pretrained(folder, config_filename="policy_preprocessor.json")
after.save_pretrained(folder, config_filename="policy_postprocessor.json")
save_file({"model.action_in_proj.bias": torch.zeros(4)}, f"{folder}/model.safetensors")
"""


@pytest.mark.parametrize(
    ("kind", "options", "normalization", "relative"),
    [
        ("pi0", {"chunk_size": 20, "n_action_steps": 10, "num_inference_steps": 5}, "z_score", ()),
        ("pi05", {"chunk_size": 20, "n_action_steps": 10, "num_inference_steps": 5}, "quantile", ()),
        (
            "pi0",
            {"chunk_size": 20, "n_action_steps": 10, "num_inference_steps": 5, "use_relative_actions": True},
            "z_score",
            (True,) * 7,
        ),
    ],
)
def test_simloop_reads_policies_of_lerobot(lerobot, tmp_path, kind, options, normalization, relative):
    lerobot(POLICY, kind, tmp_path, json.dumps(options))
    opened = open_checkpoint(tmp_path)
    found = opened.options
    assert (found.family, found.chunk_steps, found.flow_steps) == (kind, 20, 5)
    assert (found.state_size, found.action_size, found.padded_size) == (8, 7, 32)
    assert (found.normalization, found.relative) == (normalization, relative)
    assert found.cameras == (("base_0_rgb",), ("left_wrist_0_rgb",))
    stats = opened.norm_stats(kind=normalization)
    np.testing.assert_allclose(stats["actions"].mean, 0.1 * np.arange(7), rtol=1e-6)
    np.testing.assert_allclose(stats["state"].q99, 0.1 * np.arange(8) + 3.0, rtol=1e-6)


def test_a_pi0_fast_policy_of_lerobot_is_refused_for_its_prompts(lerobot, tmp_path):
    from simloop.policies.checkpoints import CheckpointError

    lerobot(POLICY, "pi0_fast", tmp_path, "{}")
    with pytest.raises(CheckpointError, match="LeRobot writes prompts of pi0-FAST in another way"):
        open_checkpoint(tmp_path)


PEFT = """
import sys
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.v_proj, self.head = (torch.nn.Linear(*s) for s in ((6, 8), (6, 4), (8, 3)))

torch.manual_seed(0)
policy = torch.nn.Module()
policy.model = Model()
policy.forward = lambda x: x
save_file(dict(policy.state_dict()), f"{sys.argv[1]}/model.safetensors")
layers = {"target_modules": ["q_proj", "v_proj"], "modules_to_save": ["head"]}
config = LoraConfig(r=4, lora_alpha=6, **layers, **eval(sys.argv[3]))
adapted = get_peft_model(policy, config)
with torch.no_grad():
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn_like(parameter))
adapted.save_pretrained(sys.argv[2])
merged = adapted.merge_and_unload()
save_file({k: v.contiguous() for k, v in merged.state_dict().items()}, f"{sys.argv[1]}/merged")
"""


@pytest.mark.parametrize(
    "options",
    ["{}", "{'use_rslora': True}", "{'rank_pattern': {'v_proj': 2}, 'alpha_pattern': {'v_proj': 9}}"],
)
def test_adapters_are_merged_as_peft_merges_them(lerobot, tmp_path, options):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    lerobot(PEFT, base, adapter, options)
    assert merge_adapters(adapter, base, tmp_path / "out") == 4
    ours, theirs = load_file(tmp_path / "out" / "model.safetensors"), load_file(base / "merged")
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


TORCH = """
import sys
import numpy as np
from safetensors.torch import load_file

arrays = load_file(sys.argv[1])
np.savez(sys.argv[2], **{name: array.float().numpy() for name, array in arrays.items()})
"""


def test_torch_reads_the_weights_of_simloop(lerobot, tmp_path):
    draw = np.random.default_rng(0)
    arrays = {
        "a": draw.normal(size=(3, 4)).astype(np.float32),
        "b": np.asarray(draw.normal(size=(4, 5)).T, jnp.bfloat16),
    }
    save_checkpoint(tmp_path / "c", arrays, preset=None, normalization=None, config={}, norm_stats={})
    (file,) = (tmp_path / "c").glob("*.safetensors")
    lerobot(TORCH, file, tmp_path / "read.npz")
    with np.load(tmp_path / "read.npz") as theirs:
        for name, array in arrays.items():
            np.testing.assert_array_equal(theirs[name], array.astype(np.float32))


LOAD = """
import sys
import numpy as np
from safetensors.torch import load_file
from lerobot.configs.policies import PreTrainedConfig
import lerobot.policies.pi0.configuration_pi0

config = PreTrainedConfig.from_pretrained(sys.argv[1])
assert (config.type, config.chunk_size, config.use_peft) == ("pi0", 20, False), config
weights = load_file(f"{sys.argv[1]}/model.safetensors")
assert weights["model.action_in_proj.weight"].tolist() == [[2.0, 2.0], [2.0, 2.0]], weights
"""


def test_lerobot_loads_a_policy_with_merged_adapters(lerobot, tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    lerobot(POLICY, "pi0", base, json.dumps({"chunk_size": 50}))
    lerobot(POLICY, "pi0", adapter, json.dumps({"chunk_size": 20, "n_action_steps": 10, "use_peft": True}))
    name = "model.action_in_proj"
    save_file({f"{name}.weight": np.zeros((2, 2), np.float32)}, base / "model.safetensors")
    halves = {f"base_model.model.{name}.lora_{h}.weight": np.ones((2, 2), np.float32) for h in "AB"}
    save_file(halves, adapter / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    merge_adapters(adapter, base, tmp_path / "out")
    lerobot(LOAD, tmp_path / "out")
    assert open_checkpoint(tmp_path / "out").options.chunk_steps == 20
