"""pi0-FAST (arXiv:2501.09747): action chunks as text, one token after another.

The prompt is aligned to the right, so that the last valid token of every row is in the last slot
and generated tokens of all rows share slots:

    slots   [ padding | cameras | prompt ][ generated ... ]
             0                  prefill_size

Axis letters: b batch, p prefix tokens, s slots, t text tokens, m generated tokens, d width, v vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int32

from simloop.policies.models.attention import block_mask
from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.constrained_decoding import ActionGrammar
from simloop.policies.models.inference_plan import PLAIN, InferencePlan
from simloop.policies.models.kv_cache import KVCache, empty_cache
from simloop.policies.models.model_input import AnyArray, ModelInput
from simloop.policies.models.prefix import Prefix, embed_prefix, positions_of_valid
from simloop.policies.models.pytrees import pytree
from simloop.policies.models.siglip import ImageEncoder
from simloop.policies.models.transformer import Transformer

END_TOKEN = 1
"""`<eos>` of PaliGemma's tokenizer."""


@pytree
class ReadPrompt:
    """Cameras, prompt and generated tokens after the transformer."""

    cache: KVCache
    valid: Bool[Array, "b p"]
    """Valid tokens of the aligned prefix."""


class GeneratedTokens(NamedTuple):
    """Tokens generated for a batch of queries."""

    tokens: Int32[Array, "b m"]
    """0 after the end of a row."""
    lengths: Int32[Array, " b"]
    """Tokens before the end token; m if there is none."""


@pytree
class SamplingState:
    """State of generation between two tokens."""

    prompt: ReadPrompt
    token: Int32[Array, " b"]
    """The last token, which the transformer has not read yet."""
    tokens: Int32[Array, "b m"]
    """All tokens so far."""
    step: Int32[Array, ""]
    """Number of tokens so far, equal in all rows."""
    ended: Bool[Array, " b"]
    coefficients: Int32[Array, " b"]
    """Coefficients that the answer encodes so far, as `ActionGrammar.advance` counts them; 0 without a grammar."""


@dataclass(frozen=True)
class _Sampler:
    """Choice of the next token of every row."""

    temperature: float
    keys: Array | None
    grammar: ActionGrammar | None
    stop: Literal["each_row", "all_at_once"]

    def candidates(self) -> Int32[np.ndarray, " r"] | None:
        """Ids of the tokens that have to be scored; None for all."""
        return None if self.grammar is None or self.temperature else self.grammar.action_ids()

    def append(
        self,
        state: SamplingState,
        logits: Float[Array, "b _v"],
        candidates: Int32[np.ndarray, " _v"] | None = None,
    ) -> SamplingState:
        """Choose the next tokens by the logits of all tokens, or of `candidates`."""
        coefficients, step = state.coefficients, state.step
        if self.grammar is not None:
            logits = self.grammar.masked(logits, coefficients, candidates)
        if self.temperature:
            token = _draw(self.keys, step, logits / self.temperature)
        else:
            token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        if candidates is not None:
            token = jnp.take(jnp.asarray(candidates), token)
        if self.grammar is not None:
            token, coefficients = self.grammar.advance(token, step, coefficients)
        ended = token == END_TOKEN
        if self.stop == "each_row":
            token = jnp.where(state.ended, 0, token)
            ended = state.ended | (token == END_TOKEN)
        at = (jnp.zeros((), jnp.int32), step)
        tokens = jax.lax.dynamic_update_slice(state.tokens, token[:, None], at)
        return SamplingState(state.prompt, token, tokens, step + 1, ended, coefficients)


