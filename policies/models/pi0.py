"""pi0 (arXiv:2410.24164) and pi0.5 (arXiv:2504.16054): action chunks by flow matching.

The language expert reads cameras and prompt once; the action expert turns noise (time 1) into
actions (time 0) by following a velocity field that it predicts, in a few Euler steps.

    tokens   [ cameras | prompt ] [ state (pi0 only) | noisy actions ]
    expert         language                    action

Axis letters: b batch, p prefix tokens, t suffix tokens, d width, c chunk steps, a action size, m flow
times at once, s flow times of a row: one, or one per chunk step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int32

from simloop.policies.models.attention import block_mask
from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.flow_matching import embed_time, flow_target, per_step
from simloop.policies.models.guidance import CommittedPrefix, Guidance, guided_velocity
from simloop.policies.models.inference_plan import PLAIN, InferencePlan
from simloop.policies.models.kv_cache import KVCache, empty_cache
from simloop.policies.models.model_input import AnyArray, ModelInput
from simloop.policies.models.prefix import Prefix, embed_prefix, positions_of_valid
from simloop.policies.models.projections import Linear
from simloop.policies.models.pytrees import pytree
from simloop.policies.models.siglip import ImageEncoder
from simloop.policies.models.transformer import Modulations, Transformer


@pytree
class ReadPrefix:
    """Cameras and prompt after the language expert; every flow step attends to them."""

    cache: KVCache
    """The first slots are for the suffix, so that padding comes last."""
    valid: Bool[Array, "b p"]
    lengths: Int32[Array, " b"] | None = None
    """As in `Prefix`."""


class Suffix(NamedTuple):
    """Embedded state and noisy actions."""

    tokens: Float32[Array, "b t d"]
    starts_block: Bool[np.ndarray, " t"]
    """As `attention.block_mask` takes it; all suffix tokens are valid."""
    condition: Float32[Array, "b _s d"] | Modulations | None
    """Flow time for the adaptive norms of the action expert, if the model has them."""


@pytree
class Schedule:
    """Flow times of Euler steps of equal length, with everything that is computed from them alone."""

    time: Float32[Array, " m"]
    step_size: Float32[Array, ""]
    features: Float32[Array, "m 1 1 d"] | Modulations
    """As `Pi0.time_features` returns them, one row per step."""
    features_of_actions: Float32[Array, "1 1 d"] | Modulations
    """Those of time 0."""


class Pi0(nnx.Module):
    """The flow models. `state_as` and `time_conditioning` of the config distinguish pi0 from pi0.5."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, plan: InferencePlan = PLAIN):
        if config.action_expert is None or config.time_conditioning is None:
            raise ValueError(f"Pi0 needs an action expert; {config.family} has none. Use Pi0Fast.")
        self.config, self.plan = config, plan
        dtype = jnp.dtype(config.dtype)
        width, action_dim = config.action_expert.width, config.action_dim
        self.image_encoder = ImageEncoder(
            config.image_encoder,
            image_hw=(config.image_size, config.image_size),
            output_width=config.language.width,
            dtype=dtype,
            rngs=rngs,
            recompute_layers=config.recompute_layers,
            plan=plan,
        )
        self.transformer = Transformer(
            config.experts,
            adaptive_norm=(False, config.time_conditioning == "adaptive_norm"),
            vocab_size=config.vocab_size,
            rope_dtype=config.rope_dtype,
            dtype=dtype,
            rngs=rngs,
            recompute_layers=config.recompute_layers,
            plan=plan,
        )
        self.action_in_proj = Linear(action_dim, width, rngs=rngs)
        if config.state_as == "token":
            self.state_proj = Linear(action_dim, width, rngs=rngs)
        if config.time_conditioning == "concatenate":
            self.action_time_mlp_in = Linear(2 * width, width, rngs=rngs)
            self.action_time_mlp_out = Linear(width, width, rngs=rngs)
        else:
            self.time_mlp_in = Linear(width, width, rngs=rngs)
            self.time_mlp_out = Linear(width, width, rngs=rngs)
        self.action_out_proj = Linear(width, action_dim, rngs=rngs)

    def sample_actions(
        self,
        batch: ModelInput,
        noise: Float32[AnyArray, "b c a"],
        steps: int | Schedule = 10,
        guidance: Guidance | None = None,
    ) -> Float32[Array, "b c a"]:
        """Integrate the velocity field from noise to actions.

        Args:
          batch: The queries.
          noise: Standard normal; see `noise_from_keys`. The actions of a row depend on its own noise only.
          steps: Number of Euler steps of equal length, or their schedule, which is the same for all queries.
          guidance: Actions that those of the rows are to agree with, or to continue.

        Returns:
          Actions, normalized and padded as in training.
        """
        schedule = self.schedule(steps) if isinstance(steps, int) else steps

        def step(carry: tuple, at: tuple) -> tuple[tuple, None]:
            (x, prefix), (time, features) = carry, at
            if isinstance(guidance, CommittedPrefix):
                features = guidance.selected(schedule.features_of_actions, features)
            args = (prefix, batch.state, x, time, schedule.step_size, features, guidance)
            return self.euler_step(*args), None

        start = (jnp.asarray(noise), self.read_prefix(batch))
        times = (schedule.time, schedule.features)
        (actions, _), _ = jax.lax.scan(step, start, times, unroll=bool(self.plan.unroll_steps))
        return actions

    def euler_step(
        self,
        prefix: ReadPrefix,
        state: Float32[AnyArray, "b a"],
        x: Float32[Array, "b c a"],
        time: Float32[Array, ""],
        step_size: Float32[Array, ""],
        features: Float32[Array, "_b _s d"] | Modulations | None = None,
        guidance: Guidance | None = None,
    ) -> tuple[Float32[Array, "b c a"], ReadPrefix]:
        """Take one Euler step from noisy actions at a flow time. Pure.

        Args:
          prefix: Cameras and prompt.
          state: Robot state, normalized and padded.
          x: Noisy actions at `time`.
          time: Flow time of all rows.
          step_size: Negative for sampling.
          features: `time_features` of the flow times; computed if None.
          guidance: As `sample_actions` takes it.

        Returns:
          Noisy actions at `time + step_size`, and the prefix for the next step.
        """

        of_rows = jnp.broadcast_to(time, x.shape[:1])
        times = guidance.times(of_rows) if isinstance(guidance, CommittedPrefix) else of_rows

        def velocity(x: Float32[Array, "b c a"]) -> tuple[Float32[Array, "b c a"], ReadPrefix]:
            out, after = self.read_suffix(prefix, state, x, times, features)
            return self.velocity_from(out).astype(jnp.float32), after

        if isinstance(guidance, CommittedPrefix):
            return guidance.step(velocity, x, step_size)
        v, after = velocity(x) if guidance is None else guided_velocity(guidance, velocity, x, time)
        return x + step_size * v, after

    def schedule(self, steps: int) -> Schedule:
        """Precompute what `steps` Euler steps need besides the queries."""
        step_size = np.float32(-1.0) / np.float32(steps)
        times = [np.float32(1.0)]
        while len(times) < steps:  # Summed up as in the published loop, rounding included.
            times.append(times[-1] + step_size)
        time = jnp.asarray(np.array(times))
        # Steps are rows, after the layers if there are any; they move to the front, one row each.
        features = jax.tree.map(
            lambda leaf: jnp.moveaxis(leaf, -3, 0)[..., None, :], self.time_features(time)
        )
        return Schedule(time, jnp.asarray(step_size), features, self.time_features(jnp.zeros(1)))

    def time_features(self, time: Float32[Array, "b *s"]) -> Float32[Array, "b _s d"] | Modulations:
        """Compute everything that depends on flow time alone: a bias on the hidden layer of the action tokens (pi0), or
        the modulations of the action expert's norms (pi0.5)."""
        condition = self._embedded_time(time)
        if self.config.time_conditioning == "adaptive_norm":
            return self.transformer.modulations(1, condition)
        kernel, bias = self.action_time_mlp_in.kernel[...], self.action_time_mlp_in.bias[...]
        return (
            jnp.matmul(condition, kernel[condition.shape[-1] :].astype(jnp.float32))
            + bias.astype(jnp.float32)[None, None]
        )

    def read_prefix(self, batch: ModelInput) -> ReadPrefix:
        """Run the language expert over cameras and prompt, once per query."""
        return self.read(self.embed_prefix(batch), keys_only=self.plan.keys_only)

    def read(self, prefix: Prefix, *, keys_only: bool) -> ReadPrefix:
        """Run the language expert over embedded cameras and prompt.

        With `keys_only` the last layer stops at its keys and values, which is all that actions need. Gradients through
        a loop over the other layers take more time and memory.
        """
        rows, tokens = prefix.valid.shape
        cache = empty_cache(
            self.config.language,
            batch=rows,
            slots=self._suffix_length() + tokens,
            dtype=jnp.dtype(self.config.dtype),
            separate=bool(self.plan.unroll_layers),
            aligned=bool(self.plan.aligned),
        )
        _, cache = self.transformer(
            [prefix.tokens, None],
            positions_of_valid(prefix.valid),
            block_mask(prefix.valid, prefix.starts_block),
            KVCache(cache.k, cache.v, cache.end + self._suffix_length()),
            attend_to="new_tokens",
            keys_only=keys_only,
            lengths=prefix.lengths,
            prompt=True,
        )
        return ReadPrefix(cache, prefix.valid, prefix.lengths)

    def velocity(
        self,
        prefix: ReadPrefix,
        state: Float32[AnyArray, "b a"],
        x: Float32[Array, "b c a"],
        time: Float32[Array, "b *s"],
        features: Float32[Array, "_b _s d"] | Modulations | None = None,
    ) -> Float[Array, "b c a"]:
        """Predict the direction from actions to noise, at noisy actions `x` and flow time `time`."""
        return self.velocity_from(self.read_suffix(prefix, state, x, time, features)[0])

    def read_suffix(
        self,
        prefix: ReadPrefix,
        state: Float32[AnyArray, "b a"],
        x: Float32[Array, "b c a"],
        time: Float32[Array, "b *s"],
        features: Float32[Array, "_b _s d"] | Modulations | None = None,
    ) -> tuple[Float[Array, "b t d"], ReadPrefix]:
        """Run the action expert over state and noisy actions; returns its output, and the prefix for the next step.

        With unrolled layers, the suffix stays in the cache until the next one overwrites it, so that a loop that
        carries the prefix never copies it. With a plan that keeps attention, that of the suffix is in the cache.
        """
        suffix = self.embed_suffix(state, x, time, features)
        own = block_mask(jnp.ones(suffix.tokens.shape[:2], jnp.bool_), suffix.starts_block)
        onto_prefix = jnp.broadcast_to(
            prefix.valid[:, None, :], (*suffix.tokens.shape[:2], prefix.valid.shape[1])
        )
        read = prefix.valid.sum(axis=1, dtype=jnp.int32)
        length = suffix.tokens.shape[1]
        positions = read[:, None] + jnp.arange(length, dtype=jnp.int32)[None]
        mask = jnp.concatenate([own, onto_prefix], axis=2)
        behind = prefix.cache.slots - mask.shape[2]
        one_block = not suffix.starts_block[1:].any()  # A state token must not see the actions.
        (_, out), cache = self.transformer(
            [None, suffix.tokens],
            positions,
            jnp.pad(mask, ((0, 0), (0, 0), (0, behind))),
            KVCache(prefix.cache.k, prefix.cache.v, jnp.zeros((), jnp.int32)),
            [None, suffix.condition],
            lengths=None if prefix.lengths is None or not one_block else length + prefix.lengths,
        )
        if self.plan.unroll_layers or self.plan.keep_attention:
            kept = KVCache(cache.k, cache.v, prefix.cache.end, cache.attention)
            prefix = ReadPrefix(kept, prefix.valid, prefix.lengths)
        return out, prefix

    def velocity_from(self, out: Float[Array, "b t d"]) -> Float[Array, "b c a"]:
        """Project the output of the action expert to a velocity."""
        return self.action_out_proj(out[:, -self.config.action_horizon :])

    def loss(
        self,
        batch: ModelInput,
        actions: Float32[AnyArray, "b c a"],
        noise: Float32[AnyArray, "b c a"],
        time: Float32[AnyArray, "b *s"],
    ) -> Float32[Array, "b c"]:
        """Compute the mean squared error of the velocity over the action dimensions, for each step of the chunk.

        Padded action dimensions and steps after the end of an episode count, as in the published
        training.
        """
        x, target = flow_target(jnp.asarray(actions), jnp.asarray(noise), jnp.asarray(time))
        prefix = self.embed_prefix(batch)
        suffix = self.embed_suffix(batch.state, x, jnp.asarray(time))
        _, out = self.joint(prefix, suffix)
        return _squared_error(self.velocity_from(out), target)

    def loss_of_many(
        self,
        batch: ModelInput,
        actions: Float32[AnyArray, "b c a"],
        noise: Float32[AnyArray, "b m c a"],
        time: Float32[AnyArray, "b m *s"],
    ) -> Float32[Array, "b m c"]:
        """Compute `loss` at m noises and flow times of every row; cameras and prompt are read once."""
        return self.loss_and_outputs(batch, actions, noise, time)[0]

    def loss_and_outputs(
        self,
        batch: ModelInput,
        actions: Float32[AnyArray, "b c a"],
        noise: Float32[AnyArray, "b m c a"],
        time: Float32[AnyArray, "b m *s"],
    ) -> tuple[Float32[Array, "b m c"], Float32[Array, "b m d"]]:
        """Compute `loss_of_many`, and the mean output that each chunk's velocity is projected from."""
        prefix = self.read(self.embed_prefix(batch), keys_only=False)

        def loss(noise: Float32[Array, "b c a"], time: Float32[Array, "b *s"]) -> tuple[Array, Array]:
            x, target = flow_target(jnp.asarray(actions), noise, time)
            out, _ = self.read_suffix(prefix, batch.state, x, time)
            of_actions = out[:, -self.config.action_horizon :].astype(jnp.float32)
            return _squared_error(self.velocity_from(out), target), of_actions.mean(axis=1)

        return jax.vmap(loss, in_axes=1, out_axes=1)(jnp.asarray(noise), jnp.asarray(time))

    def joint(self, prefix: Prefix, suffix: Suffix) -> Sequence[Array]:
        """Run both experts over prefix and suffix in one pass, as in training; returns both outputs."""
        mask, positions = joint_attention(prefix, suffix)
        streams, conditioning = [prefix.tokens, suffix.tokens], [None, suffix.condition]
        return self.transformer(streams, positions, mask, None, conditioning)[0]

    def embed_prefix(self, batch: ModelInput) -> Prefix:
        """Embed cameras and prompt."""
        return embed_prefix(self.config, self.image_encoder, self.transformer, batch)

    def embed_suffix(
        self,
        state: Float32[AnyArray, "b a"],
        x: Float32[Array, "b c a"],
        time: Float32[Array, "b *s"],
        features: Float32[Array, "_b _s d"] | Modulations | None = None,
    ) -> Suffix:
        """Embed state and noisy actions, in float32 whatever the transformer computes in.

        `features` replace the time if given.
        """
        actions = self.action_in_proj(x)
        condition = None
        if self.config.time_conditioning == "concatenate":
            if features is None:
                beside = jnp.broadcast_to(self._embedded_time(time), actions.shape)
                hidden = self.action_time_mlp_in(jnp.concatenate([actions, beside], axis=-1))
            else:
                assert not isinstance(features, Modulations)
                kernel = self.action_time_mlp_in.kernel[...][: actions.shape[-1]]
                hidden = jnp.matmul(actions, kernel.astype(actions.dtype)) + features
            actions = self.action_time_mlp_out(jax.nn.silu(hidden))
        else:
            condition = self._embedded_time(time) if features is None else features
        tokens = actions
        if self.config.state_as == "token":
            tokens = jnp.concatenate([self.state_proj(jnp.asarray(state))[:, None], actions], axis=1)
        return Suffix(tokens, self._suffix_starts(), condition)

    def _embedded_time(self, time: Float32[Array, "b *s"]) -> Float32[Array, "b _s d"]:
        """Embed flow time for the action tokens (pi0), or for the adaptive norms (pi0.5)."""
        waves = embed_time(per_step(time), self.config.experts[1].width)
        if self.config.time_conditioning == "concatenate":
            return waves
        return jax.nn.silu(self.time_mlp_out(jax.nn.silu(self.time_mlp_in(waves))))

    def _suffix_starts(self) -> Bool[np.ndarray, " t"]:
        """Start blocks at the state, which sees no action, and at the first action."""
        before = self._suffix_length() - self.config.action_horizon
        starts = np.zeros(self._suffix_length(), np.bool_)
        starts[: before + 1] = True
        return starts

    def _suffix_length(self) -> int:
        return self.config.action_horizon + (1 if self.config.state_as == "token" else 0)


def _squared_error(velocity: Float[Array, "b c a"], target: Float32[Array, "b c a"]) -> Float32[Array, "b c"]:
    return jnp.mean(jnp.square(velocity.astype(jnp.float32) - target), axis=-1)


def joint_attention(prefix: Prefix, suffix: Suffix) -> tuple[Bool[Array, "b _q _q"], Int32[Array, "b _q"]]:
    """Return mask and positions of one pass over prefix and suffix."""
    rows, tokens = suffix.tokens.shape[:2]
    valid = jnp.concatenate([prefix.valid, jnp.ones((rows, tokens), jnp.bool_)], axis=1)
    suffix_starts = jnp.broadcast_to(jnp.asarray(suffix.starts_block)[None], (rows, tokens))
    starts = jnp.concatenate([prefix.starts_block, suffix_starts], axis=1)
    return block_mask(valid, starts), positions_of_valid(valid)
