"""Options of a LeRobot policy: `config.json` and the steps of its two processors.

Every entry is taken over, known to leave answers unchanged, or refused. Entries that are switched off (false, null,
empty, or `enabled: false`) leave answers unchanged whatever their name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from simloop.policies.checkpoints.array_source import CheckpointError
from simloop.policies.checkpoints.lerobot_steps import POSTPROCESSOR, PREPROCESSOR, Pipeline
from simloop.policies.checkpoints.recorded_options import JsonFile, RecordedOptions
from simloop.policies.transforms.normalization import NormalizationKind

CONFIG = "config.json"
POLICY_TYPES = ("pi0", "pi05", "pi0_fast")
IMAGES, STATE, ACTION = "observation.images.", "observation.state", "action"
KINDS: Mapping[str, NormalizationKind] = {"MEAN_STD": "z_score", "QUANTILES": "quantile", "IDENTITY": "none"}

TAKEN = {
    "type", "n_obs_steps", "chunk_size", "num_inference_steps", "num_steps", "max_state_dim", "max_action_dim",
    "image_resolution", "resize_imgs_with_padding", "tokenizer_max_length", "input_features", "output_features",
    "normalization_mapping", "use_relative_actions", "relative_exclude_joints", "action_feature_names",
    "max_decoding_steps", "rtc_training_max_delay",
}  # fmt: skip
FIXED: Mapping[str, Any] = {
    "n_obs_steps": 1,
    "min_period": 4e-3,
    "max_period": 4.0,
    "temperature": 0.0,
    "fast_skip_tokens": 128,
}
"""Options of which simloop's models have one value."""
UNUSED = {
    "paligemma_variant", "action_expert_variant", "dtype", "n_action_steps", "empty_cameras", "rtc_config",
    "time_sampling_beta_alpha", "time_sampling_beta_beta", "time_sampling_scale", "time_sampling_offset",
    "max_action_tokens", "text_tokenizer_name", "action_tokenizer_name",
    "validate_action_token_prefix", "use_kv_cache", "use_cache", "gradient_checkpointing", "compile_model",
    "compile_mode", "device", "freeze_vision_encoder", "train_expert_only", "train_state_proj",
    "attention_implementation", "proj_width", "vlm_model_name", "load_vlm_weights", "use_amp", "push_to_hub",
    "repo_id", "private", "tags", "license", "pretrained_path", "pretrained_revision", "memory_frames",
    "memory_stride", "memory_temporal_attention_every", "knowledge_insulation",
}  # fmt: skip
"""Options of training, storage and execution; sizes among them show in the shapes of the weights."""
UNUSED_PREFIXES = ("optimizer_", "scheduler_")


def read_options(folder: Path, config: Mapping[str, Any]) -> RecordedOptions:
    """Options of a LeRobot policy.

    Args:
      folder: Folder of the policy.
      config: Contents of its `config.json`.

    Raises:
      CheckpointError: If an entry changes answers in a way that simloop does not support, or two contradict each other;
        names file, key and value.
    """
    file = JsonFile(folder / CONFIG, config)
    if config.get("type") not in POLICY_TYPES:
        raise file.refused("type", f"supported policies of LeRobot are {', '.join(POLICY_TYPES)}.")
    _refuse_unknown(file)
    before, after = Pipeline.read(folder / PREPROCESSOR), Pipeline.read(folder / POSTPROCESSOR)
    fast = config["type"] == "pi0_fast"
    recorded = {
        "chunk_steps": (file.integer("chunk_size"), "chunk_size"),
        "flow_steps": (
            file.integer("num_inference_steps") or file.integer("num_steps"),
            "num_inference_steps",
        ),
        # 0, the default of LeRobot, stands for weights that were not trained for delays.
        "max_delay": (
            file.integer("rtc_training_max_delay") if config.get("rtc_training_max_delay") else None,
            "rtc_training_max_delay",
        ),
        "answer_tokens": (file.integer("max_decoding_steps"), "max_decoding_steps"),
        "relative": (_relative(file, before, after), "use_relative_actions"),
        "cameras": (_cameras(file, before), "input_features"),
        "image_hw": (_image_hw(file), "image_resolution"),
        "state_size": (_size(file, "input_features", STATE, "max_state_dim"), f"input_features.{STATE}"),
        "action_size": (
            _size(file, "output_features", ACTION, "max_action_dim"),
            f"output_features.{ACTION}",
        ),
        # Tokens encode the robot's own actions, whatever the size that LeRobot pads vectors to.
        "padded_size": (None if fast else _padded_size(file), "max_action_dim"),
        "prompt_length": (_prompt_length(file, before), "tokenizer_max_length"),
        "state_in_prompt": (before.writes_state or None, "type"),
        "normalization": (_normalization(file, before, after), "normalization_mapping"),
    }
    return RecordedOptions(
        family=config["type"],
        resizing="bilinear",
        absent_cameras="masked",
        places={name: f"{file.path}: {key}" for name, (_, key) in recorded.items()},
        unused={key: value for key, value in config.items() if _is_unused(key)},
        **{name: value for name, (value, _) in recorded.items()},  # type: ignore[arg-type]
    )


