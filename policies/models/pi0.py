"""pi0 (arXiv:2410.24164) and pi0.5 (arXiv:2504.16054): action chunks by flow matching.

The language expert reads cameras and prompt once; the action expert turns noise (time 1) into
actions (time 0) by following a velocity field that it predicts, in a few Euler steps.

    tokens   [ cameras | prompt ] [ state (pi0 only) | noisy actions ]
    expert         language                    action

Axis letters: b batch, p prefix tokens, t suffix tokens, d width, c chunk steps, a action size, m flow
times at once.
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
from simloop.policies.models.kv_cache import KVCache, empty_cache
from simloop.policies.models.model_input import AnyArray, ModelInput
from simloop.policies.models.prefix import Prefix, embed_prefix, positions_of_valid
from simloop.policies.models.projections import Linear
from simloop.policies.models.pytrees import pytree
from simloop.policies.models.siglip import ImageEncoder
from simloop.policies.models.transformer import Modulations, Transformer

SHORTEST_PERIOD, LONGEST_PERIOD = 4e-3, 4.0
"""Periods of the sines that embed flow time, which runs from 0 to 1."""


@pytree
class ReadPrefix:
    """Cameras and prompt after the language expert: what every flow step attends to."""

    cache: KVCache
    """The first slots are for the suffix, so that padding comes last."""
    valid: Bool[Array, "b p"]
    lengths: Int32[Array, " b"] | None = None
    """As `Prefix` has it."""


class Suffix(NamedTuple):
    """Embedded state and noisy actions."""

    tokens: Float32[Array, "b t d"]
    starts_block: Bool[np.ndarray, " t"]
    """As `attention.block_mask` takes it; all suffix tokens are valid."""
    condition: Float32[Array, "b d"] | Modulations | None
    """Flow time for the adaptive norms of the action expert, where the model has them."""


@pytree
class Schedule:
    """Flow times of Euler steps of equal length, and what follows from each of them alone."""

    time: Float32[Array, " m"]
    step_size: Float32[Array, ""]
    effect: Float32[Array, "m 1 d"] | Modulations
    """As `Pi0.effect_of_time` gives it, one row per step."""


class Pi0(nnx.Module):
    """The flow models; the config's `state_as` and `time_conditioning` tell pi0 from pi0.5."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        if config.action_expert is None or config.time_conditioning is None:
            raise ValueError(f"Pi0 needs an action expert; {config.family} has none. Use Pi0Fast.")
        self.config = config
        dtype = jnp.dtype(config.dtype)
        width, action_dim = config.action_expert.width, config.action_dim
        self.image_encoder = ImageEncoder(
            config.image_encoder,
            image_hw=(config.image_size, config.image_size),
            output_width=config.language.width,
            dtype=dtype,
            rngs=rngs,
            recompute_layers=config.recompute_layers,
            unroll_layers=config.unroll_layers,
        )
        self.transformer = Transformer(
            config.experts,
            adaptive_norm=(False, config.time_conditioning == "adaptive_norm"),
            vocab_size=config.vocab_size,
            rope_dtype=config.rope_dtype,
            dtype=dtype,
            rngs=rngs,
            recompute_layers=config.recompute_layers,
            unroll_layers=config.unroll_layers,
            attend_in_place=config.optimizations.attention_in_place,
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
        num_steps: int | Int32[Array, ""] | Schedule = 10,
    ) -> Float32[Array, "b c a"]:
        """Integrate the velocity field from noise to actions in Euler steps of equal length.

        Args:
          batch: The queries.
          noise: Standard normal; see `noise_from_keys`. A row's actions depend on its own noise only.
          num_steps: May be traced: one compilation then serves every count. A schedule says the same and
            brings along what is the same in every query.

        Returns:
          Actions, normalised and padded as in training.
        """
        prefix = self.read_prefix(batch)
        if isinstance(num_steps, Schedule):
            return self._follow(num_steps, prefix, batch.state, jnp.asarray(noise))
        step_size = -1.0 / jnp.asarray(num_steps, jnp.float32)

        def step(_: Int32[Array, ""], carry: tuple) -> tuple:
            x, time = carry
            return self.euler_step(prefix, batch.state, x, time, step_size)

        start = (jnp.asarray(noise), jnp.ones((), jnp.float32))
        return jax.lax.fori_loop(0, num_steps, step, start)[0]

    def schedule(self, num_steps: int) -> Schedule:
        """What sampling in so many steps computes without looking at a query."""
        step_size = np.float32(-1.0) / np.float32(num_steps)
        times = [np.float32(1.0)]
        while len(times) < num_steps:  # Summed up as the loop does it, rounding included.
            times.append(times[-1] + step_size)
        time = jnp.asarray(np.array(times))
        effect = self.effect_of_time(time)
        # Steps come as rows, behind the layers if there are any; they go to the front, one row each.
        effect = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -2, 0)[..., None, :], effect)
        return Schedule(time, jnp.asarray(step_size), effect)

    def effect_of_time(self, time: Float32[Array, " b"]) -> Float32[Array, "b d"] | Modulations:
        """All that flow time does: a bias on the hidden layer behind the actions (pi0), or the modulations
        of the action expert's norms (pi0.5)."""
        condition = self._embedded_time(time)
        if self.config.time_conditioning == "adaptive_norm":
            return self.transformer.modulations(1, condition)
        kernel, bias = self.action_time_mlp_in.kernel[...], self.action_time_mlp_in.bias[...]
        return (
            jnp.matmul(condition, kernel[condition.shape[-1] :].astype(jnp.float32))
            + bias.astype(jnp.float32)[None]
        )

    def _follow(
        self,
        schedule: Schedule,
        prefix: ReadPrefix,
        state: Float32[AnyArray, "b a"],
        x: Float32[Array, "b c a"],
    ) -> Float32[Array, "b c a"]:
        def step(carry: tuple, at: tuple) -> tuple[tuple, None]:
            (x, prefix), (time, effect) = carry, at
            out, prefix = self.read_suffix(prefix, state, x, _same(time, x), effect)
            velocity = self.velocity_from(out)
            return (x + schedule.step_size * velocity.astype(jnp.float32), prefix), None

        steps = (schedule.time, schedule.effect)
        return jax.lax.scan(step, (x, prefix), steps, unroll=self.config.optimizations.unrolled_steps)[0][0]

    def euler_step(
        self,
        prefix: ReadPrefix,
        state: Float32[AnyArray, "b a"],
        x: Float32[Array, "b c a"],
        time: Float32[Array, ""],
        step_size: Float32[Array, ""],
        effect: Float32[Array, "1 d"] | Modulations | None = None,
    ) -> tuple[Float32[Array, "b c a"], Float32[Array, ""]]:
        """Noisy actions and flow time one step further along; sampling steps are negative.

        `effect` is what `effect_of_time` says of this time, where that is known.
        """
        velocity = self.velocity(prefix, state, x, _same(time, x), effect)
        return x + step_size * velocity.astype(jnp.float32), time + step_size

    def read_prefix(self, batch: ModelInput) -> ReadPrefix:
        """Run the language expert over cameras and prompt; done once per query."""
        return self.read(self.embed_prefix(batch), keys_only=self.config.optimizations.keys_only)

    def read(self, prefix: Prefix, *, keys_only: bool) -> ReadPrefix:
        """Run the language expert over embedded cameras and prompt.

        With `keys_only` the last layer stops at its keys and values. Answers need no more; gradients
        through a loop over the other layers take more time and memory.
        """
        rows, tokens = prefix.valid.shape
        cache = empty_cache(
            self.config.language,
            batch=rows,
            slots=self._suffix_length() + tokens,
            dtype=jnp.dtype(self.config.dtype),
            separate=self.config.unroll_layers,
            aligned=self.config.optimizations.aligned,
        )
        _, cache = self.transformer(
            [prefix.tokens, None],
            positions_of_valid(prefix.valid),
            block_mask(prefix.valid, prefix.starts_block),
            KVCache(cache.k, cache.v, cache.end + self._suffix_length()),
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
        time: Float32[Array, " b"],
        effect: Float32[Array, "1 d"] | Modulations | None = None,
    ) -> Float[Array, "b c a"]:
        """The predicted direction from actions to noise, at noisy actions `x` and flow time `time`."""
        return self.velocity_from(self.read_suffix(prefix, state, x, time, effect)[0])

    def read_suffix(
        self,
        prefix: ReadPrefix,
        state: Float32[AnyArray, "b a"],
        x: Float32[Array, "b c a"],
        time: Float32[Array, " b"],
        effect: Float32[Array, "1 d"] | Modulations | None = None,
    ) -> tuple[Float[Array, "b t d"], ReadPrefix]:
        """What the action expert makes of its suffix, given a prefix that was read, and the prefix for the
        next step.

        Where layers are unrolled, the suffix stays in the cache until the next one is written over it, so
        that a loop that carries the prefix never copies it.
        """
        suffix = self.embed_suffix(state, x, time, effect)
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
        if self.config.unroll_layers:
            kept = KVCache(cache.k, cache.v, prefix.cache.end)
            prefix = ReadPrefix(kept, prefix.valid, prefix.lengths)
        return out, prefix

    def velocity_from(self, out: Float[Array, "b t d"]) -> Float[Array, "b c a"]:
        """The velocity that the action expert's output spells."""
        return self.action_out_proj(out[:, -self.config.action_horizon :])

    def loss(
        self,
        batch: ModelInput,
        actions: Float32[AnyArray, "b c a"],
        noise: Float32[AnyArray, "b c a"],
        time: Float32[AnyArray, " b"],
    ) -> Float32[Array, "b c"]:
        """Mean squared error of the velocity over the action dimensions, for each step of the chunk.

        Padded action dimensions and steps behind the end of an episode count, as in the published
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
        time: Float32[AnyArray, "b m"],
    ) -> Float32[Array, "b m c"]:
        """`loss` at m noises and flow times of every row, with cameras and prompt read once for all."""
        return self.loss_and_outputs(batch, actions, noise, time)[0]

    def loss_and_outputs(
        self,
        batch: ModelInput,
        actions: Float32[AnyArray, "b c a"],
        noise: Float32[AnyArray, "b m c a"],
        time: Float32[AnyArray, "b m"],
    ) -> tuple[Float32[Array, "b m c"], Float32[Array, "b m d"]]:
        """`loss_of_many`, and the mean of the outputs that each chunk's velocity is made from."""
        prefix = self.read(self.embed_prefix(batch), keys_only=False)

        def loss(noise: Float32[Array, "b c a"], time: Float32[Array, " b"]) -> tuple[Array, Array]:
            x, target = flow_target(jnp.asarray(actions), noise, time)
            out, _ = self.read_suffix(prefix, batch.state, x, time)
            of_actions = out[:, -self.config.action_horizon :].astype(jnp.float32)
            return _squared_error(self.velocity_from(out), target), of_actions.mean(axis=1)

        return jax.vmap(loss, in_axes=1, out_axes=1)(jnp.asarray(noise), jnp.asarray(time))

    def joint(self, prefix: Prefix, suffix: Suffix) -> Sequence[Array]:
        """One pass of both experts over prefix and suffix, as in training; returns both outputs."""
        mask, positions = joint_attention(prefix, suffix)
        streams, conditioning = [prefix.tokens, suffix.tokens], [None, suffix.condition]
        return self.transformer(streams, positions, mask, None, conditioning)[0]

    def embed_prefix(self, batch: ModelInput) -> Prefix:
        """Tokens of cameras and prompt."""
        return embed_prefix(self.config, self.image_encoder, self.transformer, batch)

    def embed_suffix(
        self,
        state: Float32[AnyArray, "b a"],
        x: Float32[Array, "b c a"],
        time: Float32[Array, " b"],
        effect: Float32[Array, "1 d"] | Modulations | None = None,
    ) -> Suffix:
        """Tokens of state and noisy actions, in float32 whatever the transformer computes in.

        `effect` stands for the time where it is given.
        """
        actions = self.action_in_proj(x)
        condition = None
        if self.config.time_conditioning == "concatenate":
            if effect is None:
                beside = jnp.broadcast_to(self._embedded_time(time)[:, None], actions.shape)
                hidden = self.action_time_mlp_in(jnp.concatenate([actions, beside], axis=-1))
            else:
                assert not isinstance(effect, Modulations)
                kernel = self.action_time_mlp_in.kernel[...][: actions.shape[-1]]
                hidden = jnp.matmul(actions, kernel.astype(actions.dtype)) + effect[:, None]
            actions = self.action_time_mlp_out(jax.nn.silu(hidden))
        else:
            condition = self._embedded_time(time) if effect is None else effect
        tokens = actions
        if self.config.state_as == "token":
            tokens = jnp.concatenate([self.state_proj(jnp.asarray(state))[:, None], actions], axis=1)
        return Suffix(tokens, self._suffix_starts(), condition)

    def _embedded_time(self, time: Float32[Array, " b"]) -> Float32[Array, "b d"]:
        """Flow time as the action tokens are told of it (pi0), or as the adaptive norms are (pi0.5)."""
        waves = embed_time(time, self.config.experts[1].width)
        if self.config.time_conditioning == "concatenate":
            return waves
        return jax.nn.silu(self.time_mlp_out(jax.nn.silu(self.time_mlp_in(waves))))

    def _suffix_starts(self) -> Bool[np.ndarray, " t"]:
        """The state is a block that sees no action; the actions are one block."""
        before = self._suffix_length() - self.config.action_horizon
        starts = np.zeros(self._suffix_length(), np.bool_)
        starts[: before + 1] = True
        return starts

    def _suffix_length(self) -> int:
        return self.config.action_horizon + (1 if self.config.state_as == "token" else 0)


