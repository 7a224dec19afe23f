"""Policy of a model of the pi0 family: batches of queries in, chunks of actions out.

    queries -> rows on the host -> one call of a compiled function -> actions in robot units
               `query_encoder`     `sampling`                         here

Axis letters: b batch, c chunk steps, a padded action size, m generated tokens.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Float, Int32, UInt32

from simloop.policies.inference.compilation import CompilerOptions, Programs
from simloop.policies.inference.query_encoder import QueryEncoder, Row, RowShape
from simloop.policies.inference.sampling import sampler
from simloop.policies.interface import (
    BatchedPolicy,
    Chunk,
    CompilationProgress,
    InferenceResult,
    PolicySpec,
    Query,
    require_fitting,
)
from simloop.policies.kernels import Kernels
from simloop.policies.models.constrained_decoding import action_grammar
from simloop.policies.models.guidance import GUIDANCE, Guidance
from simloop.policies.models.inference_plan import InferencePlan
from simloop.policies.models.model_input import AnyArray, ModelInput
from simloop.policies.models.parameters import Model, flatten
from simloop.policies.models.pi0_fast import END_TOKEN
from simloop.policies.models.sharding import FSDP, rows_sharding
from simloop.policies.presets import Preset
from simloop.policies.presets.recorded import taken_over
from simloop.policies.tokenizers.fast import FastTokenizer
from simloop.policies.tokenizers.fast_actions import PUBLISHED_FAST
from simloop.policies.tokenizers.sentencepiece_model import PALIGEMMA, SentencePieceModel
from simloop.policies.transforms.image_statistics import ImageStats
from simloop.policies.transforms.normalization import Normalizer, NormStats, norm_stats_to_json
from simloop.policies.transforms.preprocessing import absolute_actions

JAX_SETTINGS = (
    "jax_default_matmul_precision", "jax_enable_x64", "jax_numpy_dtype_promotion", "jax_default_prng_impl",
    "jax_threefry_partitionable", "jax_disable_jit",
)  # fmt: skip
"""Settings of JAX that change answers."""


Inputs = tuple[ModelInput, AnyArray] | tuple[ModelInput, AnyArray, Guidance]
"""Arguments of a program: inputs, keys uint32 [b, 2], and the guidance of queries that have one."""


@dataclass(frozen=True)
class PolicyTokenizers:
    """The tokenizers of a policy."""

    text: SentencePieceModel
    answer: FastTokenizer | None = None
    """Tokenizer of answers, for models that answer in tokens."""


@dataclass(frozen=True)
class DeviceBatch:
    """Assembled queries, grouped by shape."""

    indices: tuple[list[int], ...]
    """Indices of the queries in each of `inputs`."""
    inputs: list[Inputs]
    queries: list[Query]


class ModelPolicy(BatchedPolicy):
    """Policy of one model, on one device or spread over several. Stateless between calls.

    Batches are always padded to the batch size, so that one program answers them and a row undergoes the
    same arithmetic at every index (tests/policies/inference/test_model_policy.py). Answers of different batch sizes
    differ by rounding, and so do those of different numbers of devices.
    """

    def __init__(
        self,
        preset: Preset,
        spec: PolicySpec,
        model: Model,
        stats: NormStats,
        tokenizers: PolicyTokenizers,
        mesh: Mesh | None = None,
        *,
        plan: InferencePlan | None = None,
        keep_model: bool = True,
        image_stats: Mapping[str, ImageStats] | None = None,
        compiler_options: CompilerOptions | None = None,
    ):
        """Lay the model out and declare its programs; `prepare` compiles them.

        Args:
          preset: Preset that the model was made for.
          spec: Spec of the policy.
          model: With its weights on their devices, in the published layout or laid out for the plan.
          stats: Normalization statistics of the robot, by the keys `state` and `actions`.
          tokenizers: Of prompts and answers.
          mesh: Devices that hold the weights and that rows are split over; None for the default device.
          plan: How the model is executed, all choices made; by default, as it is laid out.
          keep_model: Keep the model usable. Otherwise its weights are deleted as they are laid out, so that memory
            holds them once, and `model` must not be used afterwards.
          image_stats: Statistics of training images by camera, where they are recorded.
          compiler_options: XLA options, as `Programs` takes them.
        """
        self.mesh = mesh
        self.plan = model.plan if plan is None else plan
        self._copies = mesh is not None or jax.default_backend() != "cpu"
        self.spec = spec
        self.preset = preset
        self._model = model if keep_model else None
        self._weights_sha256 = None if keep_model else weights_sha256(model)
        self.stats = stats
        self.image_stats = image_stats or {}
        self.tokenizers = tokenizers
        self.encoder = QueryEncoder(
            preset,
            tokenizers.text,
            Normalizer(preset.normalization, stats.get("state")),
            Normalizer(preset.normalization, stats.get("actions")),
        )
        self._actions = self.encoder.actions
        grammar, answer, sizes = None, tokenizers.answer, preset.model
        if answer is not None and preset.decoding == "constrained":
            grammar = action_grammar(answer, sizes.action_horizon, sizes.action_dim, sizes.vocab_size)
        call = sampler(
            model,
            self.plan,
            flow_steps=preset.flow_steps,
            answer_tokens=preset.answer_tokens,
            grammar=grammar,
            forced_prefix=() if answer is None else answer.leading(),
            consume=not keep_model,
        )
        self.programs = Programs(call, program_text, compiler_options)

    @property
    def model(self) -> Model:
        """The model that the policy was made of.

        Raises:
          ValueError: If the policy does not keep it.
        """
        if self._model is None:
            raise ValueError(
                f"The weights of {self.spec.name} were deleted when they were laid out for inference. "
                "Load the policy with keep_model=True."
            )
        return self._model

    def prepare(
        self, batch_size: int, on_progress: Callable[[CompilationProgress], None] | None = None
    ) -> float:
        """Compile and warm up for batches of `batch_size` rows; returns the seconds this took.

        Covers queries with the cameras that the preset requires, at each prompt length. Other shapes, such as one more
        camera, compile when the first such query arrives.
        """
        started = time.perf_counter()
        batches = [
            self.placed([self.encoder.blank_row(shape)] * batch_size)
            for shape in self.encoder.usual_shapes(self.plan.guidance)
        ]
        self.programs.prepare(batches, on_progress)
        for batch in batches:
            jax.block_until_ready(self.programs(*batch))
        return time.perf_counter() - started

    def infer(self, queries: Sequence[Query], batch_size: int) -> InferenceResult:
        """Answer 1 to `batch_size` queries in one call, padded to exactly `batch_size` rows.

        Queries of different shapes (cameras, prompt lengths) run one shape after another. See `BatchedPolicy.infer`.
        """
        require_fitting(queries, batch_size)
        begin = time.perf_counter()
        batch = self.assemble([self.encode(query) for query in queries], batch_size)
        host_s = time.perf_counter() - begin
        return dataclasses.replace(self.run(batch), host_s=host_s)

    def encode(self, query: Query) -> Row:
        """Resize, normalize and tokenize a query."""
        return self.encoder.encode(query)

    def assemble(self, rows: Sequence[Row], batch_size: int) -> DeviceBatch:
        """Stack rows by shape and copy them to the device if it has its own memory, images as uint8."""
        by_shape: dict[RowShape, list[int]] = {}
        for i, row in enumerate(rows):
            by_shape.setdefault(row.shape, []).append(i)
        batches = [
            self.placed(filled_rows([rows[i] for i in indices], batch_size)) for indices in by_shape.values()
        ]
        return DeviceBatch(tuple(by_shape.values()), batches, [row.query for row in rows])

    def run(self, batch: DeviceBatch) -> InferenceResult:
        """Run every shape of an assembled batch, and decode the outputs of the model."""
        begin = time.perf_counter()
        # All batches are dispatched before the first one is awaited.
        results = jax.block_until_ready([self.programs(*inputs) for inputs in batch.inputs])
        outputs = {
            i: output
            for indices, result in zip(batch.indices, results, strict=True)
            for i, output in zip(indices, np.asarray(result), strict=False)
        }
        computed = time.perf_counter()
        chunks = [self.chunk_from(query, outputs[i]) for i, query in enumerate(batch.queries)]
        return InferenceResult(chunks, device_s=computed - begin, post_s=time.perf_counter() - computed)

    def device(self) -> str:
        """Name of the devices, for the provenance."""
        kind = jax.devices()[0].device_kind
        if self.mesh is None:
            return kind
        per_copy = self.mesh.shape[FSDP]
        return f"{self.mesh.size} x {kind}" + f", {per_copy} to a copy of the weights" * (per_copy > 1)

    def kernels(self) -> Kernels:
        """Implementations of attention and gated products."""
        return self.plan.kernels

    def settings(self) -> dict[str, str]:
        """Flags of XLA, settings of JAX, and options that the checkpoint changes in the preset."""
        flags = {"XLA_FLAGS": " ".join(sorted(os.environ.get("XLA_FLAGS", "").split()))}
        if options := taken_over(self.preset):
            flags["options of the checkpoint"] = json.dumps(options, sort_keys=True)
        return flags | {name: str(getattr(jax.config, name, None)) for name in JAX_SETTINGS}

    def fingerprint(self) -> dict[str, str]:
        """Hashes of everything that determines the answers up to rounding: weights, statistics, tokenizers, preset.

        Rounding depends on the device and the kernels, which `device` and `kernels` name.
        """
        prints = {
            "weights": self._weights_sha256 or weights_sha256(self.model),
            "norm_stats": _sha256(norm_stats_to_json(self.stats)),
            "text_tokenizer": self.tokenizers.text.sha256,
            "preset": _preset_sha256(self.preset),
        }
        if self.tokenizers.answer is not None:
            prints["action_tokenizer"] = self.tokenizers.answer.actions.sha256
        return prints

    def chunk_from(self, query: Query, output: np.ndarray) -> Chunk:
        """Convert the output of the model for a query to a chunk in robot units.

        Args:
          query: Its state is added to relative actions.
          output: Normalized actions, float [c, a], or generated tokens, int [m].
        """
        if self.tokenizers.answer is None:
            return self.in_robot_units(query, output)
        decoded = self.tokenizers.answer.decode(
            _until_end(output),
            steps=self.preset.model.action_horizon,
            size=self.preset.model.action_dim,
            on_failure=self.preset.on_failure,
        )
        if decoded.undecodable is not None:
            return Chunk(np.zeros((0, self.preset.action_size), np.float32), undecodable=decoded.undecodable)
        return self.in_robot_units(query, decoded.actions)

    def placed(self, rows: list[Row]) -> Inputs:
        """Stack rows of one shape to a batch on the devices. On CPUs, programs read it from host memory."""
        batch = batch_of(rows)
        return jax.device_put(batch, self.placement(len(rows))) if self._copies else batch

    def placement(self, rows: int) -> NamedSharding | None:
        """Sharding of a batch of `rows` rows; None for the default device."""
        return None if self.mesh is None else rows_sharding(self.mesh, rows)

    def in_robot_units(self, query: Query, actions: Float[np.ndarray, "c a"]) -> Chunk:
        """Undo the normalization of a chunk, and add the state of the query to relative actions."""
        actions = self._actions.unnormalize(actions.astype(np.float64))
        if any(self.preset.relative):
            actions = absolute_actions(actions, query.state.astype(np.float64), self.preset.relative)
        return Chunk(actions[:, : self.preset.action_size].astype(np.float32))


def filled_rows(rows: list[Row], batch_size: int) -> list[Row]:
    """Pad rows to the batch size by repeating the last one."""
    return rows + [rows[-1]] * (batch_size - len(rows))


def batch_of(rows: list[Row]) -> Inputs:
    """Stack rows of one shape to a batch of inputs and keys, and their guidance if they have any."""
    cameras = rows[0].shape.cameras
    batch = ModelInput(
        images={camera: np.stack([row.images[camera] for row in rows]) for camera in cameras},
        image_masks=dict.fromkeys(cameras),
        state=np.stack([row.state for row in rows]),
        tokens=np.stack([row.tokens for row in rows]),
        token_mask=np.stack([row.token_mask for row in rows]),
    )
    keys = np.stack([row.key for row in rows])
    guided = [row.guidance for row in rows if row.guidance is not None]
    method = rows[0].shape.guided
    if method is None:
        return batch, keys
    targets, weights = (np.stack([getattr(row, name) for row in guided]) for name in ("target", "weights"))
    return batch, keys, GUIDANCE[method](targets, weights)


def program_text(batch: ModelInput, keys: UInt32[AnyArray, "b 2"], guidance: Guidance | None = None) -> str:
    """Describe the program that answers a batch."""
    rows, length = batch.tokens.shape
    guided = "" if guidance is None else ", guided"
    return f"{rows} rows with {len(batch.images)} cameras and prompts of {length} tokens{guided}"


def weights_sha256(model: Model) -> str:
    """Hash all weights and their names."""
    weights = hashlib.sha256()
    for name, array in sorted(flatten(model).items()):
        host = np.asarray(array)
        weights.update(f"{name} {host.dtype} {host.shape}".encode())
        weights.update(np.ascontiguousarray(host).view(np.uint8).data)
    return weights.hexdigest()


def _until_end(tokens: Int32[np.ndarray, "m"]) -> Int32[np.ndarray, "_"]:
    """Return the tokens before the end token."""
    return tokens[: np.argmax(tokens == END_TOKEN)] if END_TOKEN in tokens else tokens


def _preset_sha256(preset: Preset) -> str:
    """Hash a preset without the paths of its files, which differ between machines."""
    portable = dataclasses.replace(preset, text_model=PALIGEMMA, untrained_stats=None)
    if isinstance(preset.action_tokens, Path):
        portable = dataclasses.replace(portable, action_tokens=PUBLISHED_FAST)
    return _sha256(repr(portable))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
