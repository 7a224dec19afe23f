"""openpi's own folders: written here with orbax in its layout, and as openpi itself wrote them."""

import gc
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from simloop.harness.parity.checkpoints import WRITTEN_FROM, checks
from simloop.policies.checkpoints import CheckpointError, open_checkpoint
from simloop.policies.transforms.normalization import EntryStats, save_norm_stats
from tests.helpers.tiny_parameters import expecting, tiny_parameters

STATS = {key: EntryStats(np.zeros(3), np.ones(3), -np.ones(3), np.ones(3)) for key in ("state", "actions")}


def write_step(step, flat, *, suffix, dtype=np.float32, assets=("lab/arm",)):
    """A step as openpi's trainer leaves it: `params/` with one tree, and statistics by asset id."""
    tree = {}
    for name, array in flat.items():
        node = tree
        *parents, leaf = [*name.split("/"), *(["value"] if suffix else [])]
        for key in parents:
            node = node.setdefault(key, {})
        node[leaf] = jnp.asarray(array, dtype)
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(step / "params", {"params": tree})
    for asset in assets:
        save_norm_stats(step / "assets" / asset / "norm_stats.json", STATS)
    return step


@pytest.mark.parametrize("suffix", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_reads_openpi_steps_exactly(tmp_path, suffix, dtype):
    flat = tiny_parameters("pi05")
    step = write_step(tmp_path / "100", flat, suffix=suffix, dtype=dtype)
    for folder in (step, step / "params"):
        checkpoint = open_checkpoint(folder)
        assert checkpoint.format == "openpi_orbax"
        assert {array.model_name: array.shape for array in checkpoint.arrays} == {
            name: array.shape for name, array in flat.items()
        }
        assert {array.dtype for array in checkpoint.arrays} == {np.dtype(dtype)}
        loaded = checkpoint.load(expecting(flat, dtype))
        for name, array in flat.items():
            np.testing.assert_array_equal(np.asarray(loaded[name]), array.astype(dtype))
        assert checkpoint.norm_stats(kind="quantile")["state"].mean.shape == (3,)


def test_casting_while_loading_equals_casting_afterwards(tmp_path):
    flat = tiny_parameters("pi0")
    loaded = open_checkpoint(write_step(tmp_path / "1", flat, suffix=True)).load(
        expecting(flat), dtype=jnp.bfloat16
    )
    for name, array in flat.items():
        assert loaded[name].dtype == jnp.bfloat16
        np.testing.assert_array_equal(np.asarray(loaded[name]), array.astype(jnp.bfloat16))


def test_stored_names_are_full_paths(tmp_path):
    flat = {"action_in_proj/kernel": np.ones((2, 3), np.float32)}
    for suffix, name in (
        (True, "params/action_in_proj/kernel/value"),
        (False, "params/action_in_proj/kernel"),
    ):
        (array,) = open_checkpoint(write_step(tmp_path / str(suffix), flat, suffix=suffix)).arrays
        assert (array.name, array.model_name) == (name, "action_in_proj/kernel")


# Orbax leaves futures behind when it fails; Python complains when it collects them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_reports_a_damaged_folder_in_one_sentence(tmp_path):
    flat = tiny_parameters("pi0_fast")
    step = write_step(tmp_path / "1", flat, suffix=True)
    data = sorted(file for file in (step / "params").rglob("d/*") if file.is_file())
    contents = {file: file.read_bytes() for file in data}
    for damage in (Path.unlink, lambda file: file.write_bytes(contents[file][: len(contents[file]) // 2])):
        for file in data:
            damage(file)
        with pytest.raises(CheckpointError, match="incomplete or damaged") as error:
            open_checkpoint(step).load(expecting(flat))
        assert "\n" not in str(error.value)
        for file in data:
            file.write_bytes(contents[file])
    (step / "params" / "_METADATA").write_text("{")
    with pytest.raises(CheckpointError, match="incomplete or damaged"):
        open_checkpoint(step)
    gc.collect()  # Here, where the complaints about orbax's futures are expected.


def test_rejects_a_training_state(tmp_path):
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = {"params": {"a": {"value": jnp.ones(2)}}, "step": jnp.ones(1), "opt_state": {"m": jnp.ones(2)}}
        checkpointer.save(tmp_path / "train_state", tree)
    with pytest.raises(CheckpointError, match="opt_state, params, step"):
        open_checkpoint(tmp_path / "train_state")


def test_needs_an_asset_id_for_several_robots(tmp_path):
    flat = {"a": np.ones(2, np.float32)}
    checkpoint = open_checkpoint(write_step(tmp_path / "1", flat, suffix=True, assets=("droid", "trossen")))
    assert checkpoint.statistics.asset_ids() == ("droid", "trossen")
    with pytest.raises(CheckpointError, match="statistics of droid, trossen"):
        checkpoint.norm_stats(kind="z_score")
    with pytest.raises(CheckpointError, match="got asset_id 'franka'"):
        checkpoint.norm_stats("franka", kind="z_score")
    assert checkpoint.norm_stats("trossen", kind="z_score").keys() == STATS.keys()


def test_never_guesses_the_normalization(tmp_path):
    checkpoint = open_checkpoint(write_step(tmp_path / "1", {"a": np.ones(2, np.float32)}, suffix=True))
    assert checkpoint.normalization is None
    with pytest.raises(CheckpointError, match="does not record its normalization"):
        checkpoint.norm_stats()


def test_rejects_statistics_without_quantiles_for_quantile_presets(tmp_path):
    step = write_step(tmp_path / "1", {"a": np.ones(2, np.float32)}, suffix=True)
    plain = {key: EntryStats(stats.mean, stats.std) for key, stats in STATS.items()}
    save_norm_stats(step / "assets" / "lab" / "arm" / "norm_stats.json", plain)
    assert open_checkpoint(step).norm_stats(kind="z_score")["state"].q01 is None
    with pytest.raises(CheckpointError, match="needs q01 and q99"):
        open_checkpoint(step).norm_stats(kind="quantile")


def test_rejects_statistics_without_a_key(tmp_path):
    step = write_step(tmp_path / "1", {"a": np.ones(2, np.float32)}, suffix=True)
    save_norm_stats(step / "assets" / "lab" / "arm" / "norm_stats.json", {"state": STATS["state"]})
    with pytest.raises(CheckpointError, match="statistics of actions"):
        open_checkpoint(step).norm_stats(kind="z_score")


GOLDEN = os.environ.get("SIMLOOP_GOLDEN")


@pytest.mark.skipif(GOLDEN is None, reason="SIMLOOP_GOLDEN does not name a folder of recorded outputs")
def test_reads_checkpoints_written_by_openpi():
    assert GOLDEN is not None
    comparisons = list(checks(Path(GOLDEN)))
    assert len(comparisons) >= 30 * len(WRITTEN_FROM)
    assert [comparison.name for comparison in comparisons if not comparison.passed] == []


def test_loading_is_independent_of_the_saving_devices(tmp_path):
    flat = {"a": np.arange(6, dtype=np.float32)}
    step = write_step(tmp_path / "1", flat, suffix=True)
    sharding = step / "params" / "_sharding"
    sharding.write_text(sharding.read_text().replace("TFRT_CPU_0", "TPU_17(process=3,(1,2,3,0))"))
    loaded = open_checkpoint(step).load(expecting(flat))
    assert loaded["a"].devices() == {jax.devices()[0]}
    np.testing.assert_array_equal(np.asarray(loaded["a"]), flat["a"])
