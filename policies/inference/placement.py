"""Placement of weights on several devices."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.parameters import Model, flatten, model_from, shapes
from simloop.policies.models.sharding import state_sharding


def weights_bytes(config: ModelConfig) -> int:
    """Return the bytes of a model's weights in the dtype that it computes in."""
    return sum(math.prod(shape) for shape in shapes(config).values()) * np.dtype(config.dtype).itemsize


def made_on(mesh: Mesh | None, make: Callable[[], Model]) -> Model:
    """Make a model on the devices of a mesh, or on the default device.

    For a mesh, the model is made in host memory, which can hold all of it, and then distributed.
    """
    if mesh is None:
        return make()
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        model = make()
    flat = flatten(model)
    return model_from(model.config, jax.device_put(flat, state_sharding(flat, mesh)))
