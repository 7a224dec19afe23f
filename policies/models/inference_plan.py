"""How a model is executed when it answers queries. Needs no JAX.

A plan changes answers by rounding at most (tests/policies/models/test_inference_plan.py); what a model computes is
decided by its `ModelConfig`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from simloop.policies.interface import GuidanceMethod
from simloop.policies.kernels import Kernels


@dataclass(frozen=True)
class InferencePlan:
    """Optimizations, kernels and devices of inference. None leaves a choice to `on`."""

    devices: int = 1
    """Devices that a policy is spread over: rows of a batch over all of them where their number divides the
    batch size, weights over as few as can hold them."""
    kernels: Kernels = field(default_factory=Kernels)
    """Implementations of attention and gated products."""
    unroll_layers: bool | None = None
    """Compile layers one after another instead of as a loop over one. The weights and the cache of each layer are
    then arrays of their own, so that loops over tokens and flow steps copy neither."""
    unroll_steps: bool | None = None
    """Compile flow steps one after another instead of as a loop: accelerators that replay recorded graphs cannot
    record a loop."""
    aligned: bool | None = None
    """Round the lengths of sums up to multiples of 128: the slots of the cache and, with fused projections, the hidden
    layers of the image encoder. Kernels of accelerators split sums into equal parts and would copy caches and weights
    to pad the last part. Exact with the decode mask `valid` of pi0-FAST, and with `window` if no camera is masked."""
    fused_projections: bool | None = None
    """Compute queries, keys and values in one product, and gate and up in one. Experts with adapters and image
    encoders whose layers are not stacked stay as they are."""
    keys_only: bool = True
    """Stop the last layer of the language expert at keys and values: the flow models read nothing else of it."""
    attention_in_place: bool = True
    """Lay queries, logits and values out as the products of attention read them; on CPUs, let the rows of a large batch
    attend one after another, so that logits stay in the caches."""
    forced_prefix: bool = True
    """Read the tokens that every answer of pi0-FAST starts with together with the prompt. Tokens that the model would
    not have generated are discarded."""
    keep_attention: bool = False
    """Keep the weights of attention of the last pass in the cache (`KVCache.attention`), for explanations."""
    guidance: tuple[GuidanceMethod | None, ...] = (None,)
    """Methods of guidance to compile programs for; None for queries without."""

    def without(self, *names: str) -> InferencePlan:
        """Return the plan without the named optimizations.

        Raises:
          ValueError: If there is no optimization of that name.
        """
        unknown = [name for name in names if name not in OPTIMIZATIONS]
        if unknown:
            raise ValueError(f"Optimizations are {', '.join(OPTIMIZATIONS)}; got {unknown[0]!r}.")
        disabled: dict[str, Any] = dict.fromkeys(names, False)
        return dataclasses.replace(self, **disabled)

    def on(self, platform: str, *, unroll_on_cpu: bool = False) -> InferencePlan:
        """Return the plan with all choices made for a platform, `cpu` or an accelerator.

        On accelerators everything is unrolled and aligned. This takes longer to compile, once.
        """
        accelerator = platform != "cpu"
        unroll = accelerator or unroll_on_cpu if self.unroll_layers is None else self.unroll_layers
        chosen: dict[str, Any] = {
            "unroll_layers": unroll,
            "unroll_steps": accelerator,
            "aligned": accelerator,
            "fused_projections": unroll,
        }
        return dataclasses.replace(
            self, **{name: value for name, value in chosen.items() if getattr(self, name) is None}
        )


PLAIN = InferencePlan()
"""Published weight layout and loops over layers, as in training."""

OPTIMIZATIONS = (
    "unroll_layers",
    "unroll_steps",
    "aligned",
    "fused_projections",
    "keys_only",
    "attention_in_place",
    "forced_prefix",
)
"""Optimizations that `InferencePlan.without` can switch off."""
