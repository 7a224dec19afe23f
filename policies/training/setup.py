"""From a config to everything that a training needs, with every check that can be made beforehand."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from simloop.policies.inference.model_policy import PolicyTokenizers
from simloop.policies.models.configs import LoraConfig, ModelConfig
from simloop.policies.models.lora import ADAPTER_NAME, is_frozen
from simloop.policies.models.parameters import flatten, random_model, shapes
from simloop.policies.presets import Preset, preset
from simloop.policies.tokenizers.fast_actions import (
    FOLDER_IN_CHECKPOINT,
    FastActionTokenizer,
    fetch_fast_actions,
    load_fast_actions,
)
from simloop.policies.training.concatenated import joined
from simloop.policies.training.config import TrainConfig
from simloop.policies.training.dataset_statistics import data_stats, fit_action_tokens
from simloop.policies.training.errors import TrainingError
from simloop.policies.training.examples import Examples
from simloop.policies.training.optimizer import AdamW, CosineDecay
from simloop.policies.training.prepared import PreparedData, prepare
from simloop.policies.training.state_prediction import (
    IMAGE_PARAMETERS,
    READER,
    image_reader_shapes,
    output_reader_shapes,
)
from simloop.policies.training.step import Parameters, StepRules
from simloop.policies.training.training_tokenizers import training_words
from simloop.policies.transforms.augmentation import PUBLISHED
from simloop.policies.transforms.normalization import Normalizer, NormStats, load_norm_stats, save_norm_stats

CONFIG = "config.json"
NORM_STATS = "norm_stats.json"


@dataclass(frozen=True)
class Setup:
    """A training that is ready to start or to go on."""

    config: TrainConfig
    preset: Preset
    """With the model that is trained: its compute dtype, and adapters if there are any."""
    data: PreparedData
    stats: NormStats
    action_tokens: FastActionTokenizer | None
    words: PolicyTokenizers
    examples: Examples
    rules: StepRules

    def trains(self, name: str) -> bool:
        """Whether the parameter of this name is trained; the others are frozen."""
        if self.config.objective == "locate":
            return name.startswith((IMAGE_PARAMETERS, READER))
        return not is_frozen(name, self.preset.model)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter, those included that training needs and the model does not have."""
        of_model, entries = shapes(self.preset.model), self.examples.location_size
        if self.config.objective == "locate":
            return {**of_model, **image_reader_shapes(self.preset.model, len(self.examples.cameras), entries)}
        if self.config.locates:
            return {**of_model, **output_reader_shapes(self.preset.model, entries)}
        return of_model


def set_up(config: TrainConfig, on_progress: Callable[[str], None]) -> Setup:
    """Prepare the data, compute or find statistics and tokenizers, and check that all fits.

    Statistics and a fitted tokenizer are kept in the folder of the training and used again.

    Raises:
      TrainingError, DatasetError: If something does not fit.
      UnknownPresetError: If there is no such preset.
    """
    chosen = preset(config.preset)
    data = joined([prepared(config, folder, on_progress) for folder in config.data])
    _claim(config, data)
    chosen = dataclasses.replace(chosen, model=_trained_model(config, chosen.model))
    _check_sizes(chosen, data)
    stats = _statistics(config, chosen, data)
    tokens = _action_tokens(config, chosen, data, stats, on_progress)
    words = training_words(chosen, tokens)
    examples = Examples(data, chosen, stats, words, locate=config.locates)
    on_progress(
        f"{data.size} frames of {data.episodes} episodes, {len(data.instructions)} instructions"
        + (
            f"; {examples.left_out} frames left out, their actions take too many tokens"
            * bool(examples.left_out)
        )
    )
    if len(examples.usable) < config.batch:
        on_progress(
            f"A batch of {config.batch} holds some of the {len(examples.usable)} frames more than once."
        )
    return Setup(config, chosen, data, stats, tokens, words, examples, step_rules(config))


def prepared(config: TrainConfig, folder: Path, on_progress: Callable[[str], None]) -> PreparedData:
    """What a training needs of one dataset, prepared where that has not been done.

    Raises:
      TrainingError, DatasetError: If the dataset cannot be used.
      UnknownPresetError: If there is no such preset.
    """
    chosen = preset(config.preset)
    return prepare(
        folder,
        config.camera_keys(chosen.cameras),
        chosen.model.image_size,
        state_key=config.state_key,
        action_key=config.action_key,
        on_progress=on_progress,
    )


def step_rules(config: TrainConfig) -> StepRules:
    """What decides the arithmetic of a step."""
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
        locate_weight=config.locate_weight,
        images_alone=config.objective == "locate",
    )


