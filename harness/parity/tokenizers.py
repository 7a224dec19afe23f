"""Comparisons of prompts, action tokens and the learned action tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from simloop.harness.parity.comparison import ArrayComparison, Arrays, below, close, identical, load_arrays
from simloop.policies.inference.flat_jit import compiled
from simloop.policies.tokenizers import fast
from simloop.policies.tokenizers.binning import BinningTokenizer
from simloop.policies.tokenizers.fast import FastTokenizer
from simloop.policies.tokenizers.fast_actions import (
    FastActionTokenizer,
    load_fast_actions,
    rounded_coefficients,
)
from simloop.policies.tokenizers.fsq import (
    Codebook,
    CodebookKind,
    FsqConfig,
    FsqTokenizer,
    grid_points,
    load_parameters,
    sinusoidal_positions,
)
from simloop.policies.tokenizers.paligemma import encode_prompt, filled
from simloop.policies.tokenizers.prompts import state_bins
from simloop.policies.tokenizers.sentencepiece_model import SentencePieceModel, load_sentencepiece

FLOAT32 = 2e-5
"""Limit of values up to about 5 after a few attention layers."""
DECODED = 1e-6
CHUNK = {"steps": 10, "size": 7}

FSQ_CASES = {
    "base": FsqConfig(
        embed_dim=64,
        data_dim=7,
        data_horizon=8,
        num_tokens=4,
        num_layers=2,
        target_codebook_size=1024,
        mlp_ratio=1.0,
    ),
    "causal": FsqConfig(
        embed_dim=128,
        data_dim=3,
        data_horizon=8,
        num_tokens=4,
        num_layers=1,
        target_codebook_size=256,
        causal=True,
        blocks_from="first_feature",
        mlp_ratio=0.5,
    ),
    "state_bound": FsqConfig(
        embed_dim=64,
        data_dim=7,
        data_horizon=6,
        num_tokens=6,
        num_layers=1,
        target_codebook_size=4096,
        bound=0.8,
        state_dim=5,
    ),
}
"""Configuration of each recorded learned tokenizer, whose file holds arrays only."""
CODEBOOKS: tuple[CodebookKind, ...] = ("fsq", "lfq", "custom")
CODEBOOK_SIZE, CODEBOOK_WIDTH = 256, 8


def checks(golden: Path) -> Iterator[ArrayComparison]:
    """Compare everything in `tokens.npz`, with the tokenizers in `standin/`, and in `fsq.npz`."""
    if arrays := load_arrays(golden / "tokens.npz"):
        text = load_sentencepiece(golden / "standin" / "paligemma_tokenizer.model")
        yield from _prompts(arrays, text)
        yield from _fast(arrays, text, load_fast_actions(golden / "standin" / "fast"))
        yield from _binning(arrays, text)
    if arrays := load_arrays(golden / "fsq.npz"):
        yield from _fsq(arrays)
        yield from _codebooks(arrays)


def _prompts(arrays: Arrays, text: SentencePieceModel) -> Iterator[ArrayComparison]:
    yield identical("tokens/digitize", arrays["digitize/bin"], state_bins(arrays["digitize/x"]))
    for family, lengths, state in (("pi0", (48, 12), None), ("pi05", (200, 40), arrays["state"])):
        for length in lengths:
            ids = [encode_prompt(text, str(prompt), state) for prompt in arrays["prompts"]]
            rows = _rows(ids, [[] for _ in ids], length)
            for part in ("tokens", "mask"):
                name = f"{family}/L{length}/{part}"
                yield identical(f"tokens/{name}", arrays[name], rows[part])


def _rows(prompts: list[list[int]], answers: list[list[int]], length: int) -> dict[str, np.ndarray]:
    """Return rows of prompts and answers, padded or truncated to one length, with their masks."""
    pairs = list(zip(prompts, answers, strict=True))
    in_answer = [[False] * len(prompt) + [True] * len(answer) for prompt, answer in pairs]
    return {
        "tokens": np.stack([filled(prompt + answer, length) for prompt, answer in pairs]),
        "mask": np.stack([filled([True] * len(row), length, bool) for row in in_answer]),
        "ar_mask": np.stack([filled(row, length) for row in in_answer]),
        "loss_mask": np.stack([filled(row, length, bool) for row in in_answer]),
    }


def _fast(
    arrays: Arrays, text: SentencePieceModel, action_tokens: FastActionTokenizer
) -> Iterator[ArrayComparison]:
    actions = arrays["fast/actions"]
    tokenizer = FastTokenizer(text, action_tokens)
    prompts = [fast.encode_prompt(text, str(prompt), arrays["state"]) for prompt in arrays["prompts"]]
    for length in (180, 60):
        for stage, answer in (("train", tokenizer.encode_answer(actions)), ("infer", [])):
            for part, got in _rows(prompts, [answer] * len(prompts), length).items():
                name = f"fast/L{length}/{stage}/{part}"
                yield identical(f"tokens/{name}", arrays[name], got)
    yield identical("tokens/fast/raw_ids", arrays["fast/raw_ids"], np.array(action_tokens.encode(actions)))
    coefficients = rounded_coefficients(actions, action_tokens.scale)
    yield identical("tokens/fast/dct_rounded", arrays["fast/dct_rounded"], coefficients)
    for given, name in (
        (arrays["fast/extract_in"], "extract_out"),
        (arrays["fast/extract_generated_in"], "extract_generated_out"),
        (arrays["fast/extract_bad_in"], "extract_bad_out"),
        (np.array(text.encode("No words of motion.")), "extract_no_action_out"),
    ):
        decoded = tokenizer.decode(given, **CHUNK, on_failure="zeros")
        yield close(f"tokens/fast/{name}", arrays[f"fast/{name}"], decoded.actions, DECODED)


def _binning(arrays: Arrays, text: SentencePieceModel) -> Iterator[ArrayComparison]:
    tokenizer = BinningTokenizer(text)
    prompt = fast.encode_prompt(text, str(arrays["prompts"][0]), arrays["state"])
    yield identical("tokens/binning/tokens", arrays["binning/tokens"], filled(prompt, 180))
    decoded = tokenizer.decode(arrays["binning/extract_in"], steps=2, size=8)
    yield close("tokens/binning/extract_out", arrays["binning/extract_out"], decoded.actions, DECODED)


def _fsq(arrays: Arrays) -> Iterator[ArrayComparison]:
    for name, config in FSQ_CASES.items():
        if f"{name}/in" not in arrays:
            continue
        tokenizer = nnx.eval_shape(lambda config=config: FsqTokenizer(config, rngs=nnx.Rngs(0)))
        load_parameters(tokenizer, below(arrays, f"{name}/params/"))
        tokenize, detokenize, loss = (
            compiled(tokenizer, method)
            for method in (FsqTokenizer.tokenize, FsqTokenizer.detokenize, FsqTokenizer.loss)
        )
        actions = jnp.asarray(arrays[f"{name}/in"])
        state = jnp.asarray(arrays[f"{name}/obs"]) if f"{name}/obs" in arrays else None
        code = tokenize(actions, state)
        yield identical(f"fsq/{name}/bins_per_dim", arrays[f"{name}/bins_per_dim"], config.points)
        yield identical(f"fsq/{name}/tokens", arrays[f"{name}/tokens"], code.tokens)
        yield close(f"fsq/{name}/z", arrays[f"{name}/z"], code.z, FLOAT32)
        decoded = detokenize(jnp.asarray(arrays[f"{name}/tokens"]), state)
        yield close(f"fsq/{name}/detok", arrays[f"{name}/detok"], decoded, FLOAT32)
        yield close(f"fsq/{name}/loss", arrays[f"{name}/loss"], loss(actions, state), FLOAT32)


def _codebooks(arrays: Arrays) -> Iterator[ArrayComparison]:
    for kind in CODEBOOKS:
        name = f"codebook_{kind}"
        codebook = Codebook(CODEBOOK_WIDTH, grid_points(CODEBOOK_SIZE, kind), rngs=nnx.Rngs(0))
        load_parameters(codebook, below(arrays, f"{name}/params/"))
        code = codebook.encode(jnp.asarray(arrays[f"{name}/in"]))
        yield identical(f"fsq/{name}/tokens", arrays[f"{name}/tokens"], code.tokens)
        yield close(f"fsq/{name}/z", arrays[f"{name}/z"], code.z, FLOAT32)
        slots = codebook.decode(jnp.asarray(arrays[f"{name}/tokens"]))
        yield close(f"fsq/{name}/out", arrays[f"{name}/out"], slots, FLOAT32)
    wanted = arrays["q_embed_init_4x64"]
    yield close("fsq/q_embed_init", wanted, sinusoidal_positions(*wanted.shape), FLOAT32)
