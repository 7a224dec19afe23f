"""`Preset`: the properties of a policy that its checkpoint does not record.

Which robot convention it was trained in, whether statistics are z-scores or quantiles, which action entries are
relative to the state, how prompts are written: none of it is guessed from the kind of model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from simloop.policies.interface import GuidanceMethod, PolicySpec
from simloop.policies.models.configs import ModelConfig
from simloop.policies.tokenizers.decoded import OnFailure
from simloop.policies.tokenizers.fast_actions import FastActionsSource
from simloop.policies.tokenizers.sentencepiece_model import PALIGEMMA, SentencePieceSource
from simloop.policies.transforms.normalization import NormalizationKind
from simloop.policies.transforms.preprocessing import Resizing

PromptFormat = Literal["instruction", "instruction_and_state", "fast"]
"""Formats of `tokenizers.prompts`."""

AbsentCamera = Literal["masked", "black"]
"""Input for a camera that the robot lacks: masked out, or a black image that is attended to, as the published
pi0-FAST models were trained with."""


@dataclass(frozen=True)
class PublishedWeights:
    """Where trained weights are published. Users download them, as they take several gigabytes."""

    url: str
    asset_id: str
    """Key of this robot's statistics in the checkpoint."""


@dataclass(frozen=True)
class Preset:
    """A model for a robot."""

    name: str
    model: ModelConfig
    robot: str
    """Convention of cameras, state and actions; the harness has an adapter for it."""
    cameras: tuple[str, ...]
    """Cameras that a query must have. Others of the model's are optional."""
    state_size: int
    action_size: int
    """Lengths of the robot's own vectors, which are padded for the model."""
    normalization: NormalizationKind
    prompt: PromptFormat
    prompt_lengths: tuple[int, ...]
    """Padded prompt lengths in tokens, ascending; each prompt takes the first that fits. Shorter padding changes
    rounding only. The last is the length in training."""
    replan_steps: int
    """Actions of a chunk that the published evaluation executes before the next query."""
    absent_cameras: AbsentCamera = "masked"
    relative: tuple[bool, ...] = ()
    """Which leading action entries are relative to the state."""
    text_model: Path | SentencePieceSource = PALIGEMMA
    action_tokens: Path | FastActionsSource | None = None
    """The FAST action tokenizer, for token models."""
    answer_tokens: int = 256
    """Largest number of tokens per answer, for token models with free decoding."""
    decoding: Literal["free", "constrained"] = "free"
    """Whether any token may follow another, as in published evaluations, or only tokens that lead to a complete
    chunk (`constrained_decoding`)."""
    on_failure: OnFailure = "undecodable"
    """Answer for tokens that encode no actions."""
    flow_steps: int = 10
    max_delay: int = field(default=0, repr=False)
    """Longest delay in control steps that the weights were trained for. Changes no answer, so hashes leave it out."""
    resizing: Resizing = "antialiased"
    """How the trainer of the weights resized images."""
    unroll_on_cpu: bool = False
    """Whether layers are unrolled on CPUs too, which pays for small models alone."""
    published: PublishedWeights | None = None
    bundled: Path | None = None
    """Checkpoint that comes with simloop, used if none is named."""
    untrained_stats: Path | None = None
    """Statistics for random weights, so that actions have a sensible scale."""

    def __post_init__(self) -> None:
        """Reject presets that contradict their model."""
        longest = max(self.state_size, self.action_size) if self.model.action_expert else self.action_size
        if longest > self.model.action_dim:
            raise ValueError(
                f"{self.name}: vectors of {longest} entries do not fit into the {self.model.action_dim} of the model."
            )
        unknown = set(self.cameras) - set(self.model.cameras)
        if unknown:
            raise ValueError(f"{self.name}: the model has no camera {', '.join(sorted(unknown))}.")
        if (self.prompt == "instruction") == self.model.state_in_prompt:
            raise ValueError(f"{self.name}: prompt {self.prompt!r}, but state_as {self.model.state_as!r}.")
        if (self.prompt == "fast") != (self.model.action_expert is None):
            raise ValueError(f"{self.name}: exactly the models without action expert use 'fast' prompts.")
        if (self.prompt == "fast") != (self.action_tokens is not None):
            raise ValueError(f"{self.name}: exactly the models with 'fast' prompts need action_tokens.")

    @property
    def needs_checkpoint(self) -> bool:
        """Whether trained weights must be named because none are bundled."""
        return self.bundled is None

    def where_to_get_weights(self) -> str:
        """Message for users who named no checkpoint."""
        if self.published is None:
            source = "None are published; fine-tune a published checkpoint."
        else:
            source = f"They are published at {self.published.url}; download that folder."
        return (
            f"Preset {self.name!r} needs trained weights. {source} Then name it {self.name}@FOLDER. "
            f"{self.name}@random has random weights: its speed is meaningful, its actions are not."
        )

    def spec(self) -> PolicySpec:
        """Specification of the policy before its weights are loaded."""
        state_is_used = self.model.state_as != "unused" or any(self.relative)
        return PolicySpec(
            name=self.name,
            robot=self.robot,
            weights="untrained",
            cameras=self.cameras,
            image_hw=(self.model.image_size, self.model.image_size),
            state_size=self.state_size if state_is_used else None,
            action_size=self.action_size,
            chunk_steps=self.model.action_horizon,
            guidance=self._guidance(),
            max_delay=self.max_delay,
        )

    def _guidance(self) -> tuple[GuidanceMethod, ...]:
        if self.model.action_expert is None:  # Tokens depend on all steps of a chunk.
            return ()
        return ("full", "identity", "trained") if self.max_delay else ("full", "identity")
