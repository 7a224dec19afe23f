"""Comparisons of pi0-FAST."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from simloop.harness.parity.comparison import ArrayComparison, close, identical
from simloop.harness.parity.models import LOOP, Case, gradient_checks
from simloop.policies.inference.flat_jit import compiled
from simloop.policies.models.attention import block_mask
from simloop.policies.models.model_input import ModelInput
from simloop.policies.models.parameters import flatten, model_from
from simloop.policies.models.pi0_fast import END_TOKEN, GeneratedTokens, Pi0Fast, ReadPrompt, align_right

CLEAR_GAP = 1e-3
"""Difference of the two best float32 logits below which rounding may decide between them."""

TOKEN_TABLE = "PaliGemma/llm/embedder/input_embedding"


def checks(case: Case) -> Iterator[ArrayComparison]:
    """Compare embeddings, losses, alignment, generated tokens and gradients of one case."""
    batch, prompt = case.batch(), case.batch(prompt="in_prefix")
    yield from case.compare(compiled(case.model, _embedded)(batch))
    yield from case.compare(_losses(case, batch))
    yield from case.compare(compiled(case.model, _aligned)(prompt))
    for all_valid, suffix in ((False, ""), (True, "_all_cams_valid")):
        prompt = case.batch(prompt="in_prefix", all_cameras_valid=all_valid)
        check = _generated if case.precision == "f32" else _recorded_tokens_are_best
        yield from check(case, prompt, suffix)
    if case.precision == "f32":
        yield from _ended(case)
    yield from gradient_checks(case, Pi0Fast.loss, batch)


def _embedded(model: Pi0Fast, batch: ModelInput) -> dict[str, jax.Array]:
    prefix = model.embed_prefix(batch)
    return {
        "embed/tokens_lang": prefix.tokens[:, -batch.tokens.shape[1] :],
        "embed/tokens_img_base_0": prefix.tokens[:, : model.config.tokens_per_image],
        "embed/mask": prefix.valid,
        "embed/ar_mask": prefix.starts_block.astype(jnp.int32),
        "embed/attn_mask": block_mask(prefix.valid, prefix.starts_block),
    }


def _losses(case: Case, batch: ModelInput) -> dict[str, jax.Array]:
    def predict(model: Pi0Fast, batch: ModelInput) -> tuple[jax.Array, jax.Array, jax.Array]:
        outputs = model.predicting_outputs(batch)
        return model.loss(batch), outputs, model.transformer.logits(outputs)

    predict_batch = compiled(case.model, predict)
    loss, outputs, logits = predict_batch(batch)
    loss_all_valid, _, _ = predict_batch(case.batch(all_cameras_valid=True))
    return {
        "loss/loss": loss,
        "loss/loss_all_cams_valid": loss_all_valid,
        "loss/prelogits_text": outputs,
        "loss/logits_argmax": logits.argmax(axis=-1),
        "loss/logits_head": logits[:, ::7, :16],
    }


def _aligned(model: Pi0Fast, batch: ModelInput) -> dict[str, jax.Array]:
    prefix = model.embed_prefix(batch)
    mask = block_mask(prefix.valid, prefix.starts_block)
    tokens, valid, mask = align_right(prefix.tokens, prefix.valid, mask)
    return {
        "align/mask_before": prefix.valid,
        "align/mask_after": valid,
        "align/tokens_after_sum": tokens.astype(jnp.float32).sum(axis=-1),
        "align/attn_mask_after_rowsum": mask.sum(axis=-1),
    }


def _generated(case: Case, prompt: ModelInput, suffix: str) -> Iterator[ArrayComparison]:
    wanted = case.recorded[f"sample/tokens{suffix}"]
    steps = wanted.shape[1]
    got = np.asarray(_published_loop(case, steps)(prompt).tokens)
    clear = case.recorded[f"sample/step_top2_gap{suffix}"][:steps].T > CLEAR_GAP
    yield identical(case.label(f"sample/tokens{suffix}"), np.where(clear, wanted, 0), np.where(clear, got, 0))
    logits = _logits_along(case, prompt, wanted)
    best = np.sort(logits, axis=-1)
    along = {
        f"sample/first_logits{suffix}": logits[0],
        f"sample/step_logits_head{suffix}": logits[..., :16],
        f"sample/step_top2_gap{suffix}": best[..., -1] - best[..., -2],
    }
    yield from case.compare(along, limit=LOOP)


def _recorded_tokens_are_best(case: Case, prompt: ModelInput, suffix: str) -> Iterator[ArrayComparison]:
    """Compare the logits of the recorded tokens with the best logits.

    Rounding makes bfloat16 sequences diverge, after which they cannot be compared. The recorded sequence is therefore
    read along, and each of its tokens must have the best logit up to that rounding.
    """
    wanted = case.recorded[f"sample/tokens{suffix}"]
    logits = _logits_along(case, prompt, wanted)[: wanted.shape[1]]
    chosen = np.take_along_axis(logits, wanted.astype(np.int64).T[:, :, None], axis=-1)[:, :, 0]
    rounding = np.abs(case.recorded["loss/logits_head"] - case.recorded_f32["loss/logits_head"]).max()
    label = case.label(f"sample/tokens{suffix} (recorded against best logit)")
    yield close(label, logits.max(axis=-1), chosen, 2 * float(rounding))


def _logits_along(case: Case, prompt: ModelInput, tokens: np.ndarray) -> np.ndarray:
    """Return logits [m+1, b, v] before each of the given tokens [b, m] and after the last."""

    def along(model: Pi0Fast, prompt: ModelInput, tokens: jax.Array) -> jax.Array:
        first, read = model.read_prompt(prompt, tokens.shape[1])

        def step(read: ReadPrompt, at: tuple) -> tuple:
            token, index = at
            logits, read = model.decode(read, token, index)
            return read, logits

        steps = jnp.arange(tokens.shape[1], dtype=jnp.int32)
        _, rest = jax.lax.scan(step, read, (tokens.T, steps))
        return jnp.concatenate([first[None], rest])

    logits = compiled(case.model, along)(prompt, tokens.astype(np.int32))
    return np.asarray(logits).astype(np.float32)


def _ended(case: Case) -> Iterator[ArrayComparison]:
    """Compare decoding with an end token in mid sequence, whose row of the table is swapped with another row."""
    if "eos/swap_token" not in case.recorded:
        return
    flat = {name: np.array(value) for name, value in flatten(case.model).items()}
    pair = [END_TOKEN, int(case.recorded["eos/swap_token"])]
    flat[TOKEN_TABLE][pair] = flat[TOKEN_TABLE][pair[::-1]]
    model = model_from(case.config, flat)
    prompt = case.batch(prompt="in_prefix", all_cameras_valid=True)

    def loop(steps: int, rows: slice) -> jax.Array:
        part = jax.tree.map(lambda array: array[rows], prompt)
        sample = compiled(model, lambda model, batch: model.sample_tokens(batch, steps, stop="all_at_once"))
        return sample(part).tokens

    both = case.recorded["eos/tokens_batch2"]
    tokens = {
        "eos/tokens_batch2": loop(both.shape[1], slice(0, 2)),
        "eos/tokens_elem0": loop(both.shape[1], slice(0, 1)),
        "eos/tokens_elem1": loop(both.shape[1], slice(1, 2)),
        "eos/tokens_elem0_steps4": loop(4, slice(0, 1)),
    }
    for name, got in tokens.items():
        yield identical(case.label(name), case.recorded[name], got)


def _published_loop(case: Case, steps: int) -> Callable[[ModelInput], GeneratedTokens]:
    def sample(model: Pi0Fast, prompt: ModelInput) -> GeneratedTokens:
        return model.sample_tokens(prompt, steps, stop="all_at_once")

    return compiled(case.model, sample)
