"""Decide whether the episodes of two runs may be mixed: in a resumed run, a merged run or a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from simloop.results.records.records import look_up
from simloop.results.records.written_policies import policy_identity

Kind = Literal["experiment", "plan", "software", "settings", "batch size", "weights", "device", "kernels"]
"""Part of a run that decides its records."""

REASONS: Mapping[Kind, str] = {
    "experiment": "they belong to different experiments",
    "plan": "two versions of simloop derive other tasks or seeds from the same experiment",
    "software": "other software may compute other episodes",
    "settings": "they change how the same software computes",
    "batch size": "actions depend on the batch size by rounding, and with --throughput on the other queries",
    "weights": "a policy has other weights, statistics or source files",
    "device": "actions computed on another device differ by rounding",
    "kernels": "actions computed by other kernels differ by rounding",
}
"""Why records of runs that differ in a part must not be mixed."""

EVERYTHING = frozenset(REASONS)
REFUSED: Mapping[Literal["resume", "merge", "table"], frozenset[Kind]] = {
    "resume": EVERYTHING,
    "merge": EVERYTHING,
    "table": EVERYTHING
    - {"experiment", "plan"},  # A table shows several experiments and keeps protocols apart.
}
"""Kinds of differences that each use refuses."""

PACKAGES = (
    "simloop", "mujoco", "numpy", "jax", "jaxlib", "flax", "tokamax",
    "jax-cuda12-pjrt", "nvidia-cudnn-cu12", "nvidia-cublas-cu12",
)  # fmt: skip
"""Packages that decide records, beside those that provide the tasks of the suite."""
MAX_SHOWN = 8
"""Differences that the note of a table lists."""
LEGACY_SUITE_PACKAGES = ("metaworld",)
"""Packages of the suite for starts recorded before `suite_packages` was."""


@dataclass(frozen=True)
class RunIdentity:
    """Everything recorded about a run that decides its episodes; empty parts are not compared."""

    experiment: Mapping[str, Any] = field(default_factory=dict)
    plan_sha256: str = ""
    starts: Sequence[Mapping[str, Any]] = ()
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """`fingerprint`, `device`, `kernels` and `settings` of each loaded policy."""

    @classmethod
    def of(cls, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> RunIdentity:
        """Take the identity from the contents of `config.json` and `provenance.json`."""
        return cls(
            config.get("experiment", {}),
            config.get("plan_sha256", ""),
            provenance.get("starts", ()),
            provenance.get("policies", {}),
        )

    def only(self, policy: str) -> RunIdentity:
        """Keep one policy, whether or not anything is recorded about it."""
        return RunIdentity(
            self.experiment, self.plan_sha256, self.starts, {policy: self.policies.get(policy, {})}
        )


@dataclass(frozen=True)
class Difference:
    """One value in which two runs differ."""

    kind: Kind
    text: str
    """The value's name and both values, such as `packages.mujoco: 3.3.0 -> 3.4.0`."""


def differences(a: RunIdentity, b: RunIdentity) -> list[Difference]:
    """List all differences between what decided the episodes of two runs."""
    found: list[Difference] = []
    if a.experiment and b.experiment:
        texts = nested_differences(_by_content(a.experiment), _by_content(b.experiment))
        found += [Difference("experiment", text) for text in texts]
    if not found and a.plan_sha256 and b.plan_sha256 and a.plan_sha256 != b.plan_sha256:
        found.append(Difference("plan", "the tasks or seeds derived from the experiment"))
    for x in a.starts:
        for y in b.starts:
            found += _differences_of_starts(x, y)
    for name in sorted(a.policies.keys() & b.policies.keys()):
        found += _differences_of_policies(name, a.policies[name], b.policies[name])
    return list(dict.fromkeys(found))


def refusal(a: RunIdentity, b: RunIdentity, use: Literal["resume", "merge", "table"]) -> str:
    """State what forbids the use and why, as part of a sentence; empty if the runs may be mixed."""
    found = [difference for difference in differences(a, b) if difference.kind in REFUSED[use]]
    reasons = dict.fromkeys(REASONS[difference.kind] for difference in found)
    return " because ".join(filter(None, ("; ".join(d.text for d in found), " and ".join(reasons))))