def _same(time: Float32[Array, ""], x: Float32[Array, "b c a"]) -> Float32[Array, " b"]:
    """One flow time for all rows."""
    return jnp.broadcast_to(time, x.shape[:1])


def _squared_error(velocity: Float[Array, "b c a"], target: Float32[Array, "b c a"]) -> Float32[Array, "b c"]:
    return jnp.mean(jnp.square(velocity.astype(jnp.float32) - target), axis=-1)


def flow_target(
    actions: Float32[Array, "b c a"], noise: Float32[Array, "b c a"], time: Float32[Array, " b"]
) -> tuple[Float32[Array, "b c a"], Float32[Array, "b c a"]]:
    """Noisy actions on the straight line from actions (time 0) to noise (time 1), and its velocity."""
    t = time[:, None, None]
    return t * noise + (1.0 - t) * actions, noise - actions


def joint_attention(prefix: Prefix, suffix: Suffix) -> tuple[Bool[Array, "b _q _q"], Int32[Array, "b _q"]]:
    """Mask and positions of one pass over prefix and suffix."""
    rows, tokens = suffix.tokens.shape[:2]
    valid = jnp.concatenate([prefix.valid, jnp.ones((rows, tokens), jnp.bool_)], axis=1)
    suffix_starts = jnp.broadcast_to(jnp.asarray(suffix.starts_block)[None], (rows, tokens))
    starts = jnp.concatenate([prefix.starts_block, suffix_starts], axis=1)
    return block_mask(valid, starts), positions_of_valid(valid)


