"""What loading costs in memory, measured in a process of its own."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from simloop.policies.checkpoints import save_checkpoint
from simloop.policies.models.configs import GemmaConfig, ImageEncoderConfig, pi0_fast
from simloop.policies.models.parameters import shapes
from tests.helpers.fresh_python import run_python
from tests.helpers.torch_checkpoints import torch_tensors
from tests.policies.checkpoints.test_openpi_orbax import write_step

# 397 MB in float32, of which the token table is 131 MB and the gating weights are 134 MB.
LANGUAGE = GemmaConfig(width=1024, depth=4, mlp_dim=4096, num_heads=4, num_kv_heads=1, head_dim=256)
IMAGE_ENCODER = ImageEncoderConfig(width=256, depth=4, mlp_dim=1024, num_heads=4, patch_size=14)
CONFIG = pi0_fast(LANGUAGE, image_encoder=IMAGE_ENCODER, vocab_size=32_000)

MEASURED = """
import json, re, sys, time
import jax, numpy as np
from simloop.policies.checkpoints import open_checkpoint

def peak_bytes():  # Of this program alone: ru_maxrss would remember the process that started it.
    status = open("/proc/self/status").read()
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) << 10

folder, dtype = sys.argv[1:3]
shapes = {name: tuple(shape) for name, shape in json.loads(sys.argv[3]).items()}
checkpoint = open_checkpoint(folder)
small = min(shapes, key=lambda name: np.prod(shapes[name]))  # Starts threads, which take memory of their own.
jax.device_put(checkpoint.source.read(small, shapes[small], np.dtype(dtype))).block_until_ready()
before, started = peak_bytes(), time.monotonic()
loaded = checkpoint.load({name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in shapes.items()})
seconds = time.monotonic() - started
print(json.dumps([peak_bytes() - before, sum(array.nbytes for array in loaded.values()), seconds]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["simloop", "pytorch", "openpi"])
def test_loading_needs_little_more_memory_than_the_largest_array(tmp_path, layout):
    generator = np.random.default_rng(0)
    flat = {
        name: generator.standard_normal(shape, dtype=np.float32) for name, shape in shapes(CONFIG).items()
    }
    folder = tmp_path / "c"
    if layout == "simloop":
        save_checkpoint(folder, flat, preset=None, normalization=None, config={}, norm_stats={})
    elif layout == "pytorch":
        folder.mkdir()
        save_file(torch_tensors(flat), folder / "model.safetensors")
    else:
        write_step(folder, flat, suffix=True)
    wanted = json.dumps({name: array.shape for name, array in flat.items()})
    measured = {
        dtype: json.loads(run_python(MEASURED, folder, dtype, wanted)) for dtype in ("bfloat16", "float32")
    }
    shutil.rmtree(folder)
    largest = max(array.nbytes for array in flat.values())
    for dtype, (peak, on_device, seconds) in measured.items():
        beside = (peak - on_device) / largest  # Device and host share their memory here.
        print(f"{layout} as {dtype}: {beside:.2f} of the largest array beside the result, {seconds:.1f} s")
        assert beside <= 1.3