class Pi0Fast(nnx.Module):
    """The autoregressive model."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, plan: InferencePlan = PLAIN):
        if config.first_decode_position is None or config.decode_mask is None:
            raise ValueError(
                f"Pi0Fast needs first_decode_position and decode_mask; {config.family} has none. Use Pi0."
            )
        self.config, self.plan = config, plan
        dtype = jnp.dtype(config.dtype)
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
            adaptive_norm=(False,),
            vocab_size=config.vocab_size,
            rope_dtype=config.rope_dtype,
            dtype=dtype,
            rngs=rngs,
            recompute_layers=config.recompute_layers,
            plan=plan,
        )

    def sample_tokens(
        self,
        batch: ModelInput,
        max_tokens: int,
        *,
        temperature: float = 0.0,
        keys: Array | None = None,
        stop: Literal["each_row", "all_at_once"] = "each_row",
        grammar: ActionGrammar | None = None,
        forced_prefix: Sequence[int] = (),
    ) -> GeneratedTokens:
        """Generate until every row has ended, or `max_tokens`.

        Args:
          batch: The queries, prompts without an answer.
          max_tokens: Length of the result; static.
          temperature: 0 takes the likeliest token; otherwise tokens are drawn from
            softmax(logits / temperature). Static.
          keys: A key per row for drawing, typed [b] or uint32 [b, 2]. A row depends on its own only.
          stop: `each_row` writes 0 after the end token of a row and stops when all rows have ended.
            `all_at_once` is the published loop: a row continues after its end token, until all rows
            happen to produce one in the same step.
          grammar: Constraints on the answer; without one, any token may follow.
          forced_prefix: Tokens that answers are expected to start with; static. They are read with the prompt,
            and generation continues at the first token that some row would not have generated.
            Exact with the decode mask `valid`, and with `window` if no camera is masked: outputs at
            masked tokens depend on all slots, and `window` may read them.

        Raises:
          ValueError: If drawing lacks keys or comes with a forced prefix but no grammar, or if answers with a
            grammar are to continue after their end.
        """
        if temperature and keys is None:
            raise ValueError("Drawing tokens at a temperature needs a key per row; got none.")
        if temperature and grammar is None and forced_prefix:
            raise ValueError("A forced prefix needs temperature 0 or a grammar: drawing may take any token.")
        if grammar is not None and stop != "each_row":
            raise ValueError("An answer with a grammar ends where the grammar says; stop must be 'each_row'.")
        forced = np.array(forced_prefix[: max_tokens - 1], np.int32)
        logits, prompt = self.read_with_forced_prefix(self.embed_prefix(batch), max_tokens, forced)
        rows = logits.shape[0]
        if self.doubles(rows):
            logits, prompt, keys = _doubled(logits, prompt, keys)
        sampler = _Sampler(temperature, keys, grammar, stop)
        state = self._first_state(sampler, logits, prompt, max_tokens, forced)
        candidates = sampler.candidates()
        table = (
            None if candidates is None else jnp.take(self.transformer.token_table[...], candidates, axis=0)
        )

        def step(state: SamplingState) -> SamplingState:
            logits, prompt = self.decode(state.prompt, state.token, state.step - 1, table)
            return sampler.append(dataclasses.replace(state, prompt=prompt), logits, candidates)

        def continues(state: SamplingState) -> Bool[Array, ""]:
            return (state.step < max_tokens) & ~state.ended.all()

        tokens = jax.lax.while_loop(continues, step, state).tokens[:rows]
        return GeneratedTokens(tokens, _lengths(tokens))

    def doubles(self, rows: int) -> bool:
        """Whether a batch is decoded together with a copy of itself.

        A product of one bfloat16 row and a matrix is compiled as another operation, which writes the whole matrix on
        GPUs and takes eight times as long on CPUs.
        """
        return rows == 1 and self.config.dtype == "bfloat16"

    def _first_state(
        self,
        sampler: _Sampler,
        logits: Float[Array, "b _n v"],
        prompt: ReadPrompt,
        max_tokens: int,
        forced: Int32[np.ndarray, " _k"],
    ) -> SamplingState:
        """Accept the forced tokens that all rows agree with, and choose the token after them."""
        rows = logits.shape[0]
        tokens = jnp.zeros((rows, max_tokens), jnp.int32)
        accepted = jnp.zeros((), jnp.int32)
        if len(forced):
            if sampler.grammar is None:
                generated = jnp.argmax(logits, axis=-1).astype(jnp.int32)[:, :-1]
            else:
                generated = sampler.grammar.opening(len(forced))[None]
            # Rows share their slots, so all return to the first token that one of them would not have generated.
            agrees = (generated == jnp.asarray(forced)[None]).all(axis=0)
            accepted = jnp.cumprod(agrees.astype(jnp.int32)).sum(dtype=jnp.int32)
            kept = jnp.arange(len(forced), dtype=jnp.int32) < accepted
            tokens = tokens.at[:, : len(forced)].set(jnp.where(kept, jnp.asarray(forced), 0)[None])
            cache = dataclasses.replace(prompt.cache, end=prompt.cache.end - len(forced) + accepted)
            prompt = dataclasses.replace(prompt, cache=cache)
        zeros = jnp.zeros((rows,), jnp.int32)
        state = SamplingState(prompt, zeros, tokens, accepted, jnp.zeros((rows,), jnp.bool_), zeros)
        return sampler.append(state, jax.lax.dynamic_index_in_dim(logits, accepted, 1, False))

    def read_prompt(self, batch: ModelInput, max_tokens: int) -> tuple[Float[Array, "b v"], ReadPrompt]:
        """Read cameras and prompt, with room for `max_tokens` after them; returns the logits of the first token."""
        return self.read(self.embed_prefix(batch), max_tokens)

    def read(self, prefix: Prefix, max_tokens: int) -> tuple[Float[Array, "b v"], ReadPrompt]:
        """Like `read_prompt`, from embedded cameras and prompt."""
        out, prompt = self._read(prefix, max_tokens, np.zeros(0, np.int32))
        return self.transformer.logits(out[:, -1]), prompt

    def read_with_forced_prefix(
        self, prefix: Prefix, max_tokens: int, forced: Int32[AnyArray, " _k"]
    ) -> tuple[Float[Array, "b _n v"], ReadPrompt]:
        """Read the prompt and k tokens that the answer may start with.

        Returns:
          Logits of the tokens after the prompt and after each forced token (n = k + 1), and the prompt.
        """
        out, prompt = self._read(prefix, max_tokens, forced)
        return self.transformer.logits(out[:, -1 - len(forced) :]), prompt

    def _read(
        self, prefix: Prefix, max_tokens: int, forced: Int32[AnyArray, " _k"]
    ) -> tuple[Float[Array, "b _t d"], ReadPrompt]:
        mask = block_mask(prefix.valid, prefix.starts_block)
        tokens, valid, mask = align_right(prefix.tokens, prefix.valid, mask)
        rows, slots = valid.shape
        cache = empty_cache(
            self.config.language,
            batch=rows,
            slots=slots + max_tokens,
            dtype=jnp.dtype(self.config.dtype),
            separate=bool(self.plan.unroll_layers),
            aligned=bool(self.plan.aligned),
        )
        mask = jnp.pad(mask, ((0, 0), (0, 0), (0, cache.slots - slots)))
        positions = positions_of_valid(valid)
        if len(forced):
            ids = jnp.broadcast_to(jnp.asarray(forced)[None], (rows, len(forced)))
            tokens = jnp.concatenate([tokens, self.transformer.embed(ids).astype(tokens.dtype)], axis=1)
            steps = [jnp.int32(step) for step in range(len(forced))]
            prompt = ReadPrompt(cache, valid)
            seen = jnp.stack([self._decode_mask(prompt, step) for step in steps], axis=1)
            mask = jnp.concatenate([mask, seen], axis=1)
            after = [self._decode_position(prompt, step)[:, None] for step in steps]
            positions = jnp.concatenate([positions, *after], axis=1)
        (out,), cache = self.transformer([tokens], positions, mask, cache, prompt=True)
        return out, ReadPrompt(cache, valid)

    def decode(
        self,
        prompt: ReadPrompt,
        token: Int32[Array, " b"],
        step: Int32[Array, ""],
        table: Float[Array, "_v d"] | None = None,
    ) -> tuple[Float[Array, "b _v"], ReadPrompt]:
        """Read the `step`-th generated token (0 is the first); returns the logits of the next token.

        `table` holds the rows of the token table to score; None scores all tokens.
        """
        positions = self._decode_position(prompt, step)[:, None]
        mask = self._decode_mask(prompt, step)
        (out,), cache = self.transformer(
            [self.transformer.embed(token[:, None])], positions, mask[:, None], prompt.cache
        )
        return self.transformer.logits(out[:, 0], table), ReadPrompt(cache, prompt.valid)

    def loss(self, batch: ModelInput) -> Float32[Array, " b"]:
        """Compute the cross-entropy of the tokens in `token_loss_mask`, averaged within each row.

        Raises:
          ValueError: If the batch has no `token_loss_mask`.
        """
        return self.loss_and_outputs(batch)[0]

    def loss_and_outputs(self, batch: ModelInput) -> tuple[Float32[Array, " b"], Float32[Array, "b d"]]:
        """Compute `loss`, and the mean of the outputs that predict each row's answer."""
        if batch.token_loss_mask is None:
            raise ValueError("The loss needs token_loss_mask, True on the tokens to be predicted; got None.")
        outputs = self.predicting_outputs(batch)
        logits = self.transformer.logits(outputs).astype(jnp.float32)
        targets = jnp.asarray(batch.tokens)[:, 1:]
        wanted = jnp.asarray(batch.token_loss_mask)[:, 1:].astype(jnp.float32)
        scores = jnp.take_along_axis(logits, targets[:, :, None], axis=-1)[:, :, 0]
        log_likelihood = scores - jax.nn.logsumexp(logits, axis=-1)
        count = jnp.maximum(wanted.sum(axis=-1), 1.0)
        mean_output = jnp.einsum("bt,btd->bd", wanted, outputs.astype(jnp.float32)) / count[:, None]
        return -(log_likelihood * wanted).sum(axis=-1) / count, mean_output

    def predicting_outputs(self, batch: ModelInput) -> Float[Array, "b t d"]:
        """Run one teacher-forced pass; returns the outputs at text tokens 0..t-1, which predict text tokens 1..t.

        Positions count every token here, masked or not, as in the published training; at inference
        they count valid ones.
        """
        prefix = self.embed_prefix(batch)
        mask = block_mask(prefix.valid, prefix.starts_block)[:, :-1, :-1]
        tokens = prefix.tokens[:, :-1]
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32)[None], tokens.shape[:2])
        (out,), _ = self.transformer([tokens], positions, mask)
        return out[:, out.shape[1] - (batch.tokens.shape[1] - 1) :]

    def embed_prefix(self, batch: ModelInput) -> Prefix:
        """Embed cameras and text."""
        return embed_prefix(self.config, self.image_encoder, self.transformer, batch)

    def _decode_position(self, prompt: ReadPrompt, step: Int32[Array, ""]) -> Int32[Array, " b"]:
        skipped = 1 if self.config.first_decode_position == "skip_one" else 0
        return prompt.valid.sum(axis=1, dtype=jnp.int32) + skipped + step

    def _decode_mask(self, prompt: ReadPrompt, step: Int32[Array, ""]) -> Bool[Array, "b s"]:
        size = prompt.valid.shape[1]
        slot = jnp.arange(prompt.cache.slots, dtype=jnp.int32)[None]
        generated = (slot >= size) & (slot <= size + step)
        if self.config.decode_mask == "valid":
            return jnp.pad(prompt.valid, ((0, 0), (0, prompt.cache.slots - size))) | generated
        start = size - prompt.valid.sum(axis=1, dtype=jnp.int32)
        return (slot >= start[:, None]) & (slot <= size + step)


