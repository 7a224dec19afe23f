"""Recorded small models, rebuilt with their recorded parameters.

A folder of recordings holds `cases.json`, and per case `params_<case>.npz` and `out_<case>_<precision>.npz`.

Precisions: `f32`; `bf16train` (float32 parameters, bfloat16 arithmetic, as the reference trains);
`bf16infer` (bfloat16 parameters and arithmetic, as it serves).

Limits: float32 arrays by relative rms difference, 2e-5 after one pass and 2e-4 after a loop or for a
gradient. A bfloat16 array may differ from the recorded one by as much as the reference's own
bfloat16 differs from its float32.

That difference is one draw of the rounding noise. From n entries it estimates the noise to within 1/sqrt(2n), half
of it for n = 2. An array of few entries is therefore judged together with those of the same quantity for the
case's other inputs, as one array.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx

from simloop.harness.parity.comparison import ONE_PASS, ArrayComparison, Arrays, identical, load_arrays, rms
from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.model_input import ModelInput
from simloop.policies.models.parameters import model_from, named_leaves
from simloop.untrusted import read_json_object

Precision = Literal["f32", "bf16train", "bf16infer"]
PRECISIONS: tuple[Precision, ...] = ("f32", "bf16train", "bf16infer")

LOOP = 2e-4
"""Limit like `ONE_PASS`, after a sampling loop and for gradients."""
FEW_ENTRIES = 16
"""A bfloat16 array with fewer is judged together with the same quantity for other inputs."""
OTHER_INPUT = "_all_cams_valid"
"""Suffix of arrays recorded for the case's second input."""
ZERO_GRADIENT = "key/bias"
"""A key bias shifts all logits of a query by the same amount, so its gradient is 0 but for rounding. The limit is
relative to the gradient of the query bias beside it."""


def case_names(golden: Path) -> list[str]:
    """Return the cases of a folder whose parameters are present."""
    cases = golden / "cases.json"
    names = read_json_object(cases)["cases"] if cases.exists() else {}
    return [name for name in names if (golden / f"params_{name}.npz").exists()]


@dataclass(frozen=True)
class Case:
    """One recorded model in one precision."""

    golden: Path
    name: str
    precision: Precision

    @cached_property
    def config(self) -> ModelConfig:
        """Configuration of the model."""
        case = read_json_object(self.golden / "cases.json")["cases"][self.name]
        return ModelConfig.from_case(case, dtype="float32" if self.precision == "f32" else "bfloat16")

    @cached_property
    def recorded(self) -> Arrays:
        """Outputs of the reference in this precision; empty if there are none."""
        return load_arrays(self.golden / f"out_{self.name}_{self.precision}.npz")

    @cached_property
    def recorded_f32(self) -> Arrays:
        """Inputs, and outputs of the reference in float32."""
        return load_arrays(self.golden / f"out_{self.name}_f32.npz")

    @cached_property
    def model(self) -> Any:
        """The model with the recorded parameters."""
        dtype = "bfloat16" if self.precision == "bf16infer" else "float32"
        return model_from(self.config, load_arrays(self.golden / f"params_{self.name}.npz"), dtype=dtype)

    def batch(self, *, prompt: str = "in", all_cameras_valid: bool = False) -> ModelInput:
        """Return the recorded input.

        Args:
          prompt: `in`, or `in_prefix` for a prompt without answer.
          all_cameras_valid: Whether to return the second input, in which no camera is masked.
        """
        arrays, images = self.recorded_f32, load_arrays(self.golden / "inputs_images.npz")
        masks = {camera: arrays[f"in/image_mask/{camera}"] for camera in self.config.cameras}
        if all_cameras_valid:
            masks = {camera: np.ones_like(mask) for camera, mask in masks.items()}
        return ModelInput(
            images={camera: images[camera] for camera in self.config.cameras},
            image_masks=masks,
            state=arrays["in/state"],
            tokens=arrays[f"{prompt}/tokenized_prompt"],
            token_mask=arrays[f"{prompt}/tokenized_prompt_mask"],
            token_ar_mask=arrays.get(f"{prompt}/token_ar_mask"),
            token_loss_mask=arrays.get(f"{prompt}/token_loss_mask"),
        )

    def compare(self, computed: Mapping[str, Any], *, limit: float = ONE_PASS) -> Iterator[ArrayComparison]:
        """Compare those of the computed arrays, by name, that were recorded."""
        compared = {
            name: self._comparison(name, np.asarray(got), limit)
            for name, got in computed.items()
            if name in self.recorded
        }
        for name, comparison in compared.items():
            quantity = name.removesuffix(OTHER_INPUT)
            pool = [compared[one] for one in (quantity, quantity + OTHER_INPUT) if one in compared]
            few = comparison.measure == "rms_absolute" and comparison.wanted.size < FEW_ENTRIES
            if few and len(pool) > 1:
                comparison = dataclasses.replace(comparison, pool=tuple(pool))
            yield comparison

    def label(self, name: str) -> str:
        """Return the name of an array in the list of results."""
        return f"{self.name}/{self.precision}/{name}"

    def _comparison(self, name: str, got: np.ndarray, limit: float) -> ArrayComparison:
        wanted, label = self.recorded[name], self.label(name)
        if wanted.dtype.kind in "biu":
            in_float32 = wanted if self.precision == "f32" else self.recorded_f32[name]
            return identical(label, wanted, got, differing=float(np.sum(wanted != in_float32)))
        got = got.astype(np.float32)
        if self.precision == "f32":
            return ArrayComparison(label, wanted, got, limit)
        # The limit of float32 holds where the reference computes the same in both precisions.
        limit = max(rms(wanted - self.recorded_f32[name]), limit * rms(wanted))
        return ArrayComparison(label, wanted, got, limit, "rms_absolute")


def gradient_checks(case: Case, loss: Callable[..., jax.Array], *args: Any) -> Iterator[ArrayComparison]:
    """Compare gradients of a mean loss: per parameter its norm, its sum and its product with a fixed vector."""
    if "grad/loss_mean" not in case.recorded:
        return
    graph, state = nnx.split(case.model)

    def mean_loss(state: nnx.State, *args: Any) -> jax.Array:
        return loss(nnx.merge(graph, state), *args).mean()

    value, gradient = jax.jit(jax.value_and_grad(mean_loss))(state, *args)
    yield from case.compare({"grad/loss_mean": value})
    summaries = {f"grad/{name}": _summary(name, leaf) for name, leaf in named_leaves(gradient)}
    zeros = {name: summaries.pop(name) for name in list(summaries) if name.endswith(ZERO_GRADIENT)}
    yield from case.compare(summaries, limit=LOOP)
    for name, got in zeros.items():
        limit = ONE_PASS * rms(case.recorded[name.replace(ZERO_GRADIENT, "query/bias")])
        yield ArrayComparison(case.label(name), case.recorded[name], got, limit, "rms_absolute")


def _summary(name: str, gradient: jax.Array) -> np.ndarray:
    g = np.asarray(gradient).astype(np.float64)
    direction = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(g.shape)
    return np.array([np.sqrt((g**2).sum()), g.sum(), (g * direction).sum()])
