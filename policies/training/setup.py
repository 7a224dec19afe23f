"""Set up a training run: data, statistics, tokenizers and initial weights, with all checks before the first step."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simloop.policies.checkpoints import open_checkpoint
from simloop.policies.inference.loading import checkpoint_stats, load_tokenizers
from simloop.policies.inference.model_policy import PolicyTokenizers
from simloop.policies.models.configs import LoraConfig, ModelConfig
from simloop.policies.models.lora import ADAPTER_NAME, is_frozen
from simloop.policies.models.parameters import flatten, random_model, shapes
from simloop.policies.presets import Preset, preset
from simloop.policies.presets.recorded import fitted, taken_over
from simloop.policies.tokenizers.fast_actions import (
    FOLDER_IN_CHECKPOINT,
    FastActionTokenizer,
    fetch_fast_actions,
    load_fast_actions,
)
from simloop.policies.training.concatenation import concatenated
from simloop.policies.training.config import TrainConfig, with_present_names
from simloop.policies.training.dataset_statistics import (
    action_chunks,
    data_image_stats,
    data_stats,
    fit_action_tokens,
)
from simloop.policies.training.errors import TrainingError
from simloop.policies.training.examples import Examples
from simloop.policies.training.optimizer import AdamW, CosineDecay
from simloop.policies.training.prepared import PreparedData, prepare
from simloop.policies.training.quantile_check import outside_quantiles
from simloop.policies.training.state_prediction import (
    IMAGE_PARAMETERS,
    STATE_HEAD,
    image_head_shapes,
    output_head_shapes,
)
from simloop.policies.training.step import Parameters, StepRules
from simloop.policies.transforms.augmentation import PUBLISHED
from simloop.policies.transforms.image_statistics import ImageStats
from simloop.policies.transforms.normalization import Normalizer, NormStats, load_norm_stats, save_norm_stats
from simloop.untrusted import read_json_object

CONFIG = "config.json"
NORM_STATS = "norm_stats.json"


@dataclass(frozen=True)
class Setup:
    """A training run that is ready to start or resume."""

    config: TrainConfig
    preset: Preset
    """The preset with the compute dtype and adapters of the run."""
    data: PreparedData
    stats: NormStats
    tokenizers: PolicyTokenizers
    examples: Examples
    rules: StepRules

    @functools.cached_property
    def image_stats(self) -> dict[str, ImageStats]:
        """Statistics of the images of every camera."""
        return data_image_stats(self.data)

    def trains(self, name: str) -> bool:
        """Whether the parameter of this name is trained rather than frozen."""
        if self.config.objective == "state":
            return name.startswith((IMAGE_PARAMETERS, STATE_HEAD))
        return not is_frozen(name, self.preset.model)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter, including the head of state prediction."""
        of_model, entries = shapes(self.preset.model), self.examples.target_size
        if self.config.objective == "state":
            return {**of_model, **image_head_shapes(self.preset.model, len(self.examples.cameras), entries)}
        if self.config.predicts_state:
            return {**of_model, **output_head_shapes(self.preset.model, entries)}
        return of_model


def set_up(config: TrainConfig, log: Callable[[str], None]) -> Setup:
    """Prepare the data, compute or load statistics and tokenizers, and check that they fit together.

    Statistics and a fitted tokenizer are stored in the folder of the run and reused.

    Raises:
      TrainingError, DatasetError: If options and data do not fit.
      UnknownPresetError: If there is no such preset.
    """
    chosen = _started_preset(config, log)
    keys = config.camera_keys(chosen.cameras)
    data = concatenated(
        [
            prepare(
                folder,
                keys,
                chosen.model.image_size,
                resizing=chosen.resizing,
                state_key=config.state_key,
                action_key=config.action_key,
                log=log,
            )
            for folder in config.data
        ]
    )
    _claim_folder(config, data)
    _check_delay(config, chosen)
    chosen = dataclasses.replace(
        chosen, model=_trained_model(config, chosen.model), max_delay=config.max_delay
    )
    _check_sizes(chosen, data)
    stats = _statistics(config, chosen, data)
    for text in _outside(config, stats, chosen, data):
        log(f"{text} Train with --statistics data.")
    action_tokens = _action_tokens(config, chosen, data, stats, log)
    tokenizers = load_tokenizers(dataclasses.replace(chosen, action_tokens=action_tokens))
    examples = Examples(data, chosen, stats, tokenizers, with_states=config.predicts_state)
    log(f"{data.size} frames of {data.episodes} episodes, {len(data.instructions)} instructions.")
    if examples.excluded:
        log(f"{examples.excluded} frames are excluded because their actions take too many tokens.")
    if len(examples.usable) < config.batch:
        log(f"A batch of {config.batch} holds some of the {len(examples.usable)} frames more than once.")
    return Setup(config, chosen, data, stats, tokenizers, examples, step_rules(config))


