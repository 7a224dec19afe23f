"""pi0-FAST (arXiv:2501.09747): action chunks as text, one token after the other.

The prompt is aligned to the right, so that the last valid token of every row lies in the last slot
and generated tokens of all rows share slots:

    slots   [ padding | cameras | prompt ][ generated ... ]
             0                  prefill_size

Axis letters: b batch, p prefix tokens, s slots, t text tokens, m generated tokens, d width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int32

from simloop.policies.models.attention import block_mask
from simloop.policies.models.configs import ModelConfig
from simloop.policies.models.constrained_decoding import ActionGrammar
from simloop.policies.models.kv_cache import KVCache, empty_cache
from simloop.policies.models.model_input import ModelInput
from simloop.policies.models.prefix import Prefix, embed_prefix, positions_of_valid
from simloop.policies.models.pytrees import pytree
from simloop.policies.models.siglip import ImageEncoder
from simloop.policies.models.transformer import Transformer

END_TOKEN = 1
"""`<eos>` of PaliGemma's tokenizer."""
CHECKED_AT_ONCE = 512
"""Positions whose logits over all tokens are in memory at once: half a gigabyte at full size."""


@pytree
class ReadPrompt:
    """Cameras and prompt after the transformer, and what was generated behind them."""

    cache: KVCache
    valid: Bool[Array, "b p"]
    """Of the aligned prefix."""


class GeneratedTokens(NamedTuple):
    """What a batch of queries was answered."""

    tokens: Int32[Array, "b m"]
    """0 behind the end of a row."""
    lengths: Int32[Array, " b"]
    """Tokens before the end token; m where none came."""


