"""Comparisons of whole policies, from a robot's observation to its actions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simloop.harness.adapters import aloha, droid, libero
from simloop.harness.adapters.openpi_observation import ModelView
from simloop.harness.parity.comparison import (
    ArrayComparison,
    Arrays,
    close,
    identical,
    load_arrays,
    recorded_observation,
)
from simloop.policies.checkpoints import open_checkpoint
from simloop.policies.inference.flat_jit import compiled
from simloop.policies.inference.model_policy import ModelPolicy, PolicyTokenizers, batch_of
from simloop.policies.interface import Query
from simloop.policies.models.configs import FLOW_CAMERAS, ModelConfig
from simloop.policies.models.parameters import model_from, shapes
from simloop.policies.presets import Preset, preset
from simloop.policies.tokenizers.fast import FastTokenizer
from simloop.policies.tokenizers.fast_actions import load_fast_actions
from simloop.policies.tokenizers.sentencepiece_model import load_sentencepiece
from simloop.policies.transforms.normalization import load_norm_stats
from simloop.untrusted import read_json_object

EXACT = 1e-6
BFLOAT16 = 0.01
"""Relative rms difference of actions sampled by bfloat16 models. Two compilations of the reference itself, with
excess precision on and off, differ by about 0.008."""
IMAGE_STRIDE = 8
"""Recorded images keep every eighth pixel."""


@dataclass(frozen=True)
class Recorded:
    """Construction of a recorded policy."""

    case: str
    """Case in `cases.json` of its model."""
    weights: str
    """Checkpoint below `ckpt/` with its weights."""
    asset_id: str
    view: Callable[[Mapping[str, object]], ModelView]
    robot_actions: Callable[[np.ndarray], np.ndarray]
    change_model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    change_preset: Mapping[str, Any] = dataclasses.field(default_factory=dict)


_LIBERO: dict[str, Any] = {
    "asset_id": "physical-intelligence/libero",
    "view": libero.PANDA.model_view,
    "robot_actions": libero.PANDA.robot_actions,
}
_ALOHA: dict[str, Any] = {
    "case": "pi0_dummy",
    "weights": "pi0_libero/100",
    "view": aloha.model_view,
    "robot_actions": aloha.ALOHA.robot_actions,
}
RECORDED = {
    "pi0_libero": Recorded("pi0_dummy", "pi0_libero/100", **_LIBERO),
    "pi05_libero": Recorded("pi05_dummy", "pi05_libero/100", change_model={"state_as": "unused"}, **_LIBERO),
    "pi0_fast_libero": Recorded(
        "pi0fast_dummy",
        "pi0_fast_libero/100",
        change_model={"cameras": FLOW_CAMERAS},
        # The recording applied quantiles; the published weights were trained with another normalization.
        change_preset={"normalization": "quantile"},
        **_LIBERO,
    ),
    "pi0_aloha": Recorded(asset_id="trossen", **_ALOHA),
    "pi0_aloha_sim": Recorded(asset_id="lerobot/aloha_sim_transfer_cube_human", **_ALOHA),
    "pi05_droid": Recorded(
        "pi05_dummy", "pi05_libero/100", "droid", droid.DROID.model_view, droid.DROID.robot_actions
    ),
}
PRESET_OF = {"pi0_aloha": "pi0_base"}
"""Presets of recorded policies that have another name."""


def checks(golden: Path) -> Iterator[ArrayComparison]:
    """Compare every `policy_*.npz`."""
    for name, recorded in RECORDED.items():
        if arrays := load_arrays(golden / f"policy_{name}.npz"):
            yield from _policy(golden, name, recorded, arrays)
            jax.clear_caches()


def _policy(golden: Path, name: str, recorded: Recorded, arrays: Arrays) -> Iterator[ArrayComparison]:
    policy = _load(golden, name, recorded)
    view = recorded.view(recorded_observation(arrays, "obs/", "images."))
    query = Query(
        task="",
        instruction=view.instruction or "",
        key=0,
        state=view.state.astype(np.float32),
        images=view.images,
    )
    yield from _inputs(name, policy, query, arrays)
    if policy.preset.action_tokens is None:
        yield from _sampled(name, recorded, policy, query, arrays)
    else:
        yield from _decoded(name, recorded, policy, query, arrays)


def _inputs(name: str, policy: ModelPolicy, query: Query, arrays: Arrays) -> Iterator[ArrayComparison]:
    """Compare the inputs of the model. Our encoder omits the cameras that are masked in the recording."""
    row = policy.encoder.encode(query)
    prefix = f"policies/{name}/inputs"
    if row.state.any():  # Models that do not read the state get zeros.
        wanted = arrays["inputs/state"]
        state = row.state if policy.preset.action_tokens is None else row.state[: wanted.size]
        yield close(f"{prefix}/state", wanted, state, EXACT)
    for camera in policy.preset.model.cameras:
        seen = bool(arrays[f"inputs/image_mask/{camera}"])
        yield identical(f"{prefix}/image_mask/{camera}", seen, camera in row.images)
        if seen:
            image = row.images[camera][::IMAGE_STRIDE, ::IMAGE_STRIDE]
            yield identical(f"{prefix}/image/{camera}", arrays[f"inputs/image/{camera}"], image)
    for ours, key in ((row.tokens, "tokenized_prompt"), (row.token_mask, "tokenized_prompt_mask")):
        wanted = arrays[f"inputs/{key}"]
        padded = np.pad(
            ours, (0, wanted.size - ours.size)
        )  # Our prompts have the shortest length that holds them.
        yield identical(f"{prefix}/{key}", wanted, padded)


def _sampled(
    name: str, recorded: Recorded, policy: ModelPolicy, query: Query, arrays: Arrays
) -> Iterator[ArrayComparison]:
    """Compare actions sampled from the recorded noise."""
    flow_steps = policy.preset.flow_steps
    sample = compiled(
        policy.model, lambda model, batch, noise: model.sample_actions(batch, noise, flow_steps)
    )
    batch = batch_of([policy.encoder.encode(query)])[0]
    for noise, key in (
        (arrays["noise"][None], "actions"),
        (arrays["rng_noise_call1"], "actions_rng_call1"),
        (arrays["rng_noise_call2"], "actions_rng_call2"),
    ):
        output = np.asarray(sample(batch, jnp.asarray(noise)))[0]
        got = recorded.robot_actions(policy.chunk_from(query, output).actions)
        yield ArrayComparison(f"policies/{name}/{key}", arrays[key], got, BFLOAT16)


def _decoded(
    name: str, recorded: Recorded, policy: ModelPolicy, query: Query, arrays: Arrays
) -> Iterator[ArrayComparison]:
    """Compare actions decoded from recorded tokens: of a valid answer, and of an invalid one."""
    for tokens, key in (("ideal_tokens", "ideal_actions"), ("raw_tokens", "actions")):
        output = arrays[tokens].reshape(-1).astype(np.int32)
        got = recorded.robot_actions(policy.chunk_from(query, output).actions)
        yield close(f"policies/{name}/{key}", arrays[key], got, EXACT)


def _load(golden: Path, name: str, recorded: Recorded) -> ModelPolicy:
    """Load the policy as it was recorded: everything in bfloat16, with the substitute tokenizers in `standin/`."""
    chosen = _small_preset(golden, name, recorded)
    text = load_sentencepiece(golden / "standin" / "paligemma_tokenizer.model")
    tokenizers = PolicyTokenizers(text)
    if chosen.action_tokens is not None:
        actions = load_fast_actions(golden / "standin" / "fast")
        tokenizers = PolicyTokenizers(text, FastTokenizer(text, actions))
    stats = load_norm_stats(golden / "ckpt" / name / "100" / "assets" / recorded.asset_id / "norm_stats.json")
    expected = {key: jax.ShapeDtypeStruct(shape, jnp.bfloat16) for key, shape in shapes(chosen.model).items()}
    model = model_from(chosen.model, open_checkpoint(golden / "ckpt" / recorded.weights).load(expected))
    spec = dataclasses.replace(chosen.spec(), weights="trained")
    return ModelPolicy(chosen, spec, model, stats, tokenizers)


def _small_preset(golden: Path, name: str, recorded: Recorded) -> Preset:
    """Return the preset with the small model of the recording."""
    case = read_json_object(golden / "cases.json")["cases"][recorded.case]
    model = ModelConfig.from_case(case, dtype="bfloat16")
    full = preset(PRESET_OF.get(name, name))
    return dataclasses.replace(
        full,
        model=dataclasses.replace(model, **recorded.change_model),
        prompt_lengths=(*(n for n in full.prompt_lengths if n < model.max_token_len), model.max_token_len),
        on_failure="zeros",
        **recorded.change_preset,
    )
