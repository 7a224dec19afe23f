"""The small models of a folder of recordings, computed here and compared array by array.

A folder holds `cases.json`, and per case `params_<case>.npz` and `out_<case>_<precision>.npz`.

Precisions: `f32`; `bf16train` (float32 parameters, bfloat16 arithmetic, as the reference trains);
`bf16infer` (bfloat16 parameters and arithmetic, as it serves).

Limits: float32 arrays by relative rms difference, 2e-5 after one pass and 2e-4 after a loop or for a
gradient. A bfloat16 array may differ from the recorded one by as much as the reference's own
bfloat16 differs from its float32.

That distance is one draw of the rounding noise. From n numbers it estimates the noise to within
1/sqrt(2n), half of it for n = 2. So an array of few numbers is judged together with those of the same
quantity for the case's other inputs, as one array; what it is alone is shown too.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jax
import numpy as np
from flax import nnx

from simloop.harness.parity.comparison import ArrayComparison
from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.model_input import ModelInput
from simloop.policies.models.parameters import FlatParameters, model_from, named_leaves

Precision = Literal["f32", "bf16train", "bf16infer"]
PRECISIONS: tuple[Precision, ...] = ("f32", "bf16train", "bf16infer")
Recorded: TypeAlias = Mapping[str, np.ndarray]

ONE_PASS = 2e-5
"""Relative rms limit of float32 arrays behind at most one pass through the model."""
LOOP = 2e-4
"""The same behind a sampling loop, and for gradients."""

FEW_NUMBERS = 16
"""A bfloat16 array with fewer is judged with the same quantity's arrays for other inputs."""
OTHER_INPUT = "_all_cams_valid"
"""Ends the name of an array that was recorded for the case's second input."""

ZERO_GRADIENT = "key/bias"
"""A key bias moves all logits of a query alike, so its gradient is 0 but for rounding; the limit is
relative to the gradient of the query bias beside it."""


def case_names(golden: Path) -> list[str]:
    """Cases of a folder whose parameters are present."""
    cases = golden / "cases.json"
    if not cases.exists():
        return []
    return [
        name for name in json.loads(cases.read_text())["cases"] if _parameters_file(golden, name).exists()
    ]


def checks(golden: Path) -> Iterator[ArrayComparison]:
    """Every recorded array of every case that is present."""
    for name in case_names(golden):
        yield from case_checks(golden, name)


def case_checks(golden: Path, name: str) -> Iterator[ArrayComparison]:
    """Every recorded array of one case, in every precision that is present."""
    from simloop.harness.parity import flow_models, token_models

    for precision in PRECISIONS:
        if not _outputs_file(golden, name, precision).exists():
            continue
        case = Case(golden, name, precision)
        family = token_models if case.config.action_expert is None else flow_models
        yield from family.checks(case)
        # Each case compiles its own functions; the maps of all of them would exceed vm.max_map_count.
        jax.clear_caches()


@dataclass(frozen=True)
class Case:
    """One recorded model in one precision."""

    golden: Path
    name: str
    precision: Precision

    @cached_property
    def config(self) -> ModelConfig:
        """The model as it was recorded."""
        case = json.loads((self.golden / "cases.json").read_text())["cases"][self.name]
        return ModelConfig.from_case(case, dtype="float32" if self.precision == "f32" else "bfloat16")

    @cached_property
    def recorded(self) -> Recorded:
        """What the reference computed in this precision."""
        return _load(_outputs_file(self.golden, self.name, self.precision))

    @cached_property
    def recorded_f32(self) -> Recorded:
        """Inputs, and what the reference computed in float32."""
        return _load(_outputs_file(self.golden, self.name, "f32"))

    @cached_property
    def model(self) -> Any:
        """The model with the recorded parameters."""
        dtype = "bfloat16" if self.precision == "bf16infer" else "float32"
        return model_from(self.config, _load(_parameters_file(self.golden, self.name)), dtype=dtype)

    def batch(self, *, prompt: str = "in", all_cameras_valid: bool = False) -> ModelInput:
        """The recorded input; `prompt` is `in`, or `in_prefix` for a prompt without answer."""
        arrays, images = self.recorded_f32, _load(self.golden / "inputs_images.npz")
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
        """Computed arrays, by their recorded names, against those of them that were recorded."""
        recorded = {name: np.asarray(got) for name, got in computed.items() if name in self.recorded}
        compared = {name: self._comparison(name, got, limit) for name, got in recorded.items()}
        for name, comparison in compared.items():
            quantity = name.removesuffix(OTHER_INPUT)
            pool = [compared[one] for one in (quantity, quantity + OTHER_INPUT) if one in compared]
            few = comparison.measure == "rms_absolute" and comparison.wanted.size < FEW_NUMBERS
            if few and len(pool) > 1:
                comparison = dataclasses.replace(comparison, pool=tuple(pool))
            yield comparison

    def label(self, name: str) -> str:
        """How an array is called in the list of results."""
        return f"{self.name}/{self.precision}/{name}"

    def _comparison(self, name: str, got: np.ndarray, limit: float) -> ArrayComparison:
        wanted, label = self.recorded[name], self.label(name)
        if wanted.dtype.kind in "biu":
            differing = 0.0
            if self.precision != "f32":
                differing = float(np.sum(wanted != self.recorded_f32[name]))
            return ArrayComparison(label, wanted, got, differing, "identical")
        if self.precision == "f32":
            return ArrayComparison(label, wanted, np.asarray(got, np.float32), limit)
        own_distance = _rms(wanted - self.recorded_f32[name])
        # Where the reference computes the same in both precisions, the limit of float32 holds.
        return ArrayComparison(
            label,
            wanted,
            np.asarray(got, np.float32),
            max(own_distance, limit * _rms(wanted)),
            "rms_absolute",
        )


def gradient_checks(case: Case, loss: Callable[..., jax.Array], *args: Any) -> Iterator[ArrayComparison]:
    """The gradients of a mean loss: per parameter its norm, its sum and its product with a fixed vector."""
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
        beside = case.recorded[name.replace(ZERO_GRADIENT, "query/bias")]
        yield ArrayComparison(
            case.label(name), case.recorded[name], got, ONE_PASS * _rms(beside), "rms_absolute"
        )


def _summary(name: str, gradient: jax.Array) -> np.ndarray:
    g = np.asarray(gradient).astype(np.float64)
    direction = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(g.shape)
    return np.array([np.sqrt((g**2).sum()), g.sum(), (g * direction).sum()])


def _parameters_file(golden: Path, name: str) -> Path:
    return golden / f"params_{name}.npz"


def _outputs_file(golden: Path, name: str, precision: Precision) -> Path:
    return golden / f"out_{name}_{precision}.npz"


def _load(path: Path) -> FlatParameters:
    with np.load(path) as arrays:
        return dict(arrays)


def _rms(array: np.ndarray | np.floating) -> float:
    return float(np.sqrt(np.mean(np.square(array.astype(np.float64)))))
