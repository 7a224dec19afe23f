"""Comparisons of single functions and modules of the networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from simloop.harness.parity.comparison import ONE_PASS, ArrayComparison, Arrays, below, identical, load_arrays
from simloop.policies.models.attention import block_mask, rotate, rotation
from simloop.policies.models.configs import GemmaConfig, LoraConfig
from simloop.policies.models.experts import GatedMlp
from simloop.policies.models.flow_matching import embed_time, training_times
from simloop.policies.models.norms import AdaptiveRMSNorm, RMSNorm
from simloop.policies.models.parameters import restored
from simloop.policies.models.pi0_fast import align_right
from simloop.policies.models.projections import Einsum

BF16_ROUNDING = 2.0**-9
"""Half a unit in the last place of bfloat16, relative: the effect of a tie in float32 rounding."""


def checks(golden: Path) -> Iterator[ArrayComparison]:
    """Compare everything in `units.npz` that exists here as a function or module."""
    recorded = load_arrays(golden / "units.npz")
    if not recorded:
        return
    computed = {
        **_time(recorded),
        **_rotary(recorded),
        **_norms(recorded),
        **_masks(recorded),
        **_adapters(recorded, "plain", LoraConfig(rank=2, alpha=6.0)),
        **_adapters(recorded, "rs", LoraConfig(rank=2, alpha=6.0, rslora=True)),
    }
    for name, got in computed.items():
        wanted = recorded[name]
        if wanted.dtype.kind == "b":
            yield identical(f"units/{name}", wanted, got)
        else:
            limit = ONE_PASS if got.dtype == jnp.float32 else BF16_ROUNDING
            yield ArrayComparison(f"units/{name}", wanted, np.asarray(got).astype(np.float32), limit)


def _time(recorded: Arrays) -> dict[str, jax.Array]:
    time = jnp.asarray(recorded["posemb_sincos/pos"])
    key = jax.random.wrap_key_data(jnp.asarray(recorded["time/beta_draw_key"]))
    return {
        "posemb_sincos/out_64": embed_time(time, 64),
        "posemb_sincos/out_1024": embed_time(time, 1024),
        "time/beta_draw": training_times(key, recorded["time/beta_draw"].shape[0]),
        "time/normal_draw": jax.random.normal(key, recorded["time/normal_draw"].shape),
    }


def _rotary(recorded: Arrays) -> dict[str, jax.Array]:
    x = jnp.asarray(recorded["rope/x"])
    by = rotation(jnp.asarray(recorded["rope/positions"]), x.shape[-1])
    return {
        "rope/out_f32": rotate(x, by),
        "rope/out_bf16": rotate(x.astype(jnp.bfloat16), by).astype(jnp.bfloat16),
        "rope/out_fast_from_bf16": rotate(x.astype(jnp.bfloat16), by),
    }


def _norms(recorded: Arrays) -> dict[str, jax.Array]:
    x, condition = jnp.asarray(recorded["rmsnorm/x"]), jnp.asarray(recorded["adarms/cond"])
    bf16 = jnp.bfloat16
    plain = {"norm/scale": recorded["rmsnorm/scale"]}
    adaptive = {f"norm/Dense_0/{name}": recorded[f"adarms/{name}"] for name in ("kernel", "bias")}

    def norm(kind: type, flat: Arrays, dtype: Any = None) -> Any:
        abstract = nnx.eval_shape(lambda: kind(x.shape[-1], rngs=nnx.Rngs(0)))
        return restored(abstract, flat, at="norm", dtype=dtype)

    out: dict[str, jax.Array] = {}
    out["rmsnorm/out_f32"], _ = norm(RMSNorm, plain)(x)
    out["rmsnorm/out_bf16x"], _ = norm(RMSNorm, plain)(x.astype(bf16))
    out["rmsnorm/out_bf16x_bf16scale"], _ = norm(RMSNorm, plain, bf16)(x.astype(bf16))
    for name, given, dtype in (
        ("f32", x, None),
        ("bf16x", x.astype(bf16), None),
        ("bf16all", x.astype(bf16), bf16),
    ):
        out[f"adarms/out_{name}"], out[f"adarms/gate_{name}"] = norm(AdaptiveRMSNorm, adaptive, dtype)(
            given, condition[:, None]
        )
    return out


def _masks(recorded: Arrays) -> dict[str, jax.Array]:
    valid = jnp.asarray(recorded["attn_mask/input_mask"])
    starts = np.broadcast_to(recorded["attn_mask/ar"][None], valid.shape)
    tokens, aligned, mask = align_right(
        *(jnp.asarray(recorded[f"ltr/{name}"]) for name in ("x", "mask", "attn"))
    )
    return {
        "attn_mask/out": block_mask(valid, jnp.asarray(starts)),
        "ltr/x_out": tokens,
        "ltr/mask_out": aligned,
        "ltr/attn_out": mask,
    }


def _adapters(recorded: Arrays, kind: str, lora: LoraConfig) -> dict[str, jax.Array]:
    x = jnp.asarray(recorded["lora/x"])

    def einsum(name: str, equation: str, x: jax.Array) -> jax.Array:
        flat = {f"einsum/{part}": recorded[f"{name}/{part}"] for part in ("w", "lora_a", "lora_b")}
        shape = flat["einsum/w"].shape
        abstract = nnx.eval_shape(
            lambda: Einsum(
                equation,
                shape,
                kernel_init=nnx.initializers.zeros_init(),
                rngs=nnx.Rngs(0),
                lora_rank=lora.rank,
                lora_scaling=lora.scaling,
            )
        )
        return restored(abstract, flat, at="einsum")(x)

    name = f"lora_out_einsum_{kind}"
    return {
        f"lora_einsum_{kind}/out": einsum(f"lora_einsum_{kind}", "btd,ckdh->cbtkh", x),
        f"{name}/out": einsum(name, "btnh,nhd->btd", jnp.asarray(recorded[f"{name}/x"])),
        f"lora_ffn_{kind}/out": _gated_mlp(recorded, f"lora_ffn_{kind}", lora)(x),
    }


def _gated_mlp(recorded: Arrays, name: str, lora: LoraConfig) -> GatedMlp:
    hidden, width = recorded[f"{name}/linear"].shape
    config = GemmaConfig(
        width=width, depth=1, mlp_dim=hidden, num_heads=1, num_kv_heads=1, head_dim=2, lora=lora
    )
    parts = below(recorded, f"{name}/")
    flat = {f"PaliGemma/llm/layers/mlp/{part}": array for part, array in parts.items() if part != "out"}
    abstract = nnx.eval_shape(lambda: GatedMlp(config, rngs=nnx.Rngs(0)))
    return restored(abstract, flat, at="transformer/experts/0/layers/mlp")
