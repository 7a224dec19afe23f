"""Merge adapters of PEFT (LoRA) into the policy that they were trained on, without PyTorch.

    adapter_config.json          options of the adapters
    adapter_model.safetensors    base_model.model.<layer>.lora_A.weight [r, in] and .lora_B.weight [out, r]

A linear layer of weight W [out, in] becomes W + scaling B A, where scaling is lora_alpha / r, or lora_alpha / sqrt(r)
for rank-stabilized adapters (arXiv:2312.03732). Layers that were trained in full (`modules_to_save`) replace those of
the policy.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simloop.policies.checkpoints.array_source import CheckpointError
from simloop.policies.checkpoints.lerobot_options import CONFIG
from simloop.policies.checkpoints.recorded_options import JsonFile
from simloop.policies.checkpoints.safetensors_files import SafetensorsFiles
from simloop.untrusted import MAX_JSON_BYTES, parse_json, read_bytes, read_json_object, require_links_inside

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
USED = {"peft_type", "r", "lora_alpha", "use_rslora", "alpha_pattern", "init_lora_weights"}
UNUSED = {
    "auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode", "peft_version",
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save", "rank_pattern",
    "lora_dropout", "bias", "runtime_config", "megatron_core", "qalora_group_size", "eva_config", "loftq_config",
}  # fmt: skip
"""Options of training, and choices of layers, which the names of the stored arrays show."""
INITIALIZATIONS = (True, False, "gaussian", "eva", "orthogonal")
"""Those that leave the weights of the policy as they were."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds adapters of PEFT."""
    return (folder / ADAPTER_CONFIG).is_file() and (folder / ADAPTER_WEIGHTS).is_file()


def merge_adapters(adapter: Path, base: Path, out: Path) -> int:
    """Write a copy of a policy in which adapters are merged, with the settings that lie beside the adapters.

    Memory holds one layer at a time. Sums are computed in float32 and rounded once to the dtype of the weight.

    Args:
      adapter: Folder of the adapters.
      base: Folder of the policy that they were trained on, with safetensors in the names of PyTorch.
      out: Folder to write; must not exist.

    Returns:
      Number of layers that were changed.

    Raises:
      CheckpointError: If an option of the adapters is not supported, or they do not fit the policy.
    """
    if not is_adapter(adapter):
        raise CheckpointError(
            f"{adapter} is no folder of PEFT: wanted {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}."
        )
    if out.exists():
        raise CheckpointError(f"{out} exists already. Choose another folder.")
    for folder in (adapter, base):
        require_links_inside(folder, error=CheckpointError)
    file = JsonFile(
        adapter / ADAPTER_CONFIG, read_json_object(adapter / ADAPTER_CONFIG, error=CheckpointError)
    )
    _refuse_unsupported(file)
    stored, weights = SafetensorsFiles([adapter / ADAPTER_WEIGHTS]), SafetensorsFiles.in_folder(base)
    changed = _layers(stored, weights, base)
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        shutil.copytree(base, part, copy_function=shutil.copyfile)
        _copy_settings(adapter, part)
        for name, layer in changed.items():
            entry = weights.entries[name]
            merged = _merged(weights.read(name, np.dtype(np.float32)), layer, stored, file)
            with (part / entry.file.relative_to(base)).open("r+b") as stream:
                stream.seek(entry.begin)
                stream.write(np.ascontiguousarray(merged.astype(entry.dtype)).tobytes())
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return len(changed)


def _refuse_unsupported(file: JsonFile) -> None:
    file.require("peft_type", "LORA", why="simloop merges adapters of the type LORA.")
    file.require(
        "init_lora_weights", *INITIALIZATIONS, why="this initialization changed the weights of the policy."
    )
    for key, value in file.content.items():
        if key not in USED | UNUSED and value:
            raise file.refused(key, "simloop does not know or support this option of PEFT.")


def _layers(stored: SafetensorsFiles, weights: SafetensorsFiles, base: Path) -> dict[str, dict[str, str]]:
    """The stored arrays of each weight to change: its halves `A` and `B`, or `full`.

    Raises:
      CheckpointError: If the policy lacks the weight, or shapes disagree.
    """
    found: dict[str, dict[str, str]] = {}
    for name in stored.entries:
        match = re.fullmatch(r"(.+)\.lora_([AB])\.weight", name)
        plain, kind = (f"{match[1]}.weight", match[2]) if match else (name, "full")
        plain = plain.removeprefix(PREFIX)
        present = next((one for one in (plain, plain.removeprefix("model.")) if one in weights.entries), None)
        if present is None:
            raise CheckpointError(
                f"{base} has no weight {plain!r} for the adapter's {name!r}. Name the policy it was trained on."
            )
        found.setdefault(present, {})[kind] = name
    for weight, layer in found.items():
        shape = weights.entries[weight].shape
        sizes = {kind: stored.entries[name].shape for kind, name in layer.items()}
        fits = sizes == {"full": shape} or (
            sizes.keys() == {"A", "B"}
            and all(len(size) == 2 for size in (*sizes.values(), shape))
            and (sizes["B"][0], sizes["A"][1]) == shape
            and sizes["A"][0] == sizes["B"][1] > 0
        )
        if not fits:
            raise CheckpointError(
                f"The adapter of {weight!r} has the shapes {sizes}; the weight in {base} has {shape}. Name the policy "
                "it was trained on."
            )
    return found


def _merged(
    weight: np.ndarray, layer: Mapping[str, str], stored: SafetensorsFiles, file: JsonFile
) -> np.ndarray:
    if "full" in layer:
        return stored.read(layer["full"], np.dtype(np.float32))
    a, b = (stored.read(layer[half], np.dtype(np.float32)) for half in ("A", "B"))
    module = layer["A"].removeprefix(PREFIX).removesuffix(".lora_A.weight")
    rank = math.sqrt(len(a)) if file.content.get("use_rslora") else len(a)
    return weight + np.float32(_alpha(file, module) / rank) * (b @ a)


def _alpha(file: JsonFile, module: str) -> float:
    """The numerator of the scaling of one layer: that of the first pattern that ends its name, or `lora_alpha`."""
    patterns = file.content.get("alpha_pattern") or {}
    if not isinstance(patterns, dict) or not all(re.fullmatch(r"\^?[\w.]+", key) for key in patterns):
        raise file.refused("alpha_pattern", "wanted an object with names of layers.")
    chosen: Any = next(
        (
            value
            for key, value in patterns.items()
            if module == key.removeprefix("^") or (key[0] != "^" and module.endswith(f".{key}"))
        ),
        file.content.get("lora_alpha"),
    )
    if type(chosen) not in (int, float) or not math.isfinite(chosen):
        raise file.refused("lora_alpha", "wanted a number.", chosen)
    return float(chosen)


def _copy_settings(adapter: Path, into: Path) -> None:
    """Copy settings and statistics beside the adapters, which belong to the fine-tuned policy."""
    for file in sorted(adapter.glob("*")):
        if file.suffix not in (".json", ".safetensors") or file.name.startswith(("adapter_", "model")):
            continue
        content = read_bytes(file, MAX_JSON_BYTES, error=CheckpointError)
        if file.name == CONFIG:
            config = parse_json(content, str(file), error=CheckpointError)
            content = (json.dumps({**config, "use_peft": False}, indent=2) + "\n").encode()
        (into / file.name).write_bytes(content)
