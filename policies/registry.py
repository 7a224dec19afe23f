"""Policies that installed distributions add under the entry-point group `simloop.policies`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from simloop.policies.interface import BatchedPolicy, Policy, PolicySpec


@dataclass(frozen=True)
class PolicyEntry:
    """A policy that can be named in a run: its interface, and how to load it."""

    spec: PolicySpec
    """Interface of the policy; `spec.name` is the name of the entry point."""
    load: Callable[[Path | None], Policy | BatchedPolicy]
    """Loads the policy from the folder of NAME@FOLDER, None where no folder is named. Heavy imports belong in here.
    Only a `BatchedPolicy` can have a fingerprint, by which resumed runs are checked for equal weights."""
    checkpoint: Literal["none", "optional", "required"] = "none"
    """Whether a folder may, or must, be named."""
