"""Loading of policies from a preset and, if there is one, a checkpoint."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from simloop.cache_folder import simloop_home
from simloop.policies.checkpoints import Checkpoint, CheckpointError, open_checkpoint
from simloop.policies.files.manifest import settings_of
from simloop.policies.files.progress import progress_bar
from simloop.policies.inference.adapters import merged, stored_adapters
from simloop.policies.inference.model_policy import ModelPolicy, PolicyTokenizers
from simloop.policies.inference.placement import made_on, weights_bytes
from simloop.policies.inference.quantization import SETTING, Quantization, QuantizationError
from simloop.policies.inference.quantized_model import quantized
from simloop.policies.interface import Weights
from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.inference_plan import InferencePlan
from simloop.policies.models.parameters import Model, model_from, random_model, shapes
from simloop.policies.models.sharding import serving_mesh, state_sharding
from simloop.policies.presets import Preset, preset
from simloop.policies.presets.recorded import fitted
from simloop.policies.tokenizers.fast import FastTokenizer
from simloop.policies.tokenizers.fast_actions import (
    FOLDER_IN_CHECKPOINT,
    fetch_fast_actions,
    load_fast_actions,
)
from simloop.policies.tokenizers.sentencepiece_model import TokenizerFileError, load_sentencepiece
from simloop.policies.transforms.image_statistics import ImageStats
from simloop.policies.transforms.normalization import (
    NormStats,
    identity_stats,
    load_norm_stats,
    nearly_constant,
)


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
      name: Name of a preset.
      checkpoint: Folder with trained weights and statistics, in any format of `simloop.policies.checkpoints`;
        by default the bundled weights, for presets that have some.
      seed: Seed of random weights.
      random_weights: Draw random weights for any preset. Their actions mean nothing; their speed does.
      plan: How the policy is executed. With several devices, rows of a batch are split over all of them if
        their number divides the batch, and the weights over as few as can hold them.
      keep_model: As for `ModelPolicy`; without, memory holds the weights once.

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
    opened = None if checkpoint is None else open_checkpoint(checkpoint)
    if opened is not None:
        opened.require_preset(name)
        chosen = fitted(chosen, opened.options, str(opened.path))
    tokenizers = load_tokenizers(_with_own_action_tokens(chosen, checkpoint))
    recorded = None if checkpoint is None else settings_of(checkpoint).get(SETTING)
    plan = _plan_here(plan or InferencePlan(), chosen, quantized=recorded is not None)
    config = chosen.model
    mesh = serving_mesh(plan.devices, weights_bytes(config))
    weights: Weights
    if opened is None:
        weights = "untrained"
        model = made_on(mesh, lambda: random_model(config, seed, dtype=config.dtype))
        stats, image_stats = _untrained_stats(chosen), {}
    else:
        weights = "trained"
        stats, image_stats = checkpoint_stats(chosen, opened), checkpoint_image_stats(chosen, opened)
        model = _checkpoint_model(config, opened, mesh)
        if (quantization := opened.settings.get(SETTING)) is not None:
            model = _quantized(model, quantization, plan, opened.path)
    spec = dataclasses.replace(chosen.spec(), weights=weights)
    return ModelPolicy(
        chosen,
        spec,
        model,
        stats,
        tokenizers,
        mesh,
        plan=plan,
        keep_model=keep_model,
        image_stats=image_stats,
    )


def _plan_here(plan: InferencePlan, chosen: Preset, *, quantized: bool) -> InferencePlan:
    """Make the choices of a plan for the default device."""
    plan = plan.on(jax.default_backend(), unroll_on_cpu=chosen.unroll_on_cpu)
    if quantized:
        plan = dataclasses.replace(plan, fused_projections=True)
    if quantized or not plan.fused_projections:  # Libraries take fused weights that are not quantized.
        plan = dataclasses.replace(plan, kernels=dataclasses.replace(plan.kernels, gated_product="xla"))
    return plan


def _quantized(model: Model, quantization: object, plan: InferencePlan, path: Path) -> Model:
    try:
        return quantized(model, Quantization.from_json(quantization), plan)
    except QuantizationError as error:
        raise CheckpointError(f"{path}: {error}") from error


def keep_compiled_programs() -> None:
    """Cache compiled programs in the folder of simloop, unless JAX is configured to cache them elsewhere."""
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(simloop_home() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # There are few.


def load_tokenizers(chosen: Preset) -> PolicyTokenizers:
    """Load the tokenizers of a preset, downloading them if needed.

    Raises:
      DownloadError: If a published tokenizer can neither be found nor fetched.
      TokenizerFileError: If a tokenizer does not fit the model.
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
    """Return the preset with the action tokenizer that was fitted for the checkpoint, if there is one."""
    if checkpoint is None or not (checkpoint / FOLDER_IN_CHECKPOINT).is_dir():
        return chosen
    return dataclasses.replace(chosen, action_tokens=checkpoint / FOLDER_IN_CHECKPOINT)


