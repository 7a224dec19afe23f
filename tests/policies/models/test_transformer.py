import jax.numpy as jnp
import numpy as np
import pytest

from simloop.policies.models.kv_cache import empty_cache
from simloop.policies.models.parameters import model_from
from tests.helpers.small_models import random_flat, relative, run, small_config, small_model

pytestmark = pytest.mark.usefixtures("strict_promotion")

ROWS, TOKENS, READ = 2, 6, 4


def full_and_cached(model, x):
    transformer, config = model.transformer, model.config
    positions = jnp.broadcast_to(jnp.arange(TOKENS, dtype=jnp.int32)[None], (ROWS, TOKENS))
    causal = jnp.broadcast_to(jnp.tri(TOKENS, dtype=jnp.bool_)[None], (ROWS, TOKENS, TOKENS))
    (full,), nothing = transformer([x], positions, causal)
    assert nothing is None
    cache = empty_cache(config.language, batch=ROWS, slots=TOKENS, dtype=jnp.dtype(config.dtype))
    outs = []
    for start, end in ((0, READ), *((t, t + 1) for t in range(READ, TOKENS))):
        new = slice(start, end)
        (out,), cache = transformer([x[:, new]], positions[:, new], causal[:, new], cache)
        outs.append(out)
    return full.astype(jnp.float32), jnp.concatenate(outs, axis=1).astype(jnp.float32), cache.end


@pytest.mark.parametrize(
    ("dtype", "rope_dtype", "limit"),
    [("float32", "activation", 2e-6), ("bfloat16", "activation", 2e-2), ("bfloat16", "float32", 2e-2)],
)
def test_cached_decoding_equals_full_forward(dtype, rope_dtype, limit):
    config = small_config("pi0_fast", dtype=dtype, rope_dtype=rope_dtype)
    x = np.random.default_rng(0).standard_normal((ROWS, TOKENS, config.language.width))
    full, cached, end = run(small_model(config), full_and_cached, jnp.asarray(x, jnp.dtype(dtype)))
    assert int(end) == TOKENS
    assert relative(cached, full) < limit


def test_writing_leaves_the_given_cache_as_it_was():
    config = small_config("pi0")
    transformer = model_from(config, random_flat(config)).transformer
    cache = empty_cache(config.language, batch=1, slots=3, dtype=jnp.float32)
    x = jnp.ones((1, 2, config.language.width))
    mask = jnp.zeros((1, 2, 3), jnp.bool_).at[:, :, :2].set(True)
    _, written = transformer([x, None], jnp.array([[0, 1]]), mask, cache)
    assert not cache.k.any()
    assert written.k[:, :, :2].all()
    assert not written.k[:, :, 2].any()


def test_embedded_tokens_are_scaled_in_the_dtype_of_the_table():
    config = small_config("pi0_fast", dtype="float32")
    flat = random_flat(config)
    transformer = model_from(config, flat, dtype="bfloat16").transformer
    table = jnp.asarray(flat["PaliGemma/llm/embedder/input_embedding"], jnp.bfloat16)
    scale = jnp.asarray(np.sqrt(config.language.width), jnp.bfloat16)
    got = transformer.embed(jnp.array([[5, 7]]))
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got[0], (table[jnp.array([5, 7])] * scale).astype(jnp.float32))
