"""How episodes are played: everything that changes a success rate without being the policy."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Literal

from envs.interface import RenderSettings
from harness.errors import SimloopError
from harness.perturbation import Perturbation
from results.perturbation_kinds import perturbed_label


class ProtocolError(SimloopError):
    """Rules by which no episode can be played."""


@dataclass(frozen=True)
class Protocol:
    """The rules of an evaluation. Results under different rules never share a table column."""

    suite: str
    name: str = "default-v1"
    render: RenderSettings = field(default_factory=RenderSettings)
    replan_steps: int = 10
    """Actions of a chunk that are executed before the policy is asked again (at most the chunk)."""
    max_steps: int | None = None
    """Control steps per episode; None for the limit of the task."""
    undecodable: Literal["end_episode", "hold"] = "end_episode"
    """What follows tokens that spell no action chunk: the episode ends as a failure, or the robot
    executes zero actions until the next query. Either way they are counted."""
    perturbation: Perturbation | None = None
    """What is disturbed on purpose between simulator and policy."""

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be played."""
        if self.replan_steps < 1:
            raise ProtocolError(f"replan_steps must be at least 1; got {self.replan_steps}.")
        if self.max_steps is not None and self.max_steps < 1:
            raise ProtocolError(f"max_steps must be at least 1; got {self.max_steps}.")

    @property
    def sha256(self) -> str:
        """Hash of all rules."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def label(self) -> str:
        """Name by which tables tell protocols apart, e.g. `metaworld/default-v1`.

        Rules that differ from the named protocol's show as a piece of their hash, a perturbation by its name:
        `metaworld/default-v1 with camera-noise=0.1`.
        """
        if self.perturbation is not None:
            undisturbed = dataclasses.replace(self, perturbation=None)
            return perturbed_label(undisturbed.label, self.perturbation.kind, self.perturbation.strength)
        named = Protocol(suite=self.suite, name=self.name)
        return f"{self.suite}/{self.name}" + ("" if self == named else f"+{self.sha256[:8]}")
