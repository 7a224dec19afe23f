"""Every policy that can be named on the command line, found without loading JAX or weights."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path

from harness.errors import SimloopError
from policies.interface import Policy, PolicySpec
from policies.presets import PRESETS
from policies.scripted import SCRIPTED, scripted_policy


class UnknownPolicyError(SimloopError):
    """A policy that does not exist, or not without more being said."""


def policy_names() -> tuple[str, ...]:
    """Scripted policies first, then the presets of the pi0 family."""
    return (*SCRIPTED, *PRESETS)


def is_policy(name: str) -> bool:
    """Whether a name on the command line is that of a policy, with or without a checkpoint."""
    return name.partition("@")[0] in policy_names()


def policy_spec(name: str) -> PolicySpec:
    """What a policy needs and gives. `name` is a policy, or PRESET@FOLDER.

    Raises:
      UnknownPolicyError: With the nearest names, if there is no such policy.
    """
    preset, checkpoint = split_name(name)
    if preset in SCRIPTED:
        return scripted_policy(preset).spec
    spec = PRESETS[preset].spec()
    if checkpoint is not None:
        spec = dataclasses.replace(spec, name=name, weights="trained")
    return spec


def require_weights(name: str) -> None:
    """Raise `UnknownPolicyError` if the policy needs a checkpoint and the name says none."""
    preset, checkpoint = split_name(name)
    if checkpoint is None and preset in PRESETS and PRESETS[preset].needs_checkpoint:
        raise UnknownPolicyError(PRESETS[preset].where_to_get_weights())


def load(name: str) -> Policy:
    """The policy itself, weights included; imports JAX for the learned ones."""
    preset, checkpoint = split_name(name)
    if preset in SCRIPTED:
        return scripted_policy(preset)
    from policies.loading import load_policy

    policy = load_policy(preset, checkpoint)
    policy.spec = dataclasses.replace(policy.spec, name=name)
    return policy


def split_name(name: str) -> tuple[str, Path | None]:
    """Preset and checkpoint folder of a name on the command line."""
    preset, at, folder = name.partition("@")
    if preset not in policy_names():
        near = difflib.get_close_matches(preset, policy_names(), n=3, cutoff=0.4)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UnknownPolicyError(
            f"There is no policy {preset!r}.{hint} simloop list policies shows all of them."
        )
    if not at:
        return preset, None
    if preset in SCRIPTED:
        raise UnknownPolicyError(f"{preset!r} is scripted and takes no checkpoint; got {name!r}.")
    checkpoint = Path(folder).expanduser()
    if not checkpoint.is_dir():
        raise UnknownPolicyError(f"{name!r} names the checkpoint folder {folder!r}, which does not exist.")
    return preset, checkpoint
