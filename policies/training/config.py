"""Options of a training run."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from simloop.policies.guidance import DelayDistribution
from simloop.policies.training.errors import TrainingError

MAX_ACTION_VOCABULARY = 1024  # Pieces that stand for actions in the text vocabulary.
POSITIVE = ("steps", "batch", "micro_batches", "flow_samples", "fsdp_devices", "log_every", "save_every")


@dataclass(frozen=True)
class TrainConfig:
    """Options of a training run of one preset."""

    preset: str
    """Model and robot (simloop list policies)."""
    data: tuple[Path, ...]
    """Folders of LeRobotDatasets, or of prepared ones. Frames of all are drawn with equal probability; a folder
    that is named twice is drawn twice as often."""
    out: Path
    """Folder of the run: checkpoints, curves, exports. The same command resumes the run."""
    objective: Literal["actions", "state"] = "actions"
    """Learn actions, or train the image encoder alone to predict the state of the environment, which takes a
    fraction of the time per sample and needs data with `observation.environment_state`. Models trained from
    scratch learn much faster from such weights (give the export as `init`)."""
    state_loss_weight: float = 0.0
    """Weight of an auxiliary loss that predicts the state of the environment from the outputs that actions are
    computed from. Free of cost; needs the same data."""
    steps: int = 20_000
    """Optimizer steps."""
    batch: int = 64
    """Chunks per step."""
    seed: int = 0
    """Root of initial weights, data order, noise and augmentation."""
    learning_rate: float = 5e-4
    """Peak learning rate, after warm-up. Published fine-tuning uses 2.5e-5."""
    final_learning_rate: float = 1e-6
    """Learning rate at the end of the cosine decay, at the last step."""
    warmup_steps: int = 500
    """Steps of linear warm-up."""
    weight_decay: float = 1e-10
    """Decoupled weight decay of AdamW, on every parameter."""
    clip_norm: float = 1.0
    """Largest global norm of the gradients."""
    ema_decay: float = 0.999
    """Decay of the moving average of the weights, which is exported; 0 keeps none."""
    micro_batches: int = 1
    """Parts that a batch is computed in, to save memory."""
    fsdp_devices: int = 1
    """Devices that share one copy of the parameters; groups of them hold copies."""
    compute: Literal["preset", "float32", "bfloat16"] = "preset"
    """Dtype of the transformers' computation. Trained parameters and their moments are always float32."""
    recompute: bool = False
    """Recompute layers in the backward pass: a quarter slower, with much less memory."""
    flow_samples: int = 1
    """pi0, pi0.5: noises and flow times per chunk. Cameras are encoded once for all of them, so four cost small
    models a quarter more than one; published training uses one."""
    max_delay: int = 0
    """pi0, pi0.5: longest delay in control steps that the policy can be executed at by rtc-trained: training gives it
    the actions of the steps before a delay, and it learns the rest (arXiv:2512.05964)."""
    delay_distribution: DelayDistribution = "uniform"
    """Delays of 0 to `max_delay` are equally likely, as published for robots, or each e times as likely as the next
    longer one, as published for simulations."""
    augment: bool = False
    """Crop, rotate and recolour images as published training does."""
    lora_rank: int = 0
    """Train low-rank adapters of this rank on the transformers instead of their weights; 0 trains all weights."""
    init: Path | None = None
    """Checkpoint to start from, in any format; by default, weights are initialized at random."""
    init_takes: Literal["all", "fitting"] = "all"
    """Arrays to take from `init`: all of the model's, which must be there, or those that the two models share, by name
    and shape, the others initialized at random. The latter starts one model from another's images and language, or
    from a policy of a robot with another number of states and actions."""
    statistics: Literal["data", "init"] = "data"
    """Normalization statistics: computed from the data, or taken from the checkpoint `init`."""
    action_tokens: Literal["fit", "preset"] = "fit"
    """pi0-FAST: fit an action tokenizer to the data, or take that of the preset (or of `init`)."""
    action_vocabulary: int = 512
    """Size of a fitted action tokenizer; at most 1024. With 0 it merges no pairs and every coefficient of a
    chunk is a token: answers are long but easy to learn, because every token has a fixed position."""
    action_scale: float = 10.0
    """Quantization steps per unit of a coefficient in a fitted action tokenizer."""
    cameras: tuple[str, ...] = ()
    """MODEL_CAMERA=DATASET_KEY for each camera; by default base_0_rgb=observation.images.base_0_rgb and so on."""
    state_key: str = "observation.state"
    """Column of the robot state."""
    action_key: str = "action"
    """Column of the actions."""
    log_every: int = 50
    """Steps between two points of the curves."""
    save_every: int = 1000
    """Steps between two checkpoints to resume from."""
    wandb: str = ""
    """Project of Weights & Biases to log to as well, if the package is installed."""

    def __post_init__(self) -> None:
        """Reject values that cannot be trained with."""
        if not self.data:
            raise TrainingError("data names no dataset; name at least one.")
        for name in POSITIVE:
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
            raise TrainingError("lora_rank and statistics=init need a checkpoint; name it with init.")
        if self.init is None and self.init_takes != "all":
            raise TrainingError(f"init_takes={self.init_takes} selects arrays of init; name a checkpoint.")
        if self.objective == "state" and self.lora_rank:
            raise TrainingError("objective=state trains the image encoder, which has no adapters.")
        if self.state_loss_weight < 0:
            raise TrainingError(f"state_loss_weight must be at least 0; got {self.state_loss_weight}.")
        if self.objective == "state" and self.state_loss_weight:
            raise TrainingError(
                "state_loss_weight needs objective=actions; objective=state has no other loss."
            )
        if self.max_delay < 0:
            raise TrainingError(f"max_delay must be at least 0; got {self.max_delay}.")
        if self.objective == "state" and self.max_delay:
            raise TrainingError("max_delay needs objective=actions; objective=state learns no actions.")
        if self.action_scale <= 0:
            raise TrainingError(f"action_scale must be positive; got {self.action_scale}.")
        if not 0 <= self.action_vocabulary <= MAX_ACTION_VOCABULARY:
            raise TrainingError(
                f"action_vocabulary must be 0 to {MAX_ACTION_VOCABULARY}, the number of action pieces; got "
                f"{self.action_vocabulary}."
            )

    @property
    def predicts_state(self) -> bool:
        """Whether a loss predicts the state of the environment, alone or beside that of the actions."""
        return self.objective == "state" or self.state_loss_weight > 0

    def decisive(self) -> dict[str, Any]:
        """Options that decide the losses, as JSON values; where and how often files are written is left out."""
        plain = json.loads(json.dumps(dataclasses.asdict(self), default=str))
        free = ("out", "log_every", "save_every", "wandb", "fsdp_devices")
        return {name: value for name, value in plain.items() if name not in free}

    def camera_keys(self, cameras: tuple[str, ...]) -> dict[str, str]:
        """Dataset key of each model camera.

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
                f"{self.preset} needs the cameras {', '.join(cameras)}; cameras lacks {', '.join(missing)}."
            )
        return pairs


RENAMED = {
    "locate_weight": "state_loss_weight",
    "act": "actions",
    "locate": "state",
}
"""Names and values of options in files of older training runs, and their present names."""


def with_present_names(options: dict[str, Any]) -> dict[str, Any]:
    """Recorded options under their present names."""
    renamed = {RENAMED.get(name, name): value for name, value in options.items()}
    if "objective" in renamed:
        renamed["objective"] = RENAMED.get(renamed["objective"], renamed["objective"])
    return renamed