def _untrained_stats(chosen: Preset) -> NormStats:
    if chosen.untrained_stats is not None:
        return load_norm_stats(chosen.untrained_stats)
    return {"state": identity_stats(chosen.state_size), "actions": identity_stats(chosen.action_size)}


def checkpoint_stats(chosen: Preset, opened: Checkpoint, *, warn: bool = True) -> NormStats:
    """Return the statistics of this robot, or of the only robot in the checkpoint; warn of entries that hardly vary.

    Raises:
      CheckpointError: If there are none, or they are those of another robot.
    """
    sizes = {"actions": chosen.action_size}
    if chosen.spec().state_size is not None:
        sizes["state"] = chosen.state_size
    stats = opened.norm_stats(_asset_id(chosen, opened), kind=chosen.normalization, sizes=sizes)
    for key, size in sizes.items() if warn else ():
        for sentence in nearly_constant(key, stats[key], chosen.normalization, size) if key in stats else ():
            logging.getLogger(__name__).warning("%s: %s", opened.path, sentence)
    return stats


def checkpoint_image_stats(chosen: Preset, opened: Checkpoint) -> dict[str, ImageStats]:
    """Return the statistics of training images by camera; empty if the checkpoint does not record them."""
    return opened.image_stats(_asset_id(chosen, opened))


def _asset_id(chosen: Preset, opened: Checkpoint) -> str | None:
    """The robot or dataset of the statistics, where the checkpoint or the preset names it."""
    published = chosen.published.asset_id if chosen.published is not None else None
    asset_id = opened.options.asset_id
    if asset_id is None and any(f"/{one}".endswith(f"/{published}") for one in opened.statistics.asset_ids()):
        return published
    return asset_id


def _checkpoint_model(config: ModelConfig, opened: Checkpoint, mesh: Mesh | None) -> Model:
    """Load the weights of a checkpoint in the dtype that the model computes in, as published inference does.

    Adapters that the model does not have are merged into the weights.
    """
    of_model = shapes(config)
    adapters = stored_adapters(opened.source, of_model)
    expected = {
        name: jax.ShapeDtypeStruct(shape, config.dtype) for name, shape in {**of_model, **adapters}.items()
    }
    with progress_bar(f"Loading {opened.path.name}", unit="bytes") as update:
        where = None if mesh is None or adapters else state_sharding(expected, mesh)
        arrays = opened.load(expected, on_progress=update, sharding=where)
    logging.getLogger(__name__).info("Loaded %d arrays from %s.", len(arrays), opened.path)
    if not adapters:
        return model_from(config, arrays)
    logging.getLogger(__name__).warning("Merged %d adapters (LoRA) of %s.", len(adapters) // 2, opened.path)
    weights = merged(arrays, config)
    return made_on(mesh, lambda: model_from(config, {name: jnp.asarray(x) for name, x in weights.items()}))
