"""What decides a training, in one place, for every way to start one."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from simloop.policies.training.errors import TrainingError


@dataclass(frozen=True)
class TrainConfig:
    """A training of one preset."""

    preset: str
    """Which model (simloop list policies)."""
    data: tuple[Path, ...]
    """Folders of LeRobotDatasets, or of what `prepare` made of them. Every frame of all is as likely; a
    folder that is named twice is twice as likely."""
    out: Path
    """Folder of this training: checkpoints, curves, exports. The same command goes on from there."""
    objective: Literal["act", "locate"] = "act"
    """What is learnt: to act; or, by the image encoder alone, to say where everything is, which takes a
    fraction of the time a sample and needs data with `observation.environment_state`. Models that learn to
    see from nothing learn much faster from such a start (give its export as `init`)."""
    locate_weight: float = 0.0
    """Weight of a second loss beside that of acting: of saying where everything is, read off the outputs that
    actions are made from. Costs nothing; needs the same data."""
    steps: int = 20_000
    """Steps of the optimiser."""
    batch: int = 64
    """Chunks per step."""
    seed: int = 0
    """Root of initial weights, order of the data, noise and augmentation."""
    learning_rate: float = 5e-4
    """After the warm-up. Published fine-tuning takes 2.5e-5."""
    final_learning_rate: float = 1e-6
    """Where the cosine ends, at the last step."""
    warmup_steps: int = 500
    """Steps over which the learning rate rises."""
    weight_decay: float = 1e-10
    """Of AdamW, on every parameter."""
    clip_norm: float = 1.0
    """Largest norm of the gradients."""
    ema_decay: float = 0.999
    """Of the moving average of the weights, which is what is exported; 0 keeps none."""
    micro_batches: int = 1
    """Parts that a batch is computed in, to save memory."""
    fsdp_devices: int = 1
    """Devices that share one copy of the parameters; the others hold copies."""
    compute: Literal["preset", "float32", "bfloat16"] = "preset"
    """What the transformers compute in. Trained parameters and their moments are float32 anyway."""
    recompute: bool = False
    """Recompute layers in the backward pass: a quarter slower, and much less memory."""
    flow_samples: int = 1
    """pi0, pi0.5: noises and flow times to learn each chunk at. Its cameras are read once for all, so that
    four cost small models a quarter more than one; the published training takes one."""
    augment: bool = False
    """Crop, rotate and recolour images as the published training does."""
    lora_rank: int = 0
    """Train adapters of this rank on the transformers instead of their weights; 0 trains everything."""
    init: Path | None = None
    """Checkpoint to start from (any format); fresh weights without one."""
    init_takes: Literal["all", "fitting"] = "all"
    """What is taken from `init`: every array, all of which must be there; or those that the model has as
    well, the others fresh. The second starts one model of the family from another's images and language."""
    statistics: Literal["data", "init"] = "data"
    """Whose normalisation statistics to use: those of the data, or those of the checkpoint `init`."""
    action_tokens: Literal["fit", "preset"] = "fit"
    """pi0-FAST: fit an action tokenizer on the data, or take the preset's (or that of `init`)."""
    action_vocabulary: int = 512
    """Size of a fitted action tokenizer; at most 1024. With 0 it merges nothing and every coefficient of a
    chunk is a token: answers are long, and easy to learn, because every token has its place."""
    action_scale: float = 10.0
    """Steps per unit that a fitted action tokenizer rounds coefficients to."""
    cameras: tuple[str, ...] = ()
    """MODEL_CAMERA=DATASET_KEY for each camera; base_0_rgb=observation.images.base_0_rgb and so on without."""
    state_key: str = "observation.state"
    """Column of the robot's state."""
    action_key: str = "action"
    """Column of the actions."""
    log_every: int = 50
    """Steps between two points of the curves."""
    save_every: int = 1000
    """Steps between two checkpoints to go on from."""
    wandb: str = ""
    """Project of Weights & Biases to log to as well, if the package is installed."""

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be trained with."""
        if not self.data:
            raise TrainingError("data names no dataset; name at least one.")
        positive = (
            "steps",
            "batch",
            "micro_batches",
            "flow_samples",
            "fsdp_devices",
            "log_every",
            "save_every",
        )
        for name in positive:
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} must be at least 1; got {getattr(self, name)}.")
        if self.batch % self.micro_batches:
            raise TrainingError(
                f"micro_batches must divide the batch of {self.batch}; got {self.micro_batches}."
            )
        if not 0.0 <= self.ema_decay < 1.0:
            raise TrainingError(f"ema_decay must be in [0, 1); got {self.ema_decay}.")
        if self.warmup_steps >= self.steps:
            raise TrainingError(
                f"warmup_steps must be less than steps, {self.steps}; got {self.warmup_steps}."
            )
        if self.init is None and (self.lora_rank or self.statistics == "init"):
            raise TrainingError("Adapters, and statistics of a checkpoint, need one: name it with init.")
        if self.init is None and self.init_takes != "all":
            raise TrainingError(f"init_takes={self.init_takes} says what to take of init; name a checkpoint.")
        if self.objective == "locate" and self.lora_rank:
            raise TrainingError("Learning to locate trains the image encoder, which has no adapters.")
        if self.locate_weight < 0:
            raise TrainingError(f"locate_weight must be at least 0; got {self.locate_weight}.")
        if self.objective == "locate" and self.locate_weight:
            raise TrainingError("locate_weight goes with the objective act; locate has no loss of actions.")
        if self.action_scale <= 0:
            raise TrainingError(f"action_scale must be positive; got {self.action_scale}.")
        if not 0 <= self.action_vocabulary <= 1024:
            raise TrainingError(
                f"action_vocabulary must be 0 to 1024, the number of pieces that stand for actions; got "
                f"{self.action_vocabulary}."
            )

    @property
    def locates(self) -> bool:
        """Whether the model learns where things are, alone or beside its actions."""
        return self.objective == "locate" or self.locate_weight > 0

    def decisive(self) -> dict[str, Any]:
        """What decides the losses, as plain JSON values; not where and how often things are written."""
        plain = json.loads(json.dumps(dataclasses.asdict(self), default=str))
        free = ("out", "log_every", "save_every", "wandb", "fsdp_devices")
        return {name: value for name, value in plain.items() if name not in free}

    def camera_keys(self, cameras: tuple[str, ...]) -> dict[str, str]:
        """Which camera of the dataset stands for which of the model's.

        Raises:
          TrainingError: If a pair is not written as MODEL_CAMERA=DATASET_KEY, or one is missing.
        """
        if not self.cameras:
            return {camera: f"observation.images.{camera}" for camera in cameras}
        pairs = {}
        for pair in self.cameras:
            camera, equals, key = pair.partition("=")
            if not equals:
                raise TrainingError(f"cameras takes MODEL_CAMERA=DATASET_KEY; got {pair!r}.")
            pairs[camera] = key
        if missing := [camera for camera in cameras if camera not in pairs]:
            raise TrainingError(
                f"{self.preset} needs the cameras {', '.join(cameras)}; cameras says nothing of "
                f"{', '.join(missing)}."
            )
        return pairs
