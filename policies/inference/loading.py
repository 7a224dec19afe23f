"""From the name of a preset, and a checkpoint if there is one, to a policy that answers queries."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import jax
from jax.sharding import Mesh

from simloop.policies.checkpoints import Checkpoint, CheckpointError, open_checkpoint
from simloop.policies.files.cache_folder import simloop_home
from simloop.policies.files.manifest import settings_of
from simloop.policies.files.progress import progress_bar
from simloop.policies.inference.model_policy import ModelPolicy, PolicyTokenizers
from simloop.policies.inference.placement import made_on, weights_bytes
from simloop.policies.inference.quantization import SETTING, Quantization, QuantizationError
from simloop.policies.inference.quantized_model import quantized
from simloop.policies.inference.unrolling import unrolled_where_it_pays
from simloop.policies.interface import Weights
from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.inference_plan import InferencePlan
from simloop.policies.models.parameters import Model, model_from, random_model, shapes
from simloop.policies.models.sharding import serving_mesh, state_sharding
from simloop.policies.presets import Preset, preset
from simloop.policies.tokenizers.fast import FastTokenizer
from simloop.policies.tokenizers.fast_actions import (
    FOLDER_IN_CHECKPOINT,
    fetch_fast_actions,
    load_fast_actions,
)
from simloop.policies.tokenizers.sentencepiece_model import TokenizerFileError, load_sentencepiece
from simloop.policies.transforms.normalization import NormStats, identity_stats, load_norm_stats

KEEP_COMPILED_S = 0.5  # Programs that compile faster than this are not worth a file.


class NoWeightsError(ValueError):
    """A preset that needs trained weights, loaded without them."""

    user_facing = True


def load_policy(
    name: str,
    checkpoint: Path | None = None,
    seed: int = 0,
    *,
    random_weights: bool = False,
    plan: InferencePlan | None = None,
    keep_model: bool = True,
) -> ModelPolicy:
    """Load a policy onto the default device, or onto several.

    Args:
      name: Of a preset.
      checkpoint: Folder with trained weights and statistics, in any format of `simloop.policies.checkpoints`.
        Without one, the weights that come with simloop, for presets that have some.
      seed: Of weights that are drawn.
      random_weights: Draw weights for any preset. Its actions mean nothing; its speed does.
      plan: How it is executed. Over several devices, rows of a batch are split over all of them where
        their number divides the batch, and the weights over as few as can hold them.
      keep_model: As `ModelPolicy` takes it; without, memory holds the weights once.

    Raises:
      DevicesError: If this process does not see so many devices, or they have too little memory.
      UnknownPresetError: If there is no such preset.
      NoWeightsError: If the preset needs a checkpoint and there is none.
      CheckpointError: If the checkpoint does not fit the preset.
    """
    chosen = preset(name)
    if checkpoint is not None and random_weights:
        raise ValueError(f"{name}: random_weights and a checkpoint ({checkpoint}) contradict each other.")
    if checkpoint is None and not random_weights:
        if chosen.bundled is None:
            raise NoWeightsError(chosen.where_to_get_weights())
        checkpoint = chosen.bundled
    keep_compiled_programs()
    words = load_words(_with_own_action_tokens(chosen, checkpoint))
    # What the policy is stays the preset's; how it is compiled is up to the device.
    config = unrolled_where_it_pays(chosen.model, jax.default_backend())
    plan = plan or InferencePlan()
    mesh = serving_mesh(plan.devices, weights_bytes(config))
    recorded = None if checkpoint is None else settings_of(checkpoint).get(SETTING)
    kernels = plan.kernels
    if recorded is not None or not (config.unroll_layers and config.optimizations.joined_projections):
        kernels = dataclasses.replace(kernels, gated_product="xla")  # It takes fused weights.
    config = dataclasses.replace(config, kernels=kernels)
    weights: Weights
    if checkpoint is None:
        weights = "untrained"
        model = made_on(mesh, lambda: random_model(config, seed, dtype=config.dtype))
        stats = _untrained_stats(chosen)
    else:
        weights = "trained"
        opened = open_checkpoint(checkpoint)
        if opened.preset not in (None, name):
            raise CheckpointError(
                f"{checkpoint} was written for preset {opened.preset!r}; got {name!r}. Name it "
                f"{opened.preset}@{checkpoint}."
            )
        stats = _checkpoint_stats(chosen, opened)
        model = _checkpoint_model(config, opened, mesh)
        if (quantization := opened.settings.get(SETTING)) is not None:
            model = _quantized(model, quantization, opened.path)
    spec = dataclasses.replace(chosen.spec(), weights=weights)
    return ModelPolicy(chosen, spec, model, stats, words, mesh, keep_model=keep_model)


def _quantized(model: Model, quantization: object, path: Path) -> Model:
    try:
        return quantized(model, Quantization.from_json(quantization))
    except QuantizationError as error:
        raise CheckpointError(f"{path}: {error}") from error


def keep_compiled_programs() -> None:
    """Let JAX keep compiled programs in the cache folder, unless it has been told where already."""
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(simloop_home() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", KEEP_COMPILED_S)


def load_words(chosen: Preset) -> PolicyTokenizers:
    """The tokenizers of a preset, fetched if need be.

    Raises:
      DownloadError: If a published tokenizer can neither be found nor fetched.
      TokenizerFileError: If a tokenizer is not the one that the model was made for.
    """
    text = load_sentencepiece(chosen.text_model)
    if text.pieces != chosen.model.vocab_size:
        raise TokenizerFileError(
            f"{text.path} has {text.pieces} pieces; the embedding table of {chosen.name} has "
            f"{chosen.model.vocab_size} rows. Use the tokenizer that the model was trained with."
        )
    if chosen.action_tokens is None:
        return PolicyTokenizers(text)
    if isinstance(chosen.action_tokens, Path):
        actions = load_fast_actions(chosen.action_tokens)
    else:
        actions = fetch_fast_actions(chosen.action_tokens)
    return PolicyTokenizers(text, FastTokenizer(text, actions))


def _with_own_action_tokens(chosen: Preset, checkpoint: Path | None) -> Preset:
    """The preset with the action tokenizer that was fitted for the checkpoint, if there is one."""
    if checkpoint is None or not (checkpoint / FOLDER_IN_CHECKPOINT).is_dir():
        return chosen
    return dataclasses.replace(chosen, action_tokens=checkpoint / FOLDER_IN_CHECKPOINT)


def _untrained_stats(chosen: Preset) -> NormStats:
    if chosen.untrained_stats is not None:
        return load_norm_stats(chosen.untrained_stats)
    return {"state": identity_stats(chosen.state_size), "actions": identity_stats(chosen.action_size)}


def _checkpoint_stats(chosen: Preset, opened: Checkpoint) -> NormStats:
    """The statistics of this robot; those of the only one, if the checkpoint has only one."""
    ids = opened.statistics.asset_ids()
    published = chosen.published.asset_id if chosen.published is not None else None
    asset_id = published if published in ids else None
    return opened.norm_stats(asset_id, kind=chosen.normalization)


def _checkpoint_model(config: ModelConfig, opened: Checkpoint, mesh: Mesh | None) -> Model:
    """The checkpoint's weights, in the dtype that the model computes in, as published inference does."""
    expected = {name: jax.ShapeDtypeStruct(shape, config.dtype) for name, shape in shapes(config).items()}
    with progress_bar(f"Loading {opened.path.name}", unit="bytes") as update:
        where = None if mesh is None else state_sharding(expected, mesh)
        arrays = opened.load(expected, on_progress=update, sharding=where)
    logging.getLogger(__name__).info("Loaded %d arrays from %s.", len(arrays), opened.path)
    return model_from(config, arrays)
