"""Every policy that can be named on the command line, found without loading JAX or weights."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import NamedTuple

from simloop.harness.errors import SimloopError
from simloop.policies.checkpoints.manifest import settings_of
from simloop.policies.inference.quantization import KINDS, SETTING, Kind
from simloop.policies.interface import BatchedPolicy, PolicySpec, batched
from simloop.policies.models.inference_plan import InferencePlan
from simloop.policies.presets import PRESETS
from simloop.policies.scripted import SCRIPTED, scripted_policy

RANDOM = "random"
"""Behind the @: weights drawn from a fixed seed. A folder of this name is written ./random."""


class UnknownPolicyError(SimloopError):
    """A policy that does not exist, or not without more being said."""


class NamedPolicy(NamedTuple):
    """What a name on the command line means."""

    base: str
    """A scripted policy or a preset."""
    checkpoint: Path | None
    """Folder of the weights; None for scripted policies, and for presets that need one named."""
    random: bool = False
    """Whether weights are drawn instead."""
    quantized: Kind | None = None
    """What the large products are computed in, where that is not what the preset computes in."""


def policy_names() -> tuple[str, ...]:
    """Scripted policies first, then the presets of the pi0 family."""
    return (*SCRIPTED, *PRESETS)


def is_policy(name: str) -> bool:
    """Whether a name on the command line is that of a policy, with or without a checkpoint."""
    return _unquantized(name.partition("@")[0])[0] in policy_names()


def policy_spec(name: str) -> PolicySpec:
    """What a policy needs and gives. `name` is a policy, PRESET@FOLDER, PRESET@random or PRESET-KIND@FOLDER.

    Raises:
      UnknownPolicyError: With the nearest names, if there is no such policy.
    """
    named = parse(name)
    if named.base in SCRIPTED:
        return scripted_policy(named.base).spec
    spec = dataclasses.replace(PRESETS[named.base].spec(), name=name)
    return dataclasses.replace(spec, weights="trained") if named.checkpoint is not None else spec


def require_weights(name: str) -> None:
    """Raise `UnknownPolicyError` if the policy needs a checkpoint and the name says none."""
    named = parse(name)
    if named.base in PRESETS and named.checkpoint is None and not named.random:
        raise UnknownPolicyError(PRESETS[named.base].where_to_get_weights())


def load(name: str, plan: InferencePlan | None = None, *, checkpoint: Path | None = None) -> BatchedPolicy:
    """The policy itself, weights included; imports JAX for the learned ones.

    Args:
      plan: How a learned policy is executed.
      checkpoint: Where the folder that the name says is found on this machine, if elsewhere.
    """
    if checkpoint is None:
        named = parse(name)
    else:
        named = NamedPolicy(_unquantized(name.partition("@")[0])[0], checkpoint)
    if named.base in SCRIPTED:
        return batched(scripted_policy(named.base))
    from simloop.policies.inference.loading import load_policy

    policy = load_policy(
        named.base, named.checkpoint, random_weights=named.random, plan=plan, keep_model=False
    )
    policy.spec = dataclasses.replace(policy.spec, name=name)
    return policy


def parse(name: str) -> NamedPolicy:
    """Which policy a name means, and which weights.

    Raises:
      UnknownPolicyError: If there is no such policy or no such folder.
    """
    asked, at, folder = name.partition("@")
    preset, quantized = _unquantized(asked)
    if preset not in policy_names():
        near = difflib.get_close_matches(preset, policy_names(), n=3, cutoff=0.4)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UnknownPolicyError(
            f"There is no policy {preset!r}.{hint} simloop list policies shows all of them."
        )
    if quantized and (not at or folder == RANDOM):
        raise UnknownPolicyError(
            f"{asked!r} is {preset} in 8 bits, which simloop quantize makes; name the folder: {asked}@FOLDER."
        )
    if not at:
        return NamedPolicy(preset, PRESETS[preset].boxed if preset in PRESETS else None)
    if preset in SCRIPTED:
        raise UnknownPolicyError(f"{preset!r} is scripted and takes no checkpoint; got {name!r}.")
    if folder == RANDOM:
        return NamedPolicy(preset, None, random=True)
    checkpoint = Path(folder).expanduser()
    if not checkpoint.is_dir():
        raise UnknownPolicyError(f"{name!r} names the checkpoint folder {folder!r}, which does not exist.")
    if (found := _quantized_to(checkpoint)) != quantized:
        right = preset if found is None else f"{preset}-{found}"
        raise UnknownPolicyError(
            f"{folder} holds weights {f'quantised to {found}' if found else 'that are not quantised'}; got {name!r}. "
            f"Name it {right}@{folder}."
        )
    return NamedPolicy(preset, checkpoint, quantized=quantized)


def _unquantized(asked: str) -> tuple[str, Kind | None]:
    """PRESET and KIND of PRESET-KIND."""
    for kind in KINDS:
        stem = asked.removesuffix(f"-{kind}")
        if stem != asked and stem in PRESETS:
            return stem, kind
    return asked, None


def _quantized_to(checkpoint: Path) -> Kind | None:
    """What the weights of a folder are quantised to."""
    recorded = settings_of(checkpoint).get(SETTING)
    return recorded.get("kind") if isinstance(recorded, dict) else None