def mixture(runs: Sequence[tuple[str, RunIdentity]]) -> list[str]:
    """State in sentences what decided the episodes of different policies of a table, and differs between them.

    What is refused for episodes of one policy is allowed between policies, but has to be said.

    Args:
      runs: Folder and identity of each run of a suite, with policies named as in the table.
    """
    (reference, first), *others = runs
    unlike: dict[tuple[Difference, ...], list[str]] = {}
    for folder, other in others:
        found = (one for x in first.starts for y in other.starts for one in _differences_of_starts(x, y))
        unlike.setdefault(tuple(dict.fromkeys(found)), []).append(folder)
    sentences = []
    for differing, folders in unlike.items():
        if differing:
            reasons = dict.fromkeys(REASONS[one.kind] for one in differing)
            texts = [one.text for one in differing]
            if len(texts) > MAX_SHOWN:
                texts[MAX_SHOWN:] = [f"{len(texts) - MAX_SHOWN} more"]
            sentences.append(
                f"Runs differ, {reference} -> {', '.join(folders)}: {'; '.join(texts)} "
                f"({' and '.join(reasons)})."
            )
    policies = {name: policy for _, run in runs for name, policy in run.policies.items()}
    for kind, value_of in _BY_POLICY.items():
        by_value: dict[str, list[str]] = {}
        for name, policy in policies.items():
            by_value.setdefault(str(value_of(policy) or "default"), []).append(name)
        if len(by_value) > 1:
            texts = [f"{value} ({', '.join(names)})" for value, names in by_value.items()]
            sentences.append(f"Policies differ in {kind}: {'; '.join(texts)} ({REASONS[kind]}).")
    return sentences


def nested_differences(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    """List where two nested mappings differ, as `key.key: old -> new`."""
    found = []
    for key in sorted(a.keys() | b.keys()):
        x, y = a.get(key), b.get(key)
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            found += nested_differences(x, y, f"{prefix}{key}.")
        elif x != y:
            found.append(f"{prefix}{key}: {json.dumps(x)} -> {json.dumps(y)}")
    return found


def _by_content(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the folders of named policies: fingerprints identify their weights."""
    return {**experiment, "policies": list(map(policy_identity, experiment.get("policies", ())))}


def _differences_of_starts(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Difference]:
    suite = [*a.get("suite_packages", LEGACY_SUITE_PACKAGES), *b.get("suite_packages", LEGACY_SUITE_PACKAGES)]
    keys = [
        "renderer",
        "python",
        "machine",
        *(f"packages.{name}" for name in dict.fromkeys([*PACKAGES, *suite])),
    ]
    if a.get("commit") and b.get("commit"):  # An installed package has none; its version is compared.
        keys.append("commit")
    for key in keys:
        x, y = look_up(a, key), look_up(b, key)
        if x != y and not (key == "renderer" and "none" in (x, y)):  # A run without cameras draws nothing.
            yield Difference("software", f"{key}: {x} -> {y}")
    if "edited" in a and "edited" in b:
        for text in nested_differences(a["edited"], b["edited"], "edited files of "):
            yield Difference("software", text)
    yield from _differences_of_settings(a, b)
    x, y = a.get("buckets"), b.get("buckets")
    if x and y and x != y:
        yield Difference("batch size", f"batch sizes: {_listed(x)} -> {_listed(y)}")


def _differences_of_settings(
    a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = ""
) -> Iterator[Difference]:
    """Compare settings, which starts and policies of older versions did not record."""
    if "settings" in a and "settings" in b:
        for text in nested_differences(a["settings"], b["settings"], prefix):
            yield Difference("settings", text)


def _listed(batch_sizes: Sequence[int]) -> str:
    return f"{', '.join(map(str, batch_sizes))}{' (--throughput)' if len(batch_sizes) > 1 else ''}"


def _differences_of_policies(name: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Difference]:
    compared: list[tuple[Kind, Any, Any]] = [
        ("weights", a.get("fingerprint"), b.get("fingerprint")),
        ("device", a.get("device"), b.get("device")),
        ("kernels", _other_than_xla(a), _other_than_xla(b)),
    ]
    for kind, x, y in compared:
        if x != y:
            yield Difference(kind, f"{kind} of {name}: {x} -> {y}")
    yield from _differences_of_settings(a, b, f"{name}: ")


def _other_than_xla(policy: Mapping[str, Any]) -> dict[str, str]:
    """Kernels that replace those of XLA, by operation; none for policies recorded before kernels were."""
    return {operation: name for operation, name in policy.get("kernels", {}).items() if name != "xla"}


_BY_POLICY: Mapping[Kind, Callable[[Mapping[str, Any]], Any]] = {
    "device": lambda policy: policy.get("device"),
    "kernels": _other_than_xla,
    "settings": lambda policy: policy.get("settings"),
}
"""What may differ between the policies of a table, beside what differs between their runs."""
