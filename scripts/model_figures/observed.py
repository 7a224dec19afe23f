"""Shapes and sizes of a model as its own code has them: everything that a drawing says in numbers.

The real `loss` and the real sampling function are traced at full size with shapes in place of arrays,
and every call of a part of the model on the way is written down. Nothing is computed or allocated.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
from flax import nnx

from simloop.policies.models import flow_matching, pi0, pi0_fast
from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.experts import AttentionProjections
from simloop.policies.models.model_input import ModelInput
from simloop.policies.models.parameters import abstract_model
from simloop.policies.models.pi0 import Pi0
from simloop.policies.models.pi0_fast import Pi0Fast
from simloop.policies.models.projections import Linear
from simloop.policies.models.siglip import ImageEncoder, PatchConvolution
from simloop.policies.models.transformer import Transformer
from simloop.policies.presets import Preset

BATCH = 1009
"""Rows that are traced: a prime that divides no size of a model, so that it can be told from all of them."""

_MODULES: tuple[type, ...] = (ImageEncoder, PatchConvolution, Transformer, Linear)
"""Their calls are written down under the path of the module within the model."""

_METHODS: tuple[tuple[type, str], ...] = (
    (AttentionProjections, "heads_of"),
    (Transformer, "embed"),
    (Transformer, "logits"),
    (Pi0, "embed_prefix"),
    (Pi0, "embed_suffix"),
    (Pi0, "read_prefix"),
    (Pi0, "velocity_from"),
    (Pi0, "euler_step"),
    (Pi0Fast, "embed_prefix"),
    (Pi0Fast, "read_prompt"),
    (Pi0Fast, "decode"),
    (Pi0Fast, "predicting_outputs"),
)
_FUNCTIONS: tuple[tuple[Any, str], ...] = (
    (pi0, "embed_time"),
    (pi0, "flow_target"),
    (flow_matching, "noise_from_keys"),
    (flow_matching, "training_noise_and_time"),
    (pi0_fast, "align_right"),
)


class Shape(tuple):
    """The shape of an array; a leaf, unlike the tuple it is."""


class Call(NamedTuple):
    """What went into a part of the model and what came out, with a `Shape` for every array."""

    inputs: tuple
    out: Any


class Trace:
    """The calls that one use of a model makes, by the name of what was called."""

    def __init__(self, calls: dict[str, list[Call]], out: Any):
        self._calls = calls
        self.out = out

    def __getitem__(self, name: str) -> Call:
        """The first call of that name."""
        return self.all(name)[0]

    def all(self, name: str) -> list[Call]:
        """The calls of that name in their order, without repetitions of the same shapes."""
        if name not in self._calls:
            raise KeyError(f"{name} is not called; there are {', '.join(sorted(self._calls))}.")
        return self._calls[name]


@dataclass(frozen=True)
class ObservedModel:
    """A model at the sizes of its config, used once for training and once for inference."""

    config: ModelConfig
    parameters: dict[str, Shape]
    """By path within the model, such as `image_encoder/head/kernel`."""
    training: Trace
    inference: Trace

    def count(self, *paths: str) -> int:
        """Parameters at or under these paths.

        Raises:
          KeyError: If there are none under one of them.
        """
        for path in paths:
            if not self.parameters_under(path):
                raise KeyError(f"{self.config.family} has no parameters at {path}.")
        return sum(_size(shape) for path in paths for shape in self.parameters_under(path).values())

    def total(self) -> int:
        """All parameters."""
        return sum(map(_size, self.parameters.values()))

    def parameters_under(self, path: str) -> dict[str, Shape]:
        """The parameters at or under a path; none if the model has no such part."""
        return {name: shape for name, shape in self.parameters.items() if f"{name}/".startswith(f"{path}/")}


def observe(config: ModelConfig) -> ObservedModel:
    """Trace a model's training and inference."""
    abstract = abstract_model(config)
    leaves, _ = jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(nnx.state(abstract, nnx.Param)))
    parameters = {
        "/".join(str(key.key) for key in keys): Shape(leaf.shape)  # type: ignore[attr-defined]
        for keys, leaf in leaves
    }
    train, infer = (_train_flow, _infer_flow) if config.action_expert else (_train_tokens, _infer_tokens)
    return ObservedModel(config, parameters, _trace(abstract, train), _trace(abstract, infer))