def _is_unused(key: str) -> bool:
    return key in UNUSED or key.startswith(UNUSED_PREFIXES)


def _refuse_unknown(file: JsonFile) -> None:
    for key, value in file.content.items():
        if key in FIXED and value is not None:
            file.require(key, FIXED[key], why=f"simloop's models have {FIXED[key]}.")
        elif key not in TAKEN and not _is_unused(key) and value:
            raise file.refused(key, "simloop does not know or support this option of LeRobot.")


def _feature_map(file: JsonFile, key: str) -> Mapping[str, Mapping[str, Any]]:
    features = file.content.get(key) or {}
    if not isinstance(features, dict) or not all(isinstance(one, dict) for one in features.values()):
        raise file.refused(key, "wanted an object of features with a type and a shape.")
    return features


def _shape(file: JsonFile, key: str, name: str) -> tuple[int, ...] | None:
    feature = _feature_map(file, key).get(name)
    if feature is None:
        return None
    shape = feature.get("shape")
    if not isinstance(shape, list) or not all(type(n) is int and 0 < n < 2**20 for n in shape):
        raise file.refused(f"{key}.{name}", "wanted a shape of positive numbers.", feature)
    return tuple(shape)


def _size(file: JsonFile, key: str, name: str, padded: str) -> int | None:
    """Length of a vector; None if it is not stated, or stated as the padded length, as base models do."""
    shape = _shape(file, key, name)
    if shape is None:
        return None
    if len(shape) != 1:
        raise file.refused(f"{key}.{name}", "wanted a vector.", list(shape))
    return None if shape[0] == file.content.get(padded) and shape[0] >= 32 else shape[0]


def _padded_size(file: JsonFile) -> int | None:
    state, action = file.integer("max_state_dim"), file.integer("max_action_dim")
    if None not in (state, action) and state != action:
        raise file.refused(
            "max_state_dim", f"max_action_dim is {action}, and simloop's models have one size."
        )
    return action or state


def _image_hw(file: JsonFile) -> tuple[int, int] | None:
    key = "image_resolution" if "image_resolution" in file.content else "resize_imgs_with_padding"
    value = file.content.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(type(n) is int for n in value):
        raise file.refused(key, "wanted height and width.")
    return value[0], value[1]


