"""Explain answers of a policy of the pi0 family.

Axis letters: n draws, c chunk steps, a action size, k tokens of an answer.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt32

from simloop.policies.explaining.answers import AnswerToken
from simloop.policies.explaining.attention import Attention, TokenLayout, pieces_of
from simloop.policies.explaining.distances import action_distances, image_distances, state_distances
from simloop.policies.explaining.explanation import Explanation, Flow, Sensitivity
from simloop.policies.explaining.inputs import model_inputs, variants
from simloop.policies.inference.model_policy import ModelPolicy
from simloop.policies.interface import Query
from simloop.policies.models.model_input import ModelInput

DRAWS = 16

LEAST_SPREAD = 1e-6
"""Spread, in model units, below which nothing varies."""


class Explainer(abc.ABC):
    """Explains answers of one policy, which keeps its model. Programs compile at the first query of each shape.

    Args:
      draws: Chunks from which the spread is computed, 2 at least.
    """

    def __init__(self, policy: ModelPolicy, draws: int = DRAWS):
        self.policy = policy
        self.count = draws
        model = policy.preset.model
        self._side = model.image_size // model.image_encoder.patch_size

    def explain(self, query: Query, prompts: Mapping[str, str] | None = None) -> Explanation:
        """Explain the answer to a query.

        Args:
          prompts: Other instructions to try, by how they are named in the result.
        """
        policy, inputs = self.policy, model_inputs(self.policy, query)
        keys = noise_keys(query.key, self.count)
        drawn, before = self.draws(inputs, keys), self.compared(inputs, keys)
        found = self.traced(query, inputs, keys[:1], drawn)
        chunks = [policy.in_robot_units(query, one).actions for one in drawn]
        return dataclasses.replace(
            found,
            draws=np.array(chunks, np.float32).reshape(-1, drawn.shape[1], policy.preset.action_size),
            sensitivities=tuple(
                self._sensitivity(variant.name, self.compared(variant.inputs, keys), before, drawn)
                for variant in variants(policy, query, prompts or {})
            ),
            state=tuple(state_distances(policy.preset, policy.stats, query.state)),
            actions=tuple(action_distances(policy.preset, policy.stats, found.chunk, query.state)),
            cameras=tuple(image_distances(policy.image_stats, found.images)),
        )

    def attention(self, query: Query) -> Attention:
        """Attention alone, which takes one pass."""
        inputs = model_inputs(self.policy, query)
        return self.traced(query, inputs, noise_keys(query.key, 1), None).attention

    @abc.abstractmethod
    def draws(self, inputs: ModelInput, keys: UInt32[np.ndarray, "n 2"]) -> Float[np.ndarray, "_n c a"]:
        """Normalized chunks with a key each; answers that decode to none are left out."""

    @abc.abstractmethod
    def compared(self, inputs: ModelInput, keys: UInt32[np.ndarray, "n 2"]) -> Float[np.ndarray, "_n c a"]:
        """Normalized chunks that show the effect of changed inputs: for each noise, or the one answer."""

    @abc.abstractmethod
    def traced(
        self,
        query: Query,
        inputs: ModelInput,
        key: UInt32[np.ndarray, "1 2"],
        drawn: Float[np.ndarray, "_n c a"] | None,
    ) -> Explanation:
        """The answer to a query with its attention; without draws, nothing else."""

    def _sensitivity(
        self,
        name: str,
        changed: Float[np.ndarray, "_n c a"],
        before: Float[np.ndarray, "_m c a"],
        drawn: Float[np.ndarray, "_d c a"],
    ) -> Sensitivity:
        if changed.shape != before.shape:
            return Sensitivity(name, None, ())
        size = self.policy.preset.action_size  # Padding behind the actions means nothing.
        difference, drawn = (changed - before)[..., :size], drawn[..., :size]
        by_action = [in_spreads(difference[..., [i]], drawn[..., [i]]) for i in range(size)]
        return Sensitivity(name, in_spreads(difference, drawn), tuple(by_action))

    def _layout(self, inputs: ModelInput, actions: int, *, state_token: bool) -> TokenLayout:
        tokens, mask = (np.asarray(array)[0] for array in (inputs.tokens, inputs.token_mask))
        pieces = pieces_of(self.policy.tokenizers.text, tokens, mask)
        seen = tuple(camera for camera, mask in inputs.image_masks.items() if np.asarray(mask)[0])
        return TokenLayout(seen, self._side, pieces, state_token, actions)


def noise_keys(key: int, count: int) -> UInt32[np.ndarray, "n 2"]:
    """Keys of noise: that of the query first, then those of the same key with another lower half."""
    high, low = key >> 32 & 0xFFFFFFFF, key & 0xFFFFFFFF
    return np.array([[high, (low + i) & 0xFFFFFFFF] for i in range(count)], np.uint32)


def traced_alone(
    query: Query,
    inputs: ModelInput,
    chunk: np.ndarray,
    attention: Attention,
    flow: Flow | None,
    answer: tuple[AnswerToken, ...] | None,
) -> Explanation:
    """An explanation of an answer without anything that other inputs or draws show."""
    images = {camera: np.asarray(image)[0] for camera, image in inputs.images.items()}
    none = np.zeros((0, *chunk.shape), np.float32)
    return Explanation(query, images, chunk, attention, none, flow, answer, (), (), ())


def in_spreads(difference: Float[np.ndarray, "_n c a"], drawn: Float[np.ndarray, "_m c a"]) -> float | None:
    """Root mean square of a difference, in units of that of the spread of draws; None if nothing varies."""
    if len(drawn) < 2 or not difference.size:
        return None
    unit = float(np.sqrt(drawn.var(axis=0).mean()))
    return float(np.sqrt(np.square(difference).mean())) / unit if unit > LEAST_SPREAD else None