def step_rules(config: TrainConfig) -> StepRules:
    """Optimizer and options of a step."""
    rate = CosineDecay(
        config.learning_rate, config.warmup_steps, config.steps, config.final_learning_rate
    ).schedule()
    adam = AdamW(weight_decay=config.weight_decay, clip_norm=config.clip_norm)
    return StepRules(
        rate=rate,
        transformation=adam.transformation(rate),
        ema_decay=config.ema_decay or None,
        micro_batches=config.micro_batches,
        augmentation=PUBLISHED if config.augment else None,
        flow_samples=config.flow_samples,
        max_delay=config.max_delay,
        delay_distribution=config.delay_distribution,
        state_loss_weight=config.state_loss_weight,
        images_only=config.objective == "state",
    )


def initial_parameters(setup: Setup, log: Callable[[str], None]) -> tuple[Parameters, Parameters]:
    """Trained parameters in float32, and frozen ones in the model's compute dtype.

    Raises:
      CheckpointError: If the checkpoint to start from does not fit.
    """
    config, model = setup.config, setup.preset.model
    flat: Parameters = {}
    if config.init is not None:
        expected = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes(model).items()}
        anything = ".*" if config.init_takes == "fitting" else ""
        may_lack = anything or (ADAPTER_NAME.pattern if config.lora_rank else "")
        flat = open_checkpoint(config.init).load(expected, may_lack=may_lack, may_drop=anything)
        if lacking := sorted(set(expected) - set(flat)):
            log(f"{len(flat)} arrays from {config.init}; {len(lacking)} initialized: {', '.join(lacking)}.")
    if len(flat) < len(shapes(model)):
        fresh = flatten(random_model(model, config.seed + 1))  # Another seed than that of noise and order.
        flat = {name: flat[name] if name in flat else jnp.asarray(x) for name, x in fresh.items()}
    frozen = {name: x.astype(model.dtype) for name, x in flat.items() if not setup.trains(name)}
    trained = {name: x for name, x in flat.items() if name not in frozen}
    added = {name: shape for name, shape in setup.shapes().items() if name not in flat}
    return {**trained, **{name: jnp.zeros(shape) for name, shape in added.items()}}, frozen


def _claim_folder(config: TrainConfig, data: PreparedData) -> None:
    """Record the options in the folder of the run, or compare them with the recorded ones."""
    file = config.out / CONFIG
    ours = {**config.decisive(), "data_sha256": data.sha256}
    if file.exists():
        theirs = with_present_names(read_json_object(file, error=TrainingError))
        differing = [
            f"{key}: {theirs.get(key)!r} -> {ours.get(key)!r}"
            for key in sorted(theirs.keys() | ours.keys())
            if theirs.get(key) != ours.get(key) and key != "data"
        ]
        if differing:
            raise TrainingError(
                f"{config.out} belongs to another training run: {'; '.join(differing)}. Give the same options to "
                "resume it, or another folder."
            )
        return
    config.out.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    part.write_text(json.dumps(ours, indent=1) + "\n")
    part.replace(file)


def _started_preset(config: TrainConfig, log: Callable[[str], None]) -> Preset:
    """The preset with what the checkpoint `init` states about its policy."""
    chosen = preset(config.preset)
    if config.init is None or config.init_takes == "fitting":
        return chosen
    opened = open_checkpoint(config.init)
    chosen = fitted(chosen, opened.options, str(opened.path), as_start=True)
    if options := taken_over(chosen):
        log(f"From {config.init}: " + ", ".join(f"{name} {value}" for name, value in options.items()) + ".")
    return chosen


