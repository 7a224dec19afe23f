"""The transformer of the pi0 family in NumPy, one token and one head at a time, from parameters by published name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simloop.policies.models.configs import ModelConfig

LLM = "PaliGemma/llm"


@dataclass(frozen=True)
class Stream:
    """Tokens [t, d] of one expert, with the condition [d] of its adaptive norms."""

    tokens: np.ndarray
    condition: np.ndarray | None = None


def attention_weights(
    config: ModelConfig,
    params: Mapping[str, np.ndarray],
    streams: Sequence[Stream],
    positions: np.ndarray,
    mask: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [l, n, t, t] of every layer and head, float64, and the output [t, d] of the first expert.

    Args:
      positions: Of all tokens, in the order of the streams.
      mask: [t, t]; what each token sees.
    """
    x = [stream.tokens.astype(np.float64) for stream in streams]
    all_weights = []
    for layer in range(config.language.depth):
        parts = [_of(params, i, layer) for i in range(len(streams))]
        normed = [
            _norm(one, part, "pre_attention_norm", s.condition)
            for one, part, s in zip(x, parts, streams, strict=True)
        ]
        joined = [_heads(y, part) for (y, _), part in zip(normed, parts, strict=True)]
        q, k, v = (np.concatenate(both, axis=0) for both in zip(*joined, strict=True))
        weights, attended = _attend(_rotated(q, positions), _rotated(k, positions), v, mask)
        all_weights.append(weights)
        start = 0
        for i, (part, stream, (_, gate)) in enumerate(zip(parts, streams, normed, strict=True)):
            own = attended[start : start + len(x[i])]
            start += len(x[i])
            x[i] = x[i] + np.einsum("tnh,nhd->td", own, part["attn/attn_vec_einsum"]) * gate
            y, gate = _norm(x[i], part, "pre_ffw_norm", stream.condition)
            x[i] = x[i] + _mlp(y, part) * gate
    return np.stack(all_weights), x[0]


def _of(params: Mapping[str, np.ndarray], expert: int, layer: int) -> dict[str, np.ndarray]:
    """Weights of one expert in one layer."""
    suffix = f"_{expert}" if expert else ""
    found = {}
    for name, array in params.items():
        if not name.startswith(f"{LLM}/layers/"):
            continue
        module, *rest = name.removeprefix(f"{LLM}/layers/").split("/")
        inner = rest[0] if rest else ""
        head = inner if module == "attn" else module
        if head.endswith("_1") != bool(expert):
            continue
        short = (
            name.removeprefix(f"{LLM}/layers/").replace(head, head.removesuffix(suffix)).removesuffix("/w")
        )
        found[short] = array[layer].astype(np.float64)
    return found


def _norm(x, part, name, condition):
    """RMS norm of every token; returns it and the gate of the residual."""
    unit = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)
    if f"{name}/scale" in part:
        return unit * (1 + part[f"{name}/scale"]), 1.0
    scale, shift, gate = np.split(
        condition.astype(np.float64) @ part[f"{name}/Dense_0/kernel"] + part[f"{name}/Dense_0/bias"], 3
    )
    return unit * (1 + scale) + shift, gate


def _heads(x, part):
    k, v = np.einsum("td,ckdh->ctkh", x, part["attn/kv_einsum"])
    return np.einsum("td,ndh->tnh", x, part["attn/q_einsum"]), k, v


def _rotated(x, positions):
    """Rotary positions: pairs of the first and the second half of a head turn by position / 10000^(2i / width)."""
    half = x.shape[-1] // 2
    angle = positions[:, None, None] / 10_000.0 ** (2 * np.arange(half) / x.shape[-1])
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angle)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def _attend(q, k, v, mask):
    tokens, heads, width = q.shape
    weights, attended = np.zeros((heads, tokens, tokens)), np.zeros_like(q)
    for head in range(heads):
        of_key = head // (heads // k.shape[1])
        for token in range(tokens):
            seen = np.flatnonzero(mask[token])
            logits = k[seen, of_key] @ q[token, head] / np.sqrt(width)
            exponential = np.exp(logits - logits.max())
            weights[head, token, seen] = exponential / exponential.sum()
            attended[token, head] = weights[head, token] @ v[:, of_key]
    return weights, attended


def _mlp(x, part):
    gate, up = np.einsum("td,cdf->ctf", x, part["mlp/gating_einsum"])
    gelu = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
    return (gelu * up) @ part["mlp/linear"]