def initial_parameters(setup: Setup, on_progress: Callable[[str], None]) -> tuple[Parameters, Parameters]:
    """Parameters to train, float32, and those that stay, in the dtype that the model computes in.

    `on_progress` hears which arrays are fresh where a checkpoint was to be started from.

    Raises:
      CheckpointError: If the checkpoint to start from does not fit.
    """
    config, model = setup.config, setup.preset.model
    flat: Parameters = {}
    if config.init is not None:
        from simloop.policies.checkpoints import open_checkpoint

        expected = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes(model).items()}
        anything = ".*" if config.init_takes == "fitting" else ""
        may_lack = anything or (ADAPTER_NAME.pattern if config.lora_rank else "")
        flat = open_checkpoint(config.init).load(expected, may_lack=may_lack, may_drop=anything)
        if lacking := sorted(set(expected) - set(flat)):
            on_progress(f"{len(flat)} arrays from {config.init}; {len(lacking)} fresh: {', '.join(lacking)}")
    if len(flat) < len(shapes(model)):
        fresh = flatten(random_model(model, _init_seed(config.seed)))
        flat = {name: flat[name] if name in flat else jnp.asarray(x) for name, x in fresh.items()}
    frozen = {name: x.astype(model.dtype) for name, x in flat.items() if not setup.trains(name)}
    trained = {name: x for name, x in flat.items() if name not in frozen}
    added = {name: shape for name, shape in setup.shapes().items() if name not in flat}
    return {**trained, **{name: jnp.zeros(shape) for name, shape in added.items()}}, frozen


def _init_seed(seed: int) -> int:
    """Seed of fresh weights, another one than that of noise and order."""
    return seed + 1


def _claim(config: TrainConfig, data: PreparedData) -> None:
    """Make the folder this training's, or find that it is."""
    file = config.out / CONFIG
    ours = {**config.decisive(), "data_sha256": data.sha256}
    if file.exists():
        theirs = json.loads(file.read_text())
        differing = [
            f"{key}: {theirs.get(key)!r} -> {ours.get(key)!r}"
            for key in sorted(theirs.keys() | ours.keys())
            if theirs.get(key) != ours.get(key) and key != "data"
        ]
        if differing:
            raise TrainingError(
                f"{config.out} belongs to another training: {'; '.join(differing)}. Give the same options to go "
                "on with it, or another folder."
            )
        return
    config.out.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    part.write_text(json.dumps(ours, indent=1) + "\n")
    part.replace(file)


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


def _check_sizes(chosen: Preset, data: PreparedData) -> None:
    sizes = {
        "state": (data.states.shape[1], chosen.state_size),
        "actions": (data.actions.shape[1], chosen.action_size),
    }
    for what, (got, wanted) in sizes.items():
        if got != wanted:
            raise TrainingError(
                f"{chosen.name} has {what} of {wanted} numbers in the convention of robot {chosen.robot!r}; the "
                f"dataset has {got}. Pick a preset of the dataset's robot."
            )
    if data.size < 2:
        raise TrainingError(f"{data.folder} holds {data.size} frames; collect demonstrations.")


def _statistics(config: TrainConfig, chosen: Preset, data: PreparedData) -> NormStats:
    file = config.out / NORM_STATS
    if file.exists():
        return load_norm_stats(file)
    if config.statistics == "init" and config.init is not None:
        from simloop.policies.checkpoints import open_checkpoint

        stats = open_checkpoint(config.init).norm_stats(kind=chosen.normalization)
    else:
        stats = data_stats(data, chosen)
    save_norm_stats(file, stats)
    return stats


def _action_tokens(
    config: TrainConfig,
    chosen: Preset,
    data: PreparedData,
    stats: NormStats,
    on_progress: Callable[[str], None],
) -> FastActionTokenizer | None:
    if chosen.action_tokens is None:
        return None
    folder = config.out / FOLDER_IN_CHECKPOINT
    if not folder.exists():
        if config.action_tokens == "fit":
            on_progress("Fitting an action tokenizer")
            actions = Normalizer(chosen.normalization, stats["actions"])
            tokens = fit_action_tokens(
                data, chosen, actions, vocabulary=config.action_vocabulary or None, scale=config.action_scale
            )
        else:
            tokens = _preset_tokens(config, chosen)
        partial = folder.with_name(f".{folder.name}.part")
        tokens.save(partial)
        partial.rename(folder)
    return load_fast_actions(folder)


def _preset_tokens(config: TrainConfig, chosen: Preset) -> FastActionTokenizer:
    own = None if config.init is None else config.init / FOLDER_IN_CHECKPOINT
    if own is not None and own.is_dir():
        return load_fast_actions(own)
    source = chosen.action_tokens
    assert source is not None
    return load_fast_actions(source) if isinstance(source, Path) else fetch_fast_actions(source)