def _trained_model(config: TrainConfig, model: ModelConfig) -> ModelConfig:
    changes: dict[str, Any] = {"recompute_layers": config.recompute}
    if config.compute != "preset":
        changes["dtype"] = config.compute
    if config.lora_rank:
        lora = LoraConfig(rank=config.lora_rank, alpha=float(config.lora_rank))
        changes["language"] = dataclasses.replace(model.language, lora=lora)
        if model.action_expert is not None:
            changes["action_expert"] = dataclasses.replace(model.action_expert, lora=lora)
    return dataclasses.replace(model, **changes)


def _check_delay(config: TrainConfig, chosen: Preset) -> None:
    steps = chosen.model.action_horizon
    if config.max_delay and chosen.model.action_expert is None:
        raise TrainingError(
            f"max_delay needs a model that denoises its actions; {chosen.name} answers in tokens, each of which "
            "depends on all steps of a chunk, so that the first steps cannot be given."
        )
    if config.max_delay > steps // 2:
        raise TrainingError(
            f"max_delay must be at most {steps // 2}, half a chunk of {chosen.name}, because the previous chunk must "
            f"last until the answer is there; got {config.max_delay}."
        )


def _check_sizes(chosen: Preset, data: PreparedData) -> None:
    sizes = {
        "state": (data.states.shape[1], chosen.state_size),
        "actions": (data.actions.shape[1], chosen.action_size),
    }
    for name, (got, expected) in sizes.items():
        if got != expected:
            raise TrainingError(
                f"{chosen.name} has {name} of {expected} numbers in the convention of robot {chosen.robot!r}; the "
                f"dataset has {got}. Choose a preset for the dataset's robot, or state its sizes in a file preset.toml "
                "beside the weights of --init."
            )
    if data.size < 2:
        raise TrainingError(f"{data.folder} holds {data.size} frames; collect demonstrations.")


def _statistics(config: TrainConfig, chosen: Preset, data: PreparedData) -> NormStats:
    file = config.out / NORM_STATS
    if file.exists():
        return load_norm_stats(file)
    if config.statistics == "init" and config.init is not None:
        stats = checkpoint_stats(chosen, open_checkpoint(config.init))
    else:
        stats = data_stats(data, chosen)
    save_norm_stats(file, stats)
    return stats


def _outside(config: TrainConfig, stats: NormStats, chosen: Preset, data: PreparedData) -> list[str]:
    """Sentences about data far outside the quantiles of statistics that were computed from other data."""
    if config.statistics != "init" or chosen.normalization != "quantile":
        return []
    first = action_chunks(data, np.arange(data.size), 1, chosen.relative)[:, 0]
    return [
        *outside_quantiles("state", data.states, stats["state"]),
        *outside_quantiles("actions", first, stats["actions"]),
    ]


def _action_tokens(
    config: TrainConfig,
    chosen: Preset,
    data: PreparedData,
    stats: NormStats,
    log: Callable[[str], None],
) -> Path | None:
    """The folder of the run's action tokenizer, for presets that have one."""
    if chosen.action_tokens is None:
        return None
    folder = config.out / FOLDER_IN_CHECKPOINT
    if not folder.exists():
        if config.action_tokens == "fit":
            log("Fitting an action tokenizer.")
            actions = Normalizer(chosen.normalization, stats["actions"])
            tokens = fit_action_tokens(
                data, chosen, actions, vocabulary=config.action_vocabulary or None, scale=config.action_scale
            )
        else:
            tokens = _preset_tokens(config, chosen)
        partial = folder.with_name(f".{folder.name}.part")
        tokens.save(partial)
        partial.rename(folder)
    return folder


def _preset_tokens(config: TrainConfig, chosen: Preset) -> FastActionTokenizer:
    of_init = None if config.init is None else config.init / FOLDER_IN_CHECKPOINT
    if of_init is not None and of_init.is_dir():
        return load_fast_actions(of_init)
    source = chosen.action_tokens
    assert source is not None
    return load_fast_actions(source) if isinstance(source, Path) else fetch_fast_actions(source)
