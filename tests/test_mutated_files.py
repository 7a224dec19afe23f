"""Damaged and hostile files end in a sentence: no traceback, no memory beyond their size, no hang."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
from safetensors.numpy import save_file

from simloop.envs.env_state import EnvState
from simloop.harness.planning.experiment import Experiment, experiment_from_json
from simloop.policies.checkpoints import CheckpointError, open_checkpoint
from simloop.policies.checkpoints.native_writer import save_checkpoint
from simloop.policies.checkpoints.safetensors_files import SafetensorsFiles
from simloop.policies.presets import preset
from simloop.policies.presets.recorded import fitted
from simloop.policies.tokenizers.fast_actions import load_fast_actions
from simloop.policies.tokenizers.sentencepiece_model import SentencePieceModel, TokenizerFileError
from simloop.policies.training.dataset_reader import open_dataset
from simloop.policies.training.demonstration import demonstration_from
from simloop.policies.transforms.normalization import EntryStats, load_norm_stats, norm_stats_to_json
from simloop.results.tables.published import read_published
from tests.helpers.attacks import FIRST_MUTATION, MUTATIONS, mutations
from tests.helpers.demonstrations import demonstration, small_dataset
from tests.helpers.lerobot_datasets import write_v3, write_v21
from tests.policies.checkpoints.test_openpi_orbax import write_step

FAST = 12
STANDIN = Path(__file__).parent / "golden" / "queries" / "standin"
STATS = {key: EntryStats(np.zeros(3), np.ones(3), -np.ones(3), np.ones(3)) for key in ("state", "actions")}
ARRAYS = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b/c": np.zeros((2, 0), np.int8),
    "d": np.array(3.5),
}


@dataclass(frozen=True)
class Reader:
    """How a kind of file is written, and read to its last byte."""

    write: Callable[[Path], object]
    read: Callable[[Path], object]
    files: str = "*"


def reading_all(folder: Path, kind: Literal["z_score", "quantile"] = "z_score") -> None:
    checkpoint = open_checkpoint(folder)
    for array in checkpoint.arrays:
        if array.nbytes < 1 << 20:
            checkpoint.source.read(array.model_name or array.name, array.shape, array.dtype)
    checkpoint.norm_stats(kind=kind)


def own_checkpoint(folder: Path) -> None:
    save_checkpoint(
        folder / "c",
        ARRAYS,
        preset="pi0-tiny",
        normalization="z_score",
        config={"a": 1},
        norm_stats={"arm": STATS},
    )


LEROBOT = {
    "type": "pi0", "n_obs_steps": 1, "chunk_size": 10, "num_inference_steps": 4, "max_state_dim": 4,
    "image_resolution": [96, 96], "use_relative_actions": False, "normalization_mapping": {"STATE": "MEAN_STD"},
    "input_features": {"observation.images.image": {"type": "VISUAL"}, "observation.state": {"shape": [4]}},
    "output_features": {"action": {"type": "ACTION", "shape": [4]}},
}  # fmt: skip
MOVED = ({"registry_name": "device_processor", "config": {"device": "cuda", "float_dtype": None}},)


def lerobot_policy(folder: Path) -> None:
    save_file({name: np.asarray(array) for name, array in ARRAYS.items()}, folder / "model.safetensors")
    stats = {
        f"{key}.{name}": np.ones(3) for key in ("observation.state", "action") for name in ("mean", "std")
    }
    for name in ("preprocessor", "postprocessor"):
        step = {
            "registry_name": "normalizer_processor" if name == "preprocessor" else "unnormalizer_processor",
            "state_file": f"{name}.safetensors",
            "config": {"norm_map": {"STATE": "MEAN_STD", "ACTION": "MEAN_STD"}},
        }
        (folder / f"policy_{name}.json").write_text(json.dumps({"steps": [*MOVED, step]}))
        save_file(stats, folder / f"{name}.safetensors")
    (folder / "config.json").write_text(json.dumps(LEROBOT))


def lerobot_statistics(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    fitted(preset("pi0-tiny"), checkpoint.options, str(folder))
    checkpoint.norm_stats(kind=checkpoint.normalization)


def reading_dataset(folder: Path) -> None:
    dataset = open_dataset(folder / "data")
    for camera in dataset.cameras:
        for _ in dataset.images(camera):
            pass


def state() -> bytes:
    values = {"goal": np.arange(3.0), "flags": np.array([True]), "t": 3, "none": None, "list": [1.0, 2.5]}
    return EnvState("points", "reach", "mujoco 3", 7, np.arange(5.0), values).to_bytes()


def copied(*names: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for name in names:
            (folder / Path(name).name).write_bytes((STANDIN / name).read_bytes())

    return write


RATES = "policy,tasks,rate,episodes,protocol,source\npi0,libero,0.5,10,p,s\n"
CHEAP = {
    "safetensors": Reader(
        lambda folder: save_file({n: np.asarray(a) for n, a in ARRAYS.items()}, folder / "a.safetensors"),
        lambda folder: [
            files.read(name)
            for files in [SafetensorsFiles([folder / "a.safetensors"])]
            for name in files.entries
        ],
    ),
    "own checkpoint": Reader(own_checkpoint, lambda folder: reading_all(folder / "c"), "c/**/*"),
    "LeRobot policy": Reader(lerobot_policy, lerobot_statistics),
    "statistics": Reader(
        lambda folder: (folder / "s.json").write_text(norm_stats_to_json(STATS)),
        lambda folder: load_norm_stats(folder / "s.json"),
    ),
    "dataset metadata": Reader(
        lambda folder: write_v3(folder / "d", lengths=(3, 2)),
        lambda folder: open_dataset(folder / "d"),
        "d/meta/**/*",
    ),
    "dataset metadata of version 2.1": Reader(
        lambda folder: write_v21(folder / "d", lengths=(3, 2)),
        lambda folder: open_dataset(folder / "d"),
        "d/meta/*",
    ),
    "environment state": Reader(
        lambda folder: (folder / "s.npz").write_bytes(state()),
        lambda folder: EnvState.from_bytes((folder / "s.npz").read_bytes()).digest,
    ),
    "demonstration": Reader(
        lambda folder: (folder / "d").write_bytes(demonstration(0, steps=4).to_bytes()),
        lambda folder: demonstration_from((folder / "d").read_bytes()),
    ),
    "experiment": Reader(
        lambda folder: (folder / "e.json").write_text(
            json.dumps(Experiment("e", "metaworld", ("reach-v3",), ("expert",), 3).to_dict())
        ),
        lambda folder: experiment_from_json((folder / "e.json").read_text("latin-1"), "e.json"),
    ),
    "published rates": Reader(
        lambda folder: (folder / "p.csv").write_text(RATES), lambda folder: read_published(folder / "p.csv")
    ),
}
COSTLY = {
    "orbax checkpoint": Reader(
        lambda folder: write_step(folder / "s", {"a/b": ARRAYS["a"]}, suffix=True),
        lambda folder: reading_all(folder / "s", kind="quantile"),
        "s/**/*",
    ),
    "dataset": Reader(
        lambda folder: small_dataset(folder / "data", 2, steps=6), reading_dataset, "data/**/*"
    ),
    "action tokenizer": Reader(
        copied("fast/tokenizer.json", "fast/processor_config.json"), lambda folder: load_fast_actions(folder)
    ),
    "text tokenizer": Reader(
        copied("paligemma_tokenizer.model"),
        lambda folder: SentencePieceModel(folder / "paligemma_tokenizer.model"),
    ),
}


def check(reader: Reader, folder: Path, count: int, first: int = 0) -> None:
    reader.write(folder)
    reader.read(folder)
    whole = {path: path.read_bytes() for path in sorted(folder.glob(reader.files)) if path.is_file()}
    files, refused, failed = list(whole), 0, []
    for number in range(first, first + count):
        file = files[number % len(files)]
        (mutated,) = mutations(whole[file], 1, seed=number)
        file.write_bytes(mutated)
        try:
            reader.read(folder)
        except Exception as error:
            if not getattr(error, "user_facing", False):
                error.add_note(f"mutation {number} of {file.relative_to(folder)}")
                failed.append(error)
            refused += 1
        file.write_bytes(whole[file])
    if failed:
        raise ExceptionGroup(f"{len(failed)} of {count} mutations ended in no sentence", failed[:5])
    assert refused, "the mutations are noticed"


@pytest.mark.parametrize("kind", CHEAP)
def test_some_mutated_files_are_read_or_refused_by_a_sentence(kind, tmp_path):
    check(CHEAP[kind], tmp_path, FAST)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", [*CHEAP, *COSTLY])
def test_mutated_files_are_read_or_refused_by_a_sentence(kind, tmp_path):
    check((CHEAP | COSTLY)[kind], tmp_path, MUTATIONS, FIRST_MUTATION)


def test_a_checkpoint_that_lists_a_name_that_no_file_can_have_is_refused(tmp_path):
    lerobot_policy(tmp_path)
    file = tmp_path / "policy_postprocessor.json"
    file.write_text(file.read_text().replace("postprocessor.safetensors", "a" * 300))
    with pytest.raises(CheckpointError, match="a file that cannot exist"):
        lerobot_statistics(tmp_path)


def test_an_action_tokenizer_whose_reader_panics_is_refused(tmp_path, monkeypatch):
    class Panic(BaseException):
        pass

    def panic(text):
        raise Panic("range end index 126 out of range")

    COSTLY["action tokenizer"].write(tmp_path)
    monkeypatch.setattr("tokenizers.Tokenizer", SimpleNamespace(from_str=panic))
    with pytest.raises(TokenizerFileError, match="damaged FAST action tokenizer"):
        load_fast_actions(tmp_path)


def test_a_text_tokenizer_with_a_damaged_piece_is_refused(tmp_path):
    file = tmp_path / "paligemma_tokenizer.model"
    file.write_bytes((STANDIN / file.name).read_bytes().replace(b"<seg000>", b"<seg\x9400>"))
    with pytest.raises(TokenizerFileError):
        SentencePieceModel(file)
