"""How episodes are played: everything that changes a success rate without being the policy."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Literal

from simloop.envs.interface import RenderSettings
from simloop.harness.errors import SimloopError
from simloop.harness.planning.perturbation import Perturbation
from simloop.results.records.perturbation_kinds import perturbed_label


class ProtocolError(SimloopError):
    """Rules by which no episode can be played."""


@dataclass(frozen=True)
class Protocol:
    """The rules of an evaluation. Results under different rules never share a table column."""

    suite: str
    name: str = "default-v1"
    """With its version. `NAMED` has the rules of each."""
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
        named = NAMED.get((self.suite, self.name), Protocol(self.suite, self.name))
        return f"{self.suite}/{self.name}" + ("" if self == named else f"+{self.sha256[:8]}")


DEFAULT = "default-v1"


def _named(*protocols: Protocol) -> dict[tuple[str, str], Protocol]:
    return {(protocol.suite, protocol.name): protocol for protocol in protocols}


NAMED = _named(
    # Ours: cheap pictures, a replan interval that suits chunks of ten and more.
    Protocol("metaworld"),
    Protocol("libero", render=RenderSettings("fast", 256, 256)),
    Protocol("aloha_sim", render=RenderSettings("fast", 240, 320)),
    # openpi, examples/libero/main.py. Of the rules of that program the suite itself keeps the initial states, the
    # settling, the step limits and the seed of the fixtures; the adapter the orientation of images and hand.
    Protocol("libero", "openpi-v1", RenderSettings("official", 256, 256), replan_steps=5),
    # openpi, examples/aloha_sim: gymnasium truncates gym-aloha's episodes after 300 steps.
    Protocol("aloha_sim", "openpi-v1", RenderSettings("official", 480, 640), replan_steps=10, max_steps=300),
    # LeRobot, src/lerobot/envs/metaworld.py: one camera, which this suite calls `corner4` and holds upright. How
    # much of a chunk is played is a setting of LeRobot's policies; this is the default of this protocol.
    Protocol("metaworld", "lerobot-v1", RenderSettings("official", 480, 480), replan_steps=10),
)
"""Protocols by suite and name. A name never changes its rules: other rules are a new version."""


def named_protocol(suite: str, name: str = DEFAULT) -> Protocol:
    """The protocol of that name for a suite.

    Raises:
      ProtocolError: If there is none.
    """
    if (suite, name) not in NAMED:
        known = ", ".join(known for of, known in NAMED if of == suite) or "none"
        raise ProtocolError(f"Suite {suite!r} has no protocol {name!r}; it has {known}.")
    return NAMED[suite, name]