def _cameras(file: JsonFile, before: Pipeline) -> tuple[tuple[str, ...], ...] | None:
    """Names of every camera in the order of the model: before LeRobot's renaming, then after it."""
    features = _feature_map(file, "input_features")
    unknown = [
        key
        for key, feature in features.items()
        if key != STATE and not (key.startswith(IMAGES) and feature.get("type") == "VISUAL")
    ]
    if unknown:
        raise file.refused("input_features", f"simloop's models take images and {STATE}; got {unknown[0]!r}.")
    named_before: dict[str, str] = {}
    for old, new in before.renamed.items():
        if STATE in (old, new):
            raise before.file.refused(
                "rename_map", f"it renames {old} to {new}; only cameras can be renamed.", "..."
            )
        named_before.setdefault(new, old)
    cameras = []
    for key in features:
        if key.startswith(IMAGES) and not key.removeprefix(IMAGES).startswith("empty_camera"):
            names = dict.fromkeys(name.removeprefix(IMAGES) for name in (named_before.get(key, key), key))
            cameras.append(tuple(names))
    return tuple(cameras) or None


def _prompt_length(file: JsonFile, before: Pipeline) -> int | None:
    stated, used = file.integer("tokenizer_max_length"), before.prompt_length
    if None not in (stated, used) and stated != used:
        raise file.refused("tokenizer_max_length", f"{before.file.path} pads prompts to {used} tokens.")
    return used or stated


def _normalization(file: JsonFile, before: Pipeline, after: Pipeline) -> NormalizationKind | None:
    """Kind of normalization of states and actions, which the processors decide; None without processors."""
    stated = file.content.get("normalization_mapping") or {}
    if not isinstance(stated, dict):
        raise file.refused("normalization_mapping", "wanted an object.")
    if stated.get("VISUAL", "IDENTITY") != "IDENTITY":
        raise file.refused(
            "normalization_mapping", "simloop's models take images as they are (VISUAL: IDENTITY)."
        )
    used = {"STATE": before.norm_map.get("STATE"), "ACTION": after.norm_map.get("ACTION")}
    for key, mode in used.items():
        if mode is not None and stated.get(key, mode) != mode:
            raise file.refused("normalization_mapping", f"the processors normalize {key} by {mode}.")
    if None in used.values():
        return None
    if len(set(used.values())) > 1 or used["STATE"] not in KINDS:
        raise CheckpointError(
            f"{file.path.parent} normalizes states by {used['STATE']} and actions by {used['ACTION']}; simloop "
            f"supports one kind for both, of {', '.join(KINDS)}."
        )
    return KINDS[str(used["STATE"])]


def _relative(file: JsonFile, before: Pipeline, after: Pipeline) -> tuple[bool, ...] | None:
    """Which action entries are relative to the state. The processors decide; `config.json` must agree with them."""
    stated, used = file.content.get("use_relative_actions"), after.relative is not None
    if not before.present or not after.present:
        if stated:
            raise file.refused(
                "use_relative_actions", "the processors that say which entries are relative are absent."
            )
        return None
    if stated is not None and bool(stated) != used:
        raise file.refused(
            "use_relative_actions",
            f"{after.file.path} {'adds' if used else 'does not add'} the state to actions.",
        )
    if used != (before.relative is not None):
        raise CheckpointError(
            f"{file.path.parent}: only one of {PREPROCESSOR} (relative_actions_processor) and {POSTPROCESSOR} "
            "(absolute_actions_processor) shifts actions by the state; enable both or none."
        )
    if not used:
        return ()
    shape = _shape(file, "output_features", ACTION)
    if shape is None:
        raise file.refused("output_features", "relative actions need the number of action entries.")
    return tuple(_mask(before.relative or {}, shape[0], file))


def _mask(step: Mapping[str, Any], size: int, file: JsonFile) -> Iterator[bool]:
    """Entries that are relative, as `RelativeActionsProcessorStep` of LeRobot selects them."""
    names, excluded = step.get("action_names"), step.get("exclude_joints") or []
    for value in (names or [], excluded):
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise file.refused("relative_actions_processor", "wanted lists of joint names.", value)
    tokens = [str(name).lower() for name in excluded if name]
    for i in range(size):
        name = str(names[i]).lower() if names is not None and i < len(names) else None
        yield name is None or not any(token in name for token in tokens)
