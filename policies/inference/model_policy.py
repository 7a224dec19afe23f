"""A model of the pi0 family as a policy: batches of queries in, chunks of actions out.

    queries → rows on the host → one call of a compiled function → actions in robot units
              `query_rows`        `answering`                       here

Axis letters: b batch, c chunk steps, a padded action size, m generated tokens.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Float, Int32, UInt32

from simloop.policies.inference.compilation import CompilerOptions, Programs
from simloop.policies.inference.query_encoder import QueryEncoder, Row, RowShape
from simloop.policies.inference.sampling import TokenConstraints, answering
from simloop.policies.interface import (
    BatchedPolicy,
    Chunk,
    CompilationProgress,
    InferenceResult,
    PolicySpec,
    Query,
    require_fitting,
)
from simloop.policies.models.constrained_decoding import action_grammar
from simloop.policies.models.kernels import Kernels
from simloop.policies.models.model_input import AnyArray, ModelInput
from simloop.policies.models.parameters import Model, flatten
from simloop.policies.models.pi0_fast import END_TOKEN
from simloop.policies.models.sharding import FSDP, rows_sharding
from simloop.policies.presets import Preset
from simloop.policies.tokenizers.fast import FastTokenizer
from simloop.policies.tokenizers.fast_actions import PUBLISHED_FAST
from simloop.policies.tokenizers.sentencepiece_model import PALIGEMMA, SentencePieceModel
from simloop.policies.transforms.normalization import Normalizer, NormStats, norm_stats_to_json
from simloop.policies.transforms.preprocessing import absolute_actions


@dataclass(frozen=True)
class PolicyTokenizers:
    """The tokenizers of a policy."""

    text: SentencePieceModel
    answer: FastTokenizer | None = None
    """For models that answer in tokens."""


@dataclass(frozen=True)
class Encoded:
    """A query as the host has prepared it."""

    query: Query
    row: Row


@dataclass(frozen=True)
class DeviceBatch:
    """Queries where the device finds them, by shape."""

    indices: tuple[list[int], ...]
    """Which of the queries belong to each of `inputs`."""
    inputs: list[tuple[ModelInput, jax.Array | np.ndarray]]
    queries: list[Query]


class ModelPolicy(BatchedPolicy):
    """Answers queries with one model, on one device or spread over several. Stateless between calls.

    Batches are always filled to the bucket, so one program answers them, and in it a row meets the
    same arithmetic in every place (tests/policies/inference/test_model_policy.py). Answers of different buckets
    differ by rounding, and so do those of different numbers of devices.
    """

    def __init__(
        self,
        preset: Preset,
        spec: PolicySpec,
        model: Model,
        stats: NormStats,
        words: PolicyTokenizers,
        mesh: Mesh | None = None,
        *,
        keep_model: bool = True,
        compiler_options: CompilerOptions | None = None,
    ):
        """Make a policy of a model.

        Args:
          preset: What the model was made for.
          spec: What the policy says of itself.
          model: With its weights where they are to be. Its config may differ from the preset's in what changes
            answers by rounding alone.
          stats: Of the robot, by the keys `state` and `actions`.
          words: The tokenizers.
          mesh: Devices that the weights are on and that rows are split over; None for the default device.
          keep_model: Whether the model stays of use. Without, its weights are deleted as they are laid out
            for answering, so that memory holds them once; nobody else may use them any more.
          compiler_options: For XLA, as `Programs` takes them.
        """
        self.mesh = mesh
        self._kernels = model.config.kernels
        self._copies = mesh is not None or jax.default_backend() != "cpu"
        self.spec = spec
        self.preset = preset
        self._model = model if keep_model else None
        self._weights_sha256 = None if keep_model else weights_sha256(model)
        self.stats = stats
        self.words = words
        self.encoder = QueryEncoder(preset, words.text, Normalizer(preset.normalization, stats.get("state")))
        self._actions = Normalizer(preset.normalization, stats.get("actions"))
        grammar, token_constraints = None, None
        if words.answer is not None:
            sizes = preset.model
            token_constraints = TokenConstraints(words.answer.leading(), words.answer.candidates())
            if preset.decoding == "constrained":
                grammar = action_grammar(
                    words.answer, sizes.action_horizon, sizes.action_dim, sizes.vocab_size
                )
        call = answering(
            model,
            flow_steps=preset.flow_steps,
            answer_tokens=preset.answer_tokens,
            grammar=grammar,
            token_constraints=token_constraints,
            consume=not keep_model,
        )
        self.programs = Programs(call, program_text, compiler_options)

    @property
    def model(self) -> Model:
        """The model, its weights as they were when the policy was made.

        Raises:
          ValueError: If the policy was not to keep it.
        """
        if self._model is None:
            raise ValueError(
                f"The weights of {self.spec.name} have been laid out for answering and are not kept as they were. "
                "Load the policy with keep_model=True."
            )
        return self._model

    def prepare(
        self, batch_size: int, on_progress: Callable[[CompilationProgress], None] | None = None
    ) -> float:
        """Compile and warm up for batches of `batch_size` rows; returns the seconds it took.

        Covers queries with the cameras that the preset asks for, at each prompt length. Others, such as
        one that brings a camera more, compile when they first come.
        """
        started = time.perf_counter()
        batches = [
            self.placed([self.encoder.blank_row(shape)] * batch_size) for shape in self.encoder.usual_shapes()
        ]
        self.programs.prepare(batches, on_progress)
        for batch in batches:
            jax.block_until_ready(self.programs(*batch))
        return time.perf_counter() - started

    def infer(self, queries: Sequence[Query], batch_size: int) -> InferenceResult:
        """Answer 1 to `batch_size` queries in one call, padded to exactly `batch_size` rows.

        A row's answer depends neither on its place in the batch nor on its neighbours. Queries of
        different shapes (cameras, prompt lengths) are run one shape after the other.

        Raises:
          QueryError: If a query lacks a camera or its state has another size than the spec says.
          ValueError: If there are no queries, or more than `batch_size`.
        """
        require_fitting(queries, batch_size)
        begin = time.perf_counter()
        batch = self.assemble([self.encode(query) for query in queries], batch_size)
        host_s = time.perf_counter() - begin
        return dataclasses.replace(self.run(batch), host_s=host_s)

    def encode(self, query: Query) -> Encoded:
        """The query's row: resized, normalised and tokenised."""
        return Encoded(query, self.encoder.encode(query))

    def assemble(self, rows: Sequence[Encoded], batch_size: int) -> DeviceBatch:
        """Rows stacked by their shapes and copied to the device if it has its own memory, images as uint8."""
        by_shape: dict[RowShape, list[int]] = {}
        for i, one in enumerate(rows):
            by_shape.setdefault(one.row.shape, []).append(i)
        batches = [
            self.placed(filled_rows([rows[i].row for i in indices], batch_size))
            for indices in by_shape.values()
        ]
        return DeviceBatch(tuple(by_shape.values()), batches, [one.query for one in rows])

    def run(self, batch: DeviceBatch) -> InferenceResult:
        """Run every shape of an assembled batch, and decode what the model says."""
        begin = time.perf_counter()
        # All batches are on their way before the first is waited for.
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
        """What the policy computes on, for the provenance."""
        kind = jax.devices()[0].device_kind
        if self.mesh is None:
            return kind
        per_copy = self.mesh.shape[FSDP]
        return f"{self.mesh.size} x {kind}" + f", {per_copy} to a copy of the weights" * (per_copy > 1)

    def kernels(self) -> Kernels:
        """What computes the operations that libraries have kernels for."""
        return self._kernels

    def fingerprint(self) -> dict[str, str]:
        """Hashes of everything that decides the answers (weights, statistics, tokenizers, preset), up to rounding.

        Rounding is that of the device and of kernels, which `device` and `kernels` name: the same policy may be
        compiled in other ways.
        """
        prints = {
            "weights": self._weights_sha256 or weights_sha256(self.model),
            "norm_stats": _sha256(norm_stats_to_json(self.stats)),
            "text_tokenizer": self.words.text.sha256,
            "preset": _preset_sha256(self.preset),
        }
        if self.words.answer is not None:
            prints["action_tokenizer"] = self.words.answer.actions.sha256
        return prints

    def chunk_from(self, query: Query, output: np.ndarray) -> Chunk:
        """What the model's output for a query means in robot units.

        Args:
          query: Whose state relative actions are added to.
          output: Normalised actions, float [c, a], or generated tokens, int [m].
        """
        if self.words.answer is None:
            return self._in_robot_units(query, output)
        decoded = self.words.answer.decode(
            _until_end(output),
            steps=self.preset.model.action_horizon,
            size=self.preset.model.action_dim,
            on_failure=self.preset.on_failure,
        )
        if decoded.undecodable is not None:
            return Chunk(np.zeros((0, self.preset.action_size), np.float32), undecodable=decoded.undecodable)
        return self._in_robot_units(query, decoded.actions)

    def placed(self, rows: list[Row]) -> tuple[ModelInput, jax.Array | np.ndarray]:
        """Rows of one shape as one batch on the devices, or in memory for a processor, which finds it there."""
        batch = batch_of(rows)
        return jax.device_put(batch, self.placement(len(rows))) if self._copies else batch

    def placement(self, rows: int) -> NamedSharding | None:
        """Where a batch of so many rows goes; None for the default device."""
        return None if self.mesh is None else rows_sharding(self.mesh, rows)

    def _in_robot_units(self, query: Query, actions: Float[np.ndarray, "c a"]) -> Chunk:
        actions = self._actions.unnormalize(actions.astype(np.float64))
        if any(self.preset.relative):
            actions = absolute_actions(actions, query.state.astype(np.float64), self.preset.relative)
        return Chunk(actions[:, : self.preset.action_size].astype(np.float32))


