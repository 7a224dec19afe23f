"""Names of policies on the command line: `[NAME=]POLICY[@FOLDER]`, resolved without importing JAX or reading weights.

POLICY is a scripted policy, a preset, a preset with chunks of N actions (PRESET@hN), a quantized preset (PRESET-KIND),
an installed policy, or a specification (`simloop.harness.planning.policy_sources`). FOLDER holds the weights; `random`
in its place draws them. NAME is what tables, records and folders show; `simloop.results.records.written_policies` names
a policy where none is given.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from simloop.envs.plugins import Registry, UnknownNameError
from simloop.harness.errors import SimloopError
from simloop.harness.planning.policy_sources import PolicySource, is_specification, resolve
from simloop.policies.files.manifest import settings_of
from simloop.policies.inference.quantization import KINDS, SETTING, Kind
from simloop.policies.interface import BatchedPolicy, Policy, PolicySpec, batched
from simloop.policies.models.inference_plan import InferencePlan
from simloop.policies.presets import HORIZON, PRESETS, Preset, preset
from simloop.policies.registry import PolicyEntry
from simloop.policies.scripted import SCRIPTED, scripted_policy
from simloop.results.records.written_policies import policy_name, split_name

RANDOM = "random"
"""Draws the weights from a fixed seed when it follows the @. A folder of this name is written ./random."""


def _scripted(name: str, checkpoint: Path | None) -> Policy:
    return scripted_policy(name)


POLICIES: Registry[PolicyEntry] = Registry(
    "simloop.policies",
    PolicyEntry,
    {name: PolicyEntry(scripted_policy(name).spec, partial(_scripted, name)) for name in SCRIPTED},
    name_of=lambda entry: entry.spec.name,
    reserved=PRESETS,
)
"""Scripted policies and those of installed distributions, by name. Presets are in `simloop.policies.presets`."""


class UnknownPolicyError(SimloopError):
    """Raised if a name denotes no policy, or a policy whose weights are missing."""


@dataclass(frozen=True)
class NamedPolicy:
    """A policy as named on the command line."""

    name: str
    """How records and tables name the policy."""
    base: str
    """Name of a preset, of an entry of `POLICIES`, or the specification of `source`."""
    checkpoint: Path | None = None
    """Folder of the weights; None if none is named and none is bundled."""
    random: bool = False
    """Whether the weights are drawn at random."""
    quantized: Kind | None = None
    """Number format of the large matrix products, where it is not that of the preset."""
    source: PolicySource | None = None
    """What a specification denotes; None for registered policies."""

    def spec(self) -> PolicySpec:
        """Interface of the policy, known before its weights are read."""
        if self.source is not None:
            spec = self.source.spec()
        elif self.is_preset:
            chosen = preset(self.base)
            # Recorded episodes are opened without the weights, which `parse` asks for otherwise.
            fits = self.checkpoint not in (None, chosen.bundled) and self.checkpoint.exists()
            spec = (self._fitted(chosen) if fits else chosen).spec()
            if self.checkpoint is not None:
                spec = dataclasses.replace(spec, weights="trained")
        else:
            spec = POLICIES[self.base].spec
        return dataclasses.replace(spec, name=self.name)

    @property
    def is_preset(self) -> bool:
        """Whether the policy is a preset rather than an entry of `POLICIES`."""
        return self.base.partition("@")[0] in PRESETS

    def _fitted(self, chosen: Preset) -> Preset:
        """The preset with what its checkpoint states about the policy."""
        from simloop.policies.checkpoints.opening import open_checkpoint  # Imports JAX.
        from simloop.policies.presets.recorded import fitted

        assert self.checkpoint is not None
        return fitted(chosen, open_checkpoint(self.checkpoint).options, str(self.checkpoint))

    def require_weights(self) -> None:
        """Raise `UnknownPolicyError` if the policy needs a checkpoint and none is named."""
        if self.checkpoint is not None or self.random or self.source is not None:
            return
        if self.is_preset:
            raise UnknownPolicyError(preset(self.base).where_to_get_weights())
        if POLICIES[self.base].checkpoint == "required":
            raise UnknownPolicyError(
                f"Policy {self.base!r} needs trained weights and none are named. Write {self.base}@FOLDER."
            )

    def load(self, plan: InferencePlan | None = None, *, keep_model: bool = False) -> BatchedPolicy:
        """Load the policy with its weights. Learned policies import JAX.

        Args:
          plan: How a learned policy is executed.
          keep_model: As for `simloop.policies.inference.loading.load_policy`.
        """
        policy: BatchedPolicy
        if self.source is not None:
            policy = batched(self.source.load())
            policy.source_hashes = self.source.fingerprint()
        elif self.is_preset:
            from simloop.policies.inference.loading import load_policy

            policy = load_policy(
                self.base, self.checkpoint, random_weights=self.random, plan=plan, keep_model=keep_model
            )
        else:
            policy = batched(POLICIES[self.base].load(self.checkpoint))
        policy.spec = dataclasses.replace(policy.spec, name=self.name)
        return policy


@dataclass(frozen=True)
class PolicyLoader:
    """Load the policies of a run by name. Picklable, so that it can be sent to Ray actors."""

    written: Mapping[str, str] = field(default_factory=dict)
    """Each policy as written on the command line, by name."""
    folders: Mapping[str, Path] = field(default_factory=dict)
    """Checkpoint folders on this machine, by name, where they are not those written."""
    sources: Mapping[str, NamedPolicy] = field(default_factory=dict)
    """Policies named by specifications, by name, resolved in the driver."""

    @classmethod
    def of(cls, policies: Iterable[str]) -> PolicyLoader:
        """A loader of policies as written on the command line."""
        written = {policy_name(policy): policy for policy in policies}
        specified = {name for name, policy in written.items() if is_specification(split_name(policy)[1])}
        return cls(written, sources={name: parse(written[name]) for name in specified})

    def parse(self, name: str) -> NamedPolicy:
        """What the name of a policy of this run denotes; a name that is not of this run is read as written."""
        if name in self.sources:
            return self.sources[name]
        return parse(self.written.get(name, name), self.folders.get(name))

    def __call__(self, name: str, plan: InferencePlan | None = None) -> BatchedPolicy:
        return self.parse(name).load(plan)


def policy_names() -> tuple[str, ...]:
    """Names of scripted policies, presets and installed policies."""
    return (*SCRIPTED, *PRESETS, *POLICIES.installed)


def is_policy(written: str) -> bool:
    """Whether a text on the command line names a policy, with or without a checkpoint."""
    policy = split_name(written)[1]
    return is_specification(policy) or _split_kind(policy.partition("@")[0])[0] in policy_names()


def takes_checkpoint(written: str) -> bool:
    """Whether a text names a policy with weights and says neither which nor that they are random."""
    base = _split_kind(split_name(written)[1])[0]
    return base in PRESETS or (base in POLICIES and POLICIES[base].checkpoint != "none")


def parse(written: str, checkpoint: Path | None = None) -> NamedPolicy:
    """Resolve `[NAME=]POLICY[@FOLDER]` or `[NAME=]SPECIFICATION`.

    Args:
      checkpoint: Folder to use in place of the one written, which may not exist on this machine.

    Raises:
      UnknownPolicyError: If there is no such policy or no such folder, or the name cannot be used.
      SpecificationError: If a specification denotes no policy.
    """
    name, policy = split_name(written)
    if is_specification(policy):
        if written != policy:
            _check_name(name, policy, written)
        return NamedPolicy(name, policy, source=resolve(policy))
    base_and_kind, at, folder = policy.partition("@")
    base, kind = _split_kind(base_and_kind)
    horizon = folder.partition("@")[0]
    with_horizon = base in PRESETS and bool(HORIZON.fullmatch(horizon))
    if with_horizon:
        _, at, folder = folder.partition("@")
    if base not in policy_names():
        advice = "simloop list policies shows all of them."
        raise UnknownPolicyError(str(UnknownNameError("policy", base, policy_names(), advice)))
    if name != policy:
        _check_name(name, base_and_kind, written)
    if kind and (not at or folder == RANDOM):
        raise UnknownPolicyError(
            f"{base_and_kind!r} is {base} in 8 bits, which simloop quantize makes; name the folder: "
            f"{base_and_kind}@FOLDER."
        )
    bundled = PRESETS[base].bundled if base in PRESETS else None
    base = f"{base}@{horizon}" if with_horizon else base
    if not at:
        return NamedPolicy(name, base, bundled)
    if base in POLICIES and POLICIES[base].checkpoint == "none":
        raise UnknownPolicyError(f"Policy {base!r} takes no checkpoint; got {written!r}.")
    if folder == RANDOM and base.partition("@")[0] in PRESETS:
        return NamedPolicy(name, base, random=True)
    if checkpoint is None:
        checkpoint = Path(folder).expanduser()
        _check_folder(checkpoint, base, kind, written)
    return NamedPolicy(name, base, checkpoint, quantized=kind)


def load_policy(policy: str) -> BatchedPolicy:
    """Load a policy with its weights.

    Args:
      policy: Name as on the command line, such as `pi0-tiny` or `mine=pi05_libero@FOLDER`.

    Raises:
      UnknownPolicyError: If there is no such policy or checkpoint folder, or the policy needs a checkpoint.
    """
    named = parse(policy)
    named.require_weights()
    return named.load()


def _check_name(name: str, policy: str, written: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise UnknownPolicyError(
            f"The name before = has letters, digits, '.', '_' and '-' only; got {name!r} in {written!r}."
        )
    if name in policy_names() and name != policy:
        raise UnknownPolicyError(
            f"{name!r} is the name of another policy; got {written!r}. Choose a name of your own."
        )


def _check_folder(checkpoint: Path, base: str, kind: Kind | None, written: str) -> None:
    if not checkpoint.is_dir():
        raise UnknownPolicyError(
            f"{written!r} names the checkpoint folder {checkpoint}, which does not exist."
        )
    recorded = settings_of(checkpoint).get(SETTING)
    found = recorded.get("kind") if isinstance(recorded, dict) else None
    if found != kind:
        right = base if found is None else f"{base}-{found}"
        raise UnknownPolicyError(
            f"{checkpoint} holds weights {f'quantized to {found}' if found else 'that are not quantized'}; got "
            f"{written!r}. Name it {right}@{checkpoint}."
        )


def _split_kind(policy: str) -> tuple[str, Kind | None]:
    """PRESET and KIND of PRESET-KIND."""
    for kind in KINDS:
        stem = policy.removesuffix(f"-{kind}")
        if stem != policy and stem in PRESETS:
            return stem, kind
    return policy, None