def embed_time(time: Float32[Array, " b"], width: int) -> Float32[Array, "b {width}"]:
    """Sines, then cosines, of flow time at periods between 4e-3 and 4, equally spaced in their logarithm."""
    fraction = jnp.linspace(0.0, 1.0, width // 2, dtype=jnp.float32)
    period = SHORTEST_PERIOD * (LONGEST_PERIOD / SHORTEST_PERIOD) ** fraction
    angle = time[:, None] * (1.0 / period * 2.0 * jnp.pi)[None, :]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def noise_from_keys(keys: Array, action_horizon: int, action_dim: int) -> Float32[Array, "b c a"]:
    """Standard normal noise with a key per row, so that a row's noise depends on nothing else.

    Args:
      keys: Typed keys [b] or raw threefry keys uint32 [b, 2].
      action_horizon: Steps of the chunk.
      action_dim: Padded action size.
    """
    return jax.vmap(lambda key: jax.random.normal(key, (action_horizon, action_dim), jnp.float32))(keys)


def training_noise_and_time(
    key: Array, batch: int, action_horizon: int, action_dim: int
) -> tuple[Float32[Array, "b c a"], Float32[Array, " b"]]:
    """What the published training draws for one step.

    The first of the three keys that `key` is split into is left to image augmentation.
    """
    _, noise_key, time_key = jax.random.split(key, 3)
    noise = jax.random.normal(noise_key, (batch, action_horizon, action_dim), jnp.float32)
    return noise, training_times(time_key, batch)


def training_times(key: Array, batch: int) -> Float32[Array, " b"]:
    """Flow times to train at: 0.001 + 0.999 · Beta(1.5, 1), more of them near noise than near actions."""
    return jax.random.beta(key, 1.5, 1.0, (batch,), jnp.float32) * 0.999 + 0.001