class Pi0Fast(nnx.Module):
    """The autoregressive model."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        if config.first_decode_position is None or config.decode_mask is None:
            raise ValueError(
                f"Pi0Fast needs first_decode_position and decode_mask; {config.family} has none. Use Pi0."
            )
        self.config = config
        dtype = jnp.dtype(config.dtype)
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
            adaptive_norm=(False,),
            vocab_size=config.vocab_size,
            rope_dtype=config.rope_dtype,
            dtype=dtype,
            rngs=rngs,
            recompute_layers=config.recompute_layers,
            unroll_layers=config.unroll_layers,
            attend_in_place=config.optimizations.attention_in_place,
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
        leading: Sequence[int] = (),
        candidates: Sequence[int] = (),
    ) -> GeneratedTokens:
        """Generate until every row has ended, or `max_tokens`.

        Args:
          batch: The queries, prompts without an answer.
          max_tokens: Length of the result; static.
          temperature: 0 takes the likeliest token; otherwise tokens are drawn from
            softmax(logits / temperature). Static.
          keys: A key per row for drawing, typed [b] or uint32 [b, 2]. A row depends on its own only.
          stop: `each_row` writes 0 behind a row's end token and stops when all rows have met theirs.
            `all_at_once` is the published loop: a row goes on behind its end token, until all rows
            happen to produce one in the same step.
          grammar: What an answer must look like; without one, any token may follow.
          leading: What answers are expected to begin with; static. It is read with the prompt, and
            generated as always from the first token on that a row would not have said.
            Exact with the decode mask `valid`, and with `window` wherever no camera is masked: what
            masked tokens hold depends on all slots, and `window` may show it.
          candidates: Tokens among which the next one is looked for, ascending; static. All others are
            looked at once, behind the loop; if one of them should have been taken, everything is
            generated again. () looks at all tokens every time. A grammar says by itself which tokens
            there are to look at.

        Raises:
          ValueError: If the temperature is not 0 and there are no keys, or there are `leading` tokens or
            `candidates` for answers that may hold any token; if answers with a grammar are to go on behind
            their end, or come with candidates.
        """
        if temperature and keys is None:
            raise ValueError("Drawing tokens at a temperature needs a key per row; got none.")
        if temperature and grammar is None and (leading or candidates):
            raise ValueError(
                "Leading tokens and candidates go with temperature 0: drawing may take any token."
            )
        sticky = stop == "each_row"
        if grammar is not None and not sticky:
            raise ValueError("An answer with a grammar ends where it says; stop must be 'each_row'.")
        if grammar is not None and candidates:
            raise ValueError("A grammar says which tokens there are; leave candidates out.")
        among = None
        if candidates:
            among = np.array(candidates, np.int32)
        elif grammar is not None and not temperature:
            among = grammar.action_ids()

        def pick(
            logits: Float[Array, "b _v"],
            step: Int32[Array, ""],
            ended: Bool[Array, " b"],
            spelled: Int32[Array, " b"],
            among: np.ndarray | None = None,
        ) -> tuple[Array, Array]:
            if grammar is not None:
                logits = grammar.considered(logits, spelled, among)
            if temperature:
                token = _draw(keys, step, logits / temperature)
            else:
                token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
            if among is not None:
                token = jnp.take(jnp.asarray(among), token)
            if grammar is not None:
                token, spelled = grammar.follow(token, step, spelled)
            return jnp.where(ended, 0, token) if sticky else token, spelled

        def go_on(carry: tuple) -> Bool[Array, ""]:
            _, _, _, step, ended, _ = carry
            return (step < max_tokens) & ~ended.all()

        def advance(carry: tuple, among: np.ndarray | None) -> tuple[tuple, Array | None]:
            prompt, token, tokens, step, ended, spelled = carry
            out: Array | None = None
            if among is None:
                logits, prompt = self.decode(prompt, token, step - 1)
            else:
                out, prompt = self.decode_out(prompt, token, step - 1)
                logits = self.transformer.logits(out, head)
            token, spelled = pick(logits, step, ended, spelled, among)
            at_end = token == END_TOKEN
            ended = (ended | at_end) if sticky else at_end
            return (prompt, token, _put(tokens, token, step), step + 1, ended, spelled), out

        leading = tuple(leading)[: max_tokens - 1]
        if leading:
            logits, prompt = self.read_with_leading(self.embed_prefix(batch), max_tokens, leading)
        else:
            logits, prompt = self.read_prompt(batch, max_tokens)
            logits = logits[:, None]
        rows = logits.shape[0]
        if is_doubled(self.config, rows):
            logits, prompt, keys = _doubled(logits, prompt, keys)
        tokens = jnp.zeros((logits.shape[0], max_tokens), jnp.int32)
        known = jnp.zeros((), jnp.int32)
        if leading:
            expected = np.array(leading, np.int32)
            if grammar is None:
                said = jnp.argmax(logits, axis=-1).astype(jnp.int32)[:, :-1]
            else:
                said = grammar.opening(len(leading))[None]
            # Rows share their slots, so all go back to the first word that one of them would not have said.
            same = (said == jnp.asarray(expected)[None]).all(axis=0)
            known = jnp.cumprod(same.astype(jnp.int32)).sum(dtype=jnp.int32)
            kept = jnp.arange(len(leading), dtype=jnp.int32) < known
            tokens = tokens.at[:, : len(leading)].set(jnp.where(kept, jnp.asarray(expected), 0)[None])
            prompt = _ending(prompt, prompt.cache.end - len(leading) + known)
        nobody, nothing = jnp.zeros(logits.shape[:1], jnp.bool_), jnp.zeros(logits.shape[:1], jnp.int32)
        token, spelled = pick(jax.lax.dynamic_index_in_dim(logits, known, 1, False), known, nobody, nothing)
        start = (prompt, token, _put(tokens, token, known), known + 1, token == END_TOKEN, spelled)
        head = None if among is None else jnp.take(self.transformer.token_table[...], among, axis=0)

        def generate(among: np.ndarray | None) -> Int32[Array, "b m"]:
            return jax.lax.while_loop(go_on, lambda carry: advance(carry, among)[0], start)[2]

        if not candidates:
            tokens = generate(among)[:rows]
            return GeneratedTokens(tokens, _lengths(tokens))

        def advance_and_keep(carry: tuple) -> tuple:
            state, outs = carry
            state, out = advance(state, among)
            assert out is not None
            at = (jnp.zeros((), jnp.int32), state[3] - 1, jnp.zeros((), jnp.int32))
            return state, jax.lax.dynamic_update_slice(outs, out[:, None], at)

        outs = jnp.zeros((*tokens.shape, self.transformer.width), jnp.dtype(self.config.dtype))
        state, outs = jax.lax.while_loop(lambda carry: go_on(carry[0]), advance_and_keep, (start, outs))
        right = self._are_best(outs, state[2], first=known + 1, end=state[3])
        tokens = jax.lax.cond(right, lambda: state[2], lambda: generate(None))[:rows]
        return GeneratedTokens(tokens, _lengths(tokens))

    def _are_best(
        self,
        outs: Float[Array, "b m d"],
        tokens: Int32[Array, "b m"],
        *,
        first: Int32[Array, ""],
        end: Int32[Array, ""],
    ) -> Bool[Array, ""]:
        """Whether each token at `first` or behind, up to a row's end, is the likeliest of all tokens.

        Several positions are looked at at a time: each time, the whole table is read.
        """
        batch, length, width = outs.shape
        together = max(1, min(length, CHECKED_AT_ONCE // batch))
        groups = -(-length // together)
        room = groups * together - length
        position = jnp.arange(length, dtype=jnp.int32)[None]
        counts = (position >= first) & (position < end) & (position <= _lengths(tokens)[:, None])
        outs = jnp.pad(outs, ((0, 0), (0, room), (0, 0))).reshape(batch, groups, together, width)
        tokens = jnp.pad(tokens, ((0, 0), (0, room))).reshape(batch, groups, together)
        counts = jnp.pad(counts, ((0, 0), (0, room))).reshape(batch, groups, together)

        def group(of: tuple) -> Bool[Array, ""]:
            outs, tokens, counts = of
            best = jnp.argmax(self.transformer.logits(outs), axis=-1).astype(jnp.int32)
            return jnp.where(counts, best == tokens, True).all()

        parts = (jnp.moveaxis(part, 1, 0) for part in (outs, tokens, counts))
        return jax.lax.map(group, tuple(parts)).all()

    def read_prompt(self, batch: ModelInput, max_tokens: int) -> tuple[Float[Array, "b v"], ReadPrompt]:
        """Read cameras and prompt, with room for `max_tokens` behind; returns the next token's logits."""
        return self.read(self.embed_prefix(batch), max_tokens)

    def read(self, prefix: Prefix, max_tokens: int) -> tuple[Float[Array, "b v"], ReadPrompt]:
        """`read_prompt` of embedded cameras and prompt."""
        out, prompt = self._read(prefix, max_tokens, ())
        return self.transformer.logits(out[:, -1]), prompt

    def read_with_leading(
        self, prefix: Prefix, max_tokens: int, leading: Sequence[int]
    ) -> tuple[Float[Array, "b n v"], ReadPrompt]:
        """`read` of the prompt and of the tokens that the answer may begin with.

        Returns:
          Logits of what follows the prompt and each of the tokens, n being one more than these.
        """
        out, prompt = self._read(prefix, max_tokens, leading)
        return self.transformer.logits(out[:, -1 - len(leading) :]), prompt

    def _read(
        self, prefix: Prefix, max_tokens: int, leading: Sequence[int]
    ) -> tuple[Float[Array, "b _t d"], ReadPrompt]:
        mask = block_mask(prefix.valid, prefix.starts_block)
        tokens, valid, mask = align_right(prefix.tokens, prefix.valid, mask)
        rows, slots = valid.shape
        cache = empty_cache(
            self.config.language,
            batch=rows,
            slots=slots + max_tokens,
            dtype=jnp.dtype(self.config.dtype),
            separate=self.config.unroll_layers,
            aligned=self.config.optimizations.aligned,
        )
        mask = jnp.pad(mask, ((0, 0), (0, 0), (0, cache.slots - slots)))
        positions = positions_of_valid(valid)
        if leading:
            ids = jnp.broadcast_to(jnp.asarray(np.array(leading, np.int32))[None], (rows, len(leading)))
            tokens = jnp.concatenate([tokens, self.transformer.embed(ids).astype(tokens.dtype)], axis=1)
            steps = [jnp.int32(step) for step in range(len(leading))]
            prompt = ReadPrompt(cache, valid)
            seen = jnp.stack([self._decode_mask(prompt, step) for step in steps], axis=1)
            mask = jnp.concatenate([mask, seen], axis=1)
            places = [self._decode_position(prompt, step)[:, None] for step in steps]
            positions = jnp.concatenate([positions, *places], axis=1)
        (out,), cache = self.transformer([tokens], positions, mask, cache, prompt=True)
        return out, ReadPrompt(cache, valid)

    def decode(
        self, prompt: ReadPrompt, token: Int32[Array, " b"], step: Int32[Array, ""]
    ) -> tuple[Float[Array, "b v"], ReadPrompt]:
        """Read the `step`-th generated token (0 is the first); returns the next token's logits."""
        out, prompt = self.decode_out(prompt, token, step)
        return self.transformer.logits(out), prompt

    def decode_out(
        self, prompt: ReadPrompt, token: Int32[Array, " b"], step: Int32[Array, ""]
    ) -> tuple[Float[Array, "b d"], ReadPrompt]:
        """`decode` up to the transformer's output, of which logits are made."""
        positions = self._decode_position(prompt, step)[:, None]
        mask = self._decode_mask(prompt, step)
        (out,), cache = self.transformer(
            [self.transformer.embed(token[:, None])], positions, mask[:, None], prompt.cache
        )
        return out[:, 0], ReadPrompt(cache, prompt.valid)

    def loss(self, batch: ModelInput) -> Float32[Array, " b"]:
        """Cross-entropy of the tokens in `token_loss_mask`, averaged within each row.

        Raises:
          ValueError: If the batch has no `token_loss_mask`.
        """
        return self.loss_and_outputs(batch)[0]

    def loss_and_outputs(self, batch: ModelInput) -> tuple[Float32[Array, " b"], Float32[Array, "b d"]]:
        """`loss`, and the mean of the outputs that predict each row's answer."""
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
        """One teacher-forced pass: outputs at text tokens 0..t-1, which predict text tokens 1..t.

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
        """Tokens of cameras and text."""
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
    """Roll every row so that its last valid token comes last; what was behind it comes first."""

    def align(tokens: Array, valid: Array, mask: Array) -> tuple[Array, Array, Array]:
        after_last = jnp.max(jnp.where(valid, jnp.arange(1, valid.shape[0] + 1, dtype=jnp.int32), 0))
        return (
            jnp.roll(tokens, -after_last, axis=0),
            jnp.roll(valid, -after_last),
            jnp.roll(mask, (-after_last, -after_last), axis=(0, 1)),
        )

    return jax.vmap(align)(tokens, valid, mask)


def is_doubled(config: ModelConfig, rows: int) -> bool:
    """Whether a batch is decoded as one of twice the rows; see `Optimizations.lone_rows_doubled`."""
    return rows == 1 and config.dtype == "bfloat16" and config.optimizations.lone_rows_doubled


def _doubled(
    logits: Float[Array, "1 n v"], prompt: ReadPrompt, keys: Array | None
) -> tuple[Float[Array, "2 n v"], ReadPrompt, Array | None]:
    """The same row twice."""

    def twice(slots: Array) -> Array:
        return jnp.repeat(slots, 2, axis=slots.ndim - 4)

    k, v = (jax.tree.map(twice, slots) for slots in (prompt.cache.k, prompt.cache.v))
    cache = KVCache(k, v, prompt.cache.end)
    both = ReadPrompt(cache, jnp.repeat(prompt.valid, 2, axis=0))
    return jnp.repeat(logits, 2, axis=0), both, None if keys is None else jnp.repeat(keys, 2, axis=0)


def _put(
    tokens: Int32[Array, "b m"], token: Int32[Array, " b"], step: Int32[Array, ""]
) -> Int32[Array, "b m"]:
    """One more token of every row."""
    return jax.lax.dynamic_update_slice(tokens, token[:, None], (jnp.zeros((), jnp.int32), step))


def _ending(prompt: ReadPrompt, end: Int32[Array, ""]) -> ReadPrompt:
    """The prompt with fewer slots in use."""
    return ReadPrompt(KVCache(prompt.cache.k, prompt.cache.v, end), prompt.valid)


def _draw(keys: Array, step: Int32[Array, ""], scores: Float[Array, "b v"]) -> Int32[Array, " b"]:
    def draw(key: Array, scores: Array) -> Array:
        return jax.random.categorical(jax.random.fold_in(key, step), scores.astype(jnp.float32))

    return jax.vmap(draw)(keys, scores).astype(jnp.int32)


def _lengths(tokens: Int32[Array, "b m"]) -> Int32[Array, " b"]:
    before_end = jnp.cumsum((tokens == END_TOKEN).astype(jnp.int32), axis=1) == 0
    return before_end.sum(axis=1, dtype=jnp.int32)
