"""Writes parameters as PyTorch ports of the models hold them, one tensor at a time and in plain numpy.

Written from what the modules of Hugging Face compute (`y = x @ weight.T + bias`, heads one after the
other along the flattened axis), independently of the table that the loader uses.
"""

from collections.abc import Mapping

import numpy as np

VLM = "paligemma_with_expert.paligemma."
VISION = VLM + "model.vision_tower.vision_model."
LANGUAGE = VLM + "model.language_model."
EXPERT = "paligemma_with_expert.gemma_expert.model."


def torch_tensors(flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All tensors that belong to parameters by published name; the token table under its own name."""
    tensors: dict[str, np.ndarray] = {}
    image = {name.removeprefix("PaliGemma/img/"): a for name, a in flat.items() if "/img/" in name}
    tensors[VISION + "embeddings.patch_embedding.weight"] = np.einsum("yxcd->dcyx", image["embedding/kernel"])
    tensors[VISION + "embeddings.patch_embedding.bias"] = image["embedding/bias"]
    tensors[VISION + "embeddings.position_embedding.weight"] = image["pos_embedding"][0]
    tensors[VISION + "post_layernorm.weight"] = image["Transformer/encoder_norm/scale"]
    tensors[VISION + "post_layernorm.bias"] = image["Transformer/encoder_norm/bias"]
    tensors[VLM + "model.multi_modal_projector.linear.weight"] = image["head/kernel"].T
    tensors[VLM + "model.multi_modal_projector.linear.bias"] = image["head/bias"]
    block = {
        name.removeprefix("Transformer/encoderblock/"): a
        for name, a in image.items()
        if "encoderblock" in name
    }
    attention = "MultiHeadDotProductAttention_0"
    for i in range(len(block["LayerNorm_0/scale"])):
        layer = f"{VISION}encoder.layers.{i}."
        for ours, theirs in (("LayerNorm_0", "layer_norm1"), ("LayerNorm_1", "layer_norm2")):
            tensors[f"{layer}{theirs}.weight"] = block[f"{ours}/scale"][i]
            tensors[f"{layer}{theirs}.bias"] = block[f"{ours}/bias"][i]
        for ours, theirs in (("Dense_0", "fc1"), ("Dense_1", "fc2")):
            tensors[f"{layer}mlp.{theirs}.weight"] = block[f"MlpBlock_0/{ours}/kernel"][i].T
            tensors[f"{layer}mlp.{theirs}.bias"] = block[f"MlpBlock_0/{ours}/bias"][i]
        for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
            kernel = block[f"{attention}/{ours}/kernel"][i]
            heads = [kernel[:, head, :].T for head in range(kernel.shape[1])]
            tensors[f"{layer}self_attn.{theirs}.weight"] = np.concatenate(heads)
            tensors[f"{layer}self_attn.{theirs}.bias"] = np.concatenate(
                list(block[f"{attention}/{ours}/bias"][i])
            )
        out = block[f"{attention}/out/kernel"][i]
        tensors[f"{layer}self_attn.out_proj.weight"] = np.concatenate(list(out)).T
        tensors[f"{layer}self_attn.out_proj.bias"] = block[f"{attention}/out/bias"][i]

    llm = {name.removeprefix("PaliGemma/llm/"): a for name, a in flat.items() if "/llm/" in name}
    tensors[LANGUAGE + "embed_tokens.weight"] = llm["embedder/input_embedding"]
    for suffix, module in (("", LANGUAGE), ("_1", EXPERT)):
        if f"layers/mlp{suffix}/linear" not in llm:
            continue
        for i in range(len(llm[f"layers/mlp{suffix}/linear"])):
            layer = f"{module}layers.{i}."
            query = llm[f"layers/attn/q_einsum{suffix}/w"][i]
            key, value = llm[f"layers/attn/kv_einsum{suffix}/w"][i]
            for theirs, heads in (("q_proj", query), ("k_proj", key), ("v_proj", value)):
                tensors[f"{layer}self_attn.{theirs}.weight"] = np.concatenate([head.T for head in heads])
            out = llm[f"layers/attn/attn_vec_einsum{suffix}/w"][i]
            tensors[f"{layer}self_attn.o_proj.weight"] = np.concatenate(list(out)).T
            gate, up = llm[f"layers/mlp{suffix}/gating_einsum"][i]
            tensors[f"{layer}mlp.gate_proj.weight"] = gate.T
            tensors[f"{layer}mlp.up_proj.weight"] = up.T
            tensors[f"{layer}mlp.down_proj.weight"] = llm[f"layers/mlp{suffix}/linear"][i].T
            for ours, theirs in (
                (f"layers/pre_attention_norm{suffix}", "input_layernorm"),
                (f"layers/pre_ffw_norm{suffix}", "post_attention_layernorm"),
            ):
                norm = {name: llm[f"{ours}/{name}"][i] for name in _norm_names(llm, ours)}
                tensors |= _norm(f"{layer}{theirs}", norm)
        ours = f"final_norm{suffix}"
        tensors |= _norm(f"{module}norm", {name: llm[f"{ours}/{name}"] for name in _norm_names(llm, ours)})

    for name, array in flat.items():
        if name.startswith("PaliGemma/"):
            continue
        module, kind = name.split("/")
        tensors[f"{module}.{'weight' if kind == 'kernel' else 'bias'}"] = array.T
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def _norm_names(llm: Mapping[str, np.ndarray], norm: str) -> list[str]:
    return [name.removeprefix(f"{norm}/") for name in llm if name.startswith(f"{norm}/")]


def _norm(module: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if "scale" in arrays:
        return {f"{module}.weight": arrays["scale"]}
    return {
        f"{module}.dense.weight": arrays["Dense_0/kernel"].T,
        f"{module}.dense.bias": arrays["Dense_0/bias"],
    }
