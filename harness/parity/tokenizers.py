"""Prompts, action tokens and the learnt tokenizer against recordings of the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from simloop.harness.parity.comparison import ArrayComparison
from simloop.policies.inference.flat_jit import compiled
from simloop.policies.tokenizers import fast
from simloop.policies.tokenizers.binning import BinningTokenizer
from simloop.policies.tokenizers.fast import FastTokenizer
from simloop.policies.tokenizers.fast_actions import load_fast_actions, rounded_coefficients
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
from simloop.policies.tokenizers.sentencepiece_model import load_sentencepiece

FLOAT32 = 2e-5  # Of values up to about 5 that a few attention layers made.
DECODED = 1e-6
CHUNK = {"steps": 10, "size": 7}

Arrays = Mapping[str, np.ndarray]

# What the recorded learnt tokenizers are; their files hold arrays only.
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
CODEBOOKS: tuple[CodebookKind, ...] = ("fsq", "lfq", "custom")
CODEBOOK_SIZE, CODEBOOK_WIDTH = 256, 8


def checks(golden: Path) -> Iterator[ArrayComparison]:
    """Compare everything in `tokens.npz` (with `standin/`) and `fsq.npz` that is there."""
    if (golden / "tokens.npz").exists():
        with np.load(golden / "tokens.npz") as npz:
            arrays = dict(npz)
        yield from _prompts(arrays, golden)
        yield from _fast(arrays, golden)
        yield from _binning(arrays, golden)
    if (golden / "fsq.npz").exists():
        with np.load(golden / "fsq.npz") as npz:
            yield from _fsq(dict(npz))


def _prompts(arrays: Arrays, golden: Path) -> Iterator[ArrayComparison]:
    text_model = load_sentencepiece(golden / "standin" / "paligemma_tokenizer.model")
    yield _same("tokens/digitize", arrays["digitize/bin"], state_bins(arrays["digitize/x"]))
    for family, lengths, state in (("pi0", (48, 12), None), ("pi05", (200, 40), arrays["state"])):
        for length in lengths:
            ids = [encode_prompt(text_model, str(prompt), state) for prompt in arrays["prompts"]]
            rows = _rows(ids, [[] for _ in ids], length)
            for part in ("tokens", "mask"):
                name = f"{family}/L{length}/{part}"
                yield _same(f"tokens/{name}", arrays[name], rows[part])


def _rows(prompts: list[list[int]], answers: list[list[int]], length: int) -> dict[str, np.ndarray]:
    """Rows of prompts and answers, padded or cut to one length, with their masks."""
    pairs = list(zip(prompts, answers, strict=True))
    in_answer = [[False] * len(prompt) + [True] * len(answer) for prompt, answer in pairs]
    return {
        "tokens": np.stack([filled(prompt + answer, length) for prompt, answer in pairs]),
        "mask": np.stack([filled([True] * len(row), length, bool) for row in in_answer]),
        "ar_mask": np.stack([filled(row, length) for row in in_answer]),
        "loss_mask": np.stack([filled(row, length, bool) for row in in_answer]),
    }


def _fast(arrays: Arrays, golden: Path) -> Iterator[ArrayComparison]:
    text_model = load_sentencepiece(golden / "standin" / "paligemma_tokenizer.model")
    action_tokens = load_fast_actions(golden / "standin" / "fast")
    actions = arrays["fast/actions"]
    tokenizer = FastTokenizer(text_model, action_tokens)
    prompts = [fast.encode_prompt(text_model, str(prompt), arrays["state"]) for prompt in arrays["prompts"]]
    for length in (180, 60):
        for stage, answer in (("train", tokenizer.encode_answer(actions)), ("infer", [])):
            for part, got in _rows(prompts, [answer] * len(prompts), length).items():
                name = f"fast/L{length}/{stage}/{part}"
                yield _same(f"tokens/{name}", arrays[name], got)
    yield _same("tokens/fast/raw_ids", arrays["fast/raw_ids"], np.array(action_tokens.encode(actions)))
    coefficients = rounded_coefficients(actions, action_tokens.scale)
    yield _same("tokens/fast/dct_rounded", arrays["fast/dct_rounded"], coefficients)
    for given, name in (
        (arrays["fast/extract_in"], "extract_out"),
        (arrays["fast/extract_generated_in"], "extract_generated_out"),
        (arrays["fast/extract_bad_in"], "extract_bad_out"),
        (np.array(text_model.encode("No words of motion.")), "extract_no_action_out"),
    ):
        decoded = tokenizer.decode(given, **CHUNK, on_failure="zeros")
        yield _close(f"tokens/fast/{name}", arrays[f"fast/{name}"], decoded.actions)


def _binning(arrays: Arrays, golden: Path) -> Iterator[ArrayComparison]:
    text_model = load_sentencepiece(golden / "standin" / "paligemma_tokenizer.model")
    tokenizer = BinningTokenizer(text_model)
    prompt = fast.encode_prompt(text_model, str(arrays["prompts"][0]), arrays["state"])
    yield _same("tokens/binning/tokens", arrays["binning/tokens"], filled(prompt, 180))
    decoded = tokenizer.decode(arrays["binning/extract_in"], steps=2, size=8)
    yield _close("tokens/binning/extract_out", arrays["binning/extract_out"], decoded.actions)


def _fsq(arrays: Arrays) -> Iterator[ArrayComparison]:
    for name, config in FSQ_CASES.items():
        if f"{name}/in" not in arrays:
            continue
        tokenizer = nnx.eval_shape(lambda config=config: FsqTokenizer(config, rngs=nnx.Rngs(0)))
        load_parameters(tokenizer, _parameters(arrays, name))
        tokenize, detokenize, loss = (
            compiled(tokenizer, method)
            for method in (FsqTokenizer.tokenize, FsqTokenizer.detokenize, FsqTokenizer.loss)
        )
        actions = jnp.asarray(arrays[f"{name}/in"])
        state = jnp.asarray(arrays[f"{name}/obs"]) if f"{name}/obs" in arrays else None
        code = tokenize(actions, state)
        yield _same(f"fsq/{name}/bins_per_dim", arrays[f"{name}/bins_per_dim"], np.array(config.points))
        yield _same(f"fsq/{name}/tokens", arrays[f"{name}/tokens"], code.tokens)
        yield _float(f"fsq/{name}/z", arrays[f"{name}/z"], code.z)
        decoded = detokenize(jnp.asarray(arrays[f"{name}/tokens"]), state)
        yield _float(f"fsq/{name}/detok", arrays[f"{name}/detok"], decoded)
        yield _float(f"fsq/{name}/loss", arrays[f"{name}/loss"], np.array(loss(actions, state)))
    for kind in CODEBOOKS:
        name = f"codebook_{kind}"
        codebook = Codebook(CODEBOOK_WIDTH, grid_points(CODEBOOK_SIZE, kind), rngs=nnx.Rngs(0))
        load_parameters(codebook, _parameters(arrays, name))
        code = codebook.encode(jnp.asarray(arrays[f"{name}/in"]))
        yield _same(f"fsq/{name}/tokens", arrays[f"{name}/tokens"], code.tokens)
        yield _float(f"fsq/{name}/z", arrays[f"{name}/z"], code.z)
        slots = codebook.decode(jnp.asarray(arrays[f"{name}/tokens"]))
        yield _float(f"fsq/{name}/out", arrays[f"{name}/out"], slots)
    wanted = arrays["q_embed_init_4x64"]
    yield _float("fsq/q_embed_init", wanted, sinusoidal_positions(*wanted.shape))


def _parameters(arrays: Arrays, name: str) -> dict[str, np.ndarray]:
    prefix = f"{name}/params/"
    return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}


def _same(name: str, wanted: np.ndarray, got: Array | np.ndarray) -> ArrayComparison:
    return ArrayComparison(name, wanted, np.asarray(got), 0.0, "identical")


def _close(name: str, wanted: np.ndarray, got: Array | np.ndarray) -> ArrayComparison:
    return ArrayComparison(name, wanted, np.asarray(got), DECODED, "max")


def _float(name: str, wanted: np.ndarray, got: Array | np.ndarray) -> ArrayComparison:
    return ArrayComparison(name, wanted, np.asarray(got), FLOAT32, "max")