def filled_rows(rows: list[Row], batch_size: int) -> list[Row]:
    """As many rows as the bucket has; the last one is repeated."""
    return rows + [rows[-1]] * (batch_size - len(rows))


def batch_of(rows: list[Row]) -> tuple[ModelInput, UInt32[np.ndarray, "b 2"]]:
    """Rows of one shape as one batch."""
    cameras = rows[0].shape.cameras
    batch = ModelInput(
        images={camera: np.stack([row.images[camera] for row in rows]) for camera in cameras},
        image_masks=dict.fromkeys(cameras),
        state=np.stack([row.state for row in rows]),
        tokens=np.stack([row.tokens for row in rows]),
        token_mask=np.stack([row.token_mask for row in rows]),
    )
    return batch, np.stack([row.key for row in rows])


def program_text(batch: ModelInput, keys: UInt32[AnyArray, "b 2"]) -> str:
    """Which program answers a batch, in words."""
    rows, length = batch.tokens.shape
    return f"{rows} rows with {len(batch.images)} cameras and prompts of {length} tokens"


def weights_sha256(model: Model) -> str:
    """Hash of all weights and their names."""
    weights = hashlib.sha256()
    for name, array in sorted(flatten(model).items()):
        host = np.asarray(array)
        weights.update(f"{name} {host.dtype} {host.shape}".encode())
        weights.update(np.ascontiguousarray(host).view(np.uint8).data)
    return weights.hexdigest()


def _until_end(tokens: Int32[np.ndarray, "m"]) -> Int32[np.ndarray, "_"]:
    """The tokens before the end token."""
    return tokens[: np.argmax(tokens == END_TOKEN)] if END_TOKEN in tokens else tokens


def _preset_sha256(preset: Preset) -> str:
    """Hash of a preset without the places of its files, which differ between machines."""
    placeless = dataclasses.replace(preset, text_model=PALIGEMMA, untrained_stats=None)
    if isinstance(preset.action_tokens, Path):
        placeless = dataclasses.replace(placeless, action_tokens=PUBLISHED_FAST)
    return _sha256(repr(placeless))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
