"""Explain answers of pi0 and pi0.5.

Axis letters: n draws, c chunk steps, a action size.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, UInt32

from simloop.policies.explaining.attention import flow_attention
from simloop.policies.explaining.base import DRAWS, Explainer, traced_alone
from simloop.policies.explaining.explanation import Explanation, Flow
from simloop.policies.explaining.inputs import valid_tokens
from simloop.policies.explaining.programs import FlowPaths, flow_paths, keeping_attention
from simloop.policies.inference.flat_jit import compiled
from simloop.policies.inference.model_policy import ModelPolicy
from simloop.policies.interface import Query
from simloop.policies.models.flow_matching import noise_from_keys
from simloop.policies.models.model_input import ModelInput
from simloop.policies.models.pi0 import Schedule


class FlowExplainer(Explainer):
    """Explains pi0 and pi0.5."""

    def __init__(self, policy: ModelPolicy, draws: int = DRAWS):
        super().__init__(policy, draws)
        model = policy.model
        flow_steps = policy.preset.flow_steps
        self._schedule: Schedule = compiled(model, lambda model: model.schedule(flow_steps))()
        self._paths: Callable[..., FlowPaths] = compiled(model, flow_paths)
        self._kept: Callable[..., FlowPaths] = compiled(keeping_attention(model), flow_paths)

    def draws(self, inputs: ModelInput, keys: UInt32[np.ndarray, "n 2"]) -> Float[np.ndarray, "n c a"]:
        return np.asarray(self._paths(self._schedule, inputs, self._noise(keys)).x[:, -1], np.float64)

    def compared(self, inputs: ModelInput, keys: UInt32[np.ndarray, "n 2"]) -> Float[np.ndarray, "n c a"]:
        return self.draws(inputs, keys)

    def traced(
        self,
        query: Query,
        inputs: ModelInput,
        key: UInt32[np.ndarray, "1 2"],
        drawn: Float[np.ndarray, "_n c a"] | None,
    ) -> Explanation:
        config = self.policy.preset.model
        paths = self._kept(self._schedule, inputs, self._noise(key))
        layout = self._layout(inputs, config.action_horizon, state_token=config.state_as == "token")
        x = np.asarray(paths.x[0])
        step = abs(float(self._schedule.step_size))
        speeds = np.sqrt(np.mean(np.square(np.diff(x.astype(np.float64), axis=0) / step), axis=(1, 2)))
        times = np.append(np.asarray(self._schedule.time, np.float64), 0.0)
        attention = flow_attention(paths, valid_tokens(self.policy, inputs), layout)
        chunk = self.policy.chunk_from(query, x[-1]).actions
        return traced_alone(query, inputs, chunk, attention, Flow(x, times, speeds), None)

    def _noise(self, keys: UInt32[np.ndarray, "n 2"]) -> Float32[Array, "n _ _"]:
        config = self.policy.preset.model
        typed = jax.random.wrap_key_data(keys, impl="threefry2x32")
        return noise_from_keys(typed, config.action_horizon, config.action_dim)