def shape_text(shape: Shape) -> str:
    """A shape as it is written beside an arrow, with b for the batch.

    >>> shape_text(Shape((3 * BATCH, 256, 2048)))
    '[3b, 256, 2048]'
    """
    return f"[{', '.join(map(_axis_text, shape))}]"


def _axis_text(size: int) -> str:
    if size % BATCH or size == 0:
        return str(size)
    return "b" if size == BATCH else f"{size // BATCH}b"


def _trace(abstract: nnx.Module, use: Callable[[Any], Any]) -> Trace:
    graph, state = nnx.split(abstract)
    calls: dict[str, list[Call]] = {}

    def run(state: nnx.State) -> Any:
        model = nnx.merge(graph, state)
        with _written_down(model, calls):
            return use(model)

    return Trace(calls, _shapes(jax.eval_shape(run, state)))


@contextlib.contextmanager
def _written_down(model: nnx.Module, calls: dict[str, list[Call]]) -> Iterator[None]:
    """Write calls of parts of the model into `calls` while the context is open."""
    paths = {id(node): "/".join(map(str, path)) for path, node in nnx.iter_graph(model)}

    def watched(function: Callable, name: str | None, *, method: bool) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            out = function(*args, **kwargs)
            # Modules inside a scan over layers are made anew there and have no path in the model.
            key = name if name is not None else paths.get(id(args[0]))
            if key is not None:
                seen = Call(tuple(map(_shapes, args[1:] if method else args)), _shapes(out))
                if seen not in calls.setdefault(key, []):
                    calls[key].append(seen)
            return out

        return call

    with contextlib.ExitStack() as patches:
        for owner in _MODULES:
            wrapper = watched(owner.__call__, None, method=True)  # type: ignore[operator]
            patches.enter_context(mock.patch.object(owner, "__call__", wrapper))
        for owner, name in _METHODS:
            wrapper = watched(getattr(owner, name), name, method=True)
            patches.enter_context(mock.patch.object(owner, name, wrapper))
        for module, name in _FUNCTIONS:
            wrapper = watched(getattr(module, name), name, method=False)
            patches.enter_context(mock.patch.object(module, name, wrapper))
        yield


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: Shape(leaf.shape) if hasattr(leaf, "shape") else leaf, tree)


def _size(shape: Shape) -> int:
    size = 1
    for axis in shape:
        size *= axis
    return size


def _batch(config: ModelConfig, *, training: bool) -> ModelInput:
    size, tokens = config.image_size, (BATCH, config.max_token_len)
    for_answers = training and config.action_expert is None
    return ModelInput(
        images={name: jnp.zeros((BATCH, size, size, 3), jnp.float32) for name in config.cameras},
        image_masks={name: jnp.ones((BATCH,), jnp.bool_) for name in config.cameras},
        state=jnp.zeros((BATCH, config.action_dim), jnp.float32),
        tokens=jnp.zeros(tokens, jnp.int32),
        token_mask=jnp.ones(tokens, jnp.bool_),
        token_ar_mask=jnp.zeros(tokens, jnp.int32) if for_answers else None,
        token_loss_mask=jnp.zeros(tokens, jnp.bool_) if for_answers else None,
    )


def _train_flow(model: Pi0) -> Any:
    horizon, size = model.config.action_horizon, model.config.action_dim
    noise, time = flow_matching.training_noise_and_time(jax.random.key(0), BATCH, horizon, size)
    actions = jnp.zeros((BATCH, horizon, size), jnp.float32)
    return model.loss(_batch(model.config, training=True), actions, noise, time)


def _infer_flow(model: Pi0) -> Any:
    keys = jax.random.split(jax.random.key(0), BATCH)
    noise = flow_matching.noise_from_keys(keys, model.config.action_horizon, model.config.action_dim)
    batch = _batch(model.config, training=False)
    prefix = model.read_prefix(batch)
    model.euler_step(prefix, batch.state, noise, jnp.float32(1.0), jnp.float32(-1 / Preset.flow_steps))
    return model.sample_actions(batch, noise, Preset.flow_steps)


def _train_tokens(model: Pi0Fast) -> Any:
    return model.loss(_batch(model.config, training=True))


def _infer_tokens(model: Pi0Fast) -> Any:
    batch = _batch(model.config, training=False)
    model.read_prompt(batch, Preset.answer_tokens)
    return model.sample_tokens(batch, Preset.answer_tokens)