def align_right(
    tokens: Float[Array, "b p d"], valid: Bool[Array, "b p"], mask: Bool[Array, "b p p"]
) -> tuple[Float[Array, "b p d"], Bool[Array, "b p"], Bool[Array, "b p p"]]:
    """Roll every row so that its last valid token comes last; the padding after it comes first."""

    def align(tokens: Array, valid: Array, mask: Array) -> tuple[Array, Array, Array]:
        after_last = jnp.max(jnp.where(valid, jnp.arange(1, valid.shape[0] + 1, dtype=jnp.int32), 0))
        return (
            jnp.roll(tokens, -after_last, axis=0),
            jnp.roll(valid, -after_last),
            jnp.roll(mask, (-after_last, -after_last), axis=(0, 1)),
        )

    return jax.vmap(align)(tokens, valid, mask)


def _doubled(
    logits: Float[Array, "1 n v"], prompt: ReadPrompt, keys: Array | None
) -> tuple[Float[Array, "2 n v"], ReadPrompt, Array | None]:
    """Repeat a single row."""

    def twice(slots: Array) -> Array:
        return jnp.repeat(slots, 2, axis=slots.ndim - 4)

    k, v = (jax.tree.map(twice, slots) for slots in (prompt.cache.k, prompt.cache.v))
    both = ReadPrompt(KVCache(k, v, prompt.cache.end), jnp.repeat(prompt.valid, 2, axis=0))
    return jnp.repeat(logits, 2, axis=0), both, None if keys is None else jnp.repeat(keys, 2, axis=0)


def _draw(keys: Array, step: Int32[Array, ""], scores: Float[Array, "b v"]) -> Int32[Array, " b"]:
    def draw(key: Array, scores: Array) -> Array:
        return jax.random.categorical(jax.random.fold_in(key, step), scores.astype(jnp.float32))

    return jax.vmap(draw)(keys, scores).astype(jnp.int32)


def _lengths(tokens: Int32[Array, "b m"]) -> Int32[Array, " b"]:
    before_end = jnp.cumsum((tokens == END_TOKEN).astype(jnp.int32), axis=1) == 0
    return before_end.sum(axis=1, dtype=jnp.int32)
