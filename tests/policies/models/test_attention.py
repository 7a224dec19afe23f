import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simloop.policies.models import attention
from simloop.policies.models.attention import attend, attend_in_place, block_mask, rotate, rotation

pytestmark = pytest.mark.usefixtures("strict_promotion")


def test_attention_equals_a_loop_over_queries_and_heads():
    rng = np.random.default_rng(0)
    q = rng.standard_normal((2, 5, 6, 4)).astype(np.float32)
    k, v = rng.standard_normal((2, 2, 7, 3, 4)).astype(np.float32)
    mask = rng.random((2, 5, 7)) < 0.6
    mask[:, :, 0] = True
    wanted = np.zeros_like(q)
    for b, t, n in np.ndindex(2, 5, 6):
        kv = n // 2  # Query heads are grouped contiguously: 6 heads share 3 key heads.
        logits = k[b, mask[b, t], kv] @ q[b, t, n]
        weights = np.exp(logits - logits.max())
        wanted[b, t, n] = weights @ v[b, mask[b, t], kv] / weights.sum()
    got = attend(jnp.asarray(q), jnp.asarray(k), jnp.asarray(v), jnp.asarray(mask))
    np.testing.assert_allclose(got, wanted, atol=2e-6)


def test_a_query_that_sees_nothing_gets_the_mean_and_no_nan():
    v = jnp.arange(12.0).reshape(1, 3, 1, 4)
    q = k = jnp.ones((1, 3, 1, 4))
    out = attend(q, k, v, jnp.zeros((1, 3, 3), jnp.bool_))
    np.testing.assert_allclose(out[0, 0, 0], v[0, :, 0].mean(axis=0))


@pytest.mark.parametrize("at_once", [1, 10**9])
@pytest.mark.parametrize(("dtype", "limit"), [("float32", 1e-6), ("bfloat16", 1e-2)])
def test_attending_in_place_changes_rounding_only(monkeypatch, at_once, dtype, limit):
    monkeypatch.setattr(attention, "LOGITS_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    q = jnp.asarray(rng.standard_normal((3, 5, 6, 4)), dtype)
    k, v = jnp.asarray(rng.standard_normal((2, 3, 7, 2, 4)), dtype)
    mask = rng.random((3, 5, 7)) < 0.6
    mask[0, 0] = False
    wanted = np.asarray(attend(q, k, v, jnp.asarray(mask)), np.float32)
    got = attend_in_place(q, k, v, jnp.asarray(mask))
    assert got.dtype == q.dtype
    np.testing.assert_allclose(np.asarray(got, np.float32), wanted, atol=limit)


@pytest.mark.parametrize("at_once", [1, 10**9])
def test_gradients_are_those_of_the_plain_form(monkeypatch, at_once):
    monkeypatch.setattr(attention, "LOGITS_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.standard_normal((3, 5, heads, 4)), jnp.float32) for heads in (6, 2, 2))
    mask = jnp.asarray(rng.random((3, 5, 5)) < 0.6)

    def gradients(attending):
        return jax.grad(lambda *of: jnp.square(attending(*of, mask)).sum(), argnums=(0, 1, 2))(q, k, v)

    for got, wanted in zip(gradients(attend_in_place), gradients(attend), strict=True):
        np.testing.assert_allclose(got, wanted, atol=2e-5)


def test_a_token_sees_valid_tokens_of_its_block_and_of_earlier_ones():
    valid = np.array([[1, 1, 0, 1, 1, 1]], np.bool_)
    starts = np.array([[0, 0, 0, 1, 1, 0]], np.bool_)
    block = [0, 0, 0, 1, 2, 2]
    mask = np.asarray(block_mask(jnp.asarray(valid), jnp.asarray(starts)))
    for query in range(6):
        for key in range(6):
            wanted = valid[0, query] and valid[0, key] and block[key] <= block[query]
            assert mask[0, query, key] == wanted


def test_all_starts_is_causal_and_no_start_is_full():
    valid = jnp.ones((1, 4), jnp.bool_)
    np.testing.assert_array_equal(block_mask(valid, jnp.ones((1, 4), jnp.bool_))[0], np.tri(4, dtype=bool))
    assert block_mask(valid, jnp.zeros((1, 4), jnp.bool_)).all()


def test_rotated_products_depend_on_the_distance_only():
    rng = np.random.default_rng(1)
    q, k = (jnp.asarray(rng.standard_normal((1, 1, 1, 8)), jnp.float32) for _ in range(2))

    def product(q_at: int, k_at: int) -> jax.Array:
        rotated = (rotate(x, rotation(jnp.full((1, 1), at), 8)) for x, at in ((q, q_at), (k, k_at)))
        return jnp.sum(next(rotated) * next(rotated))

    np.testing.assert_allclose(product(3, 1), product(103, 101), rtol=1e-4)
    assert abs(product(3, 1) - product(3, 2)) > 1e-2


def test_position_0_is_not_rotated():
    x = jnp.asarray(np.random.default_rng(2).standard_normal((1, 1, 2, 8)), jnp.float32)
    np.testing.assert_array_equal(rotate(x, rotation(jnp.zeros((1, 1), jnp.int32), 8)), x)


def test_a_rotated_sum_in_bfloat16_is_rounded_before_it_is_rotated():
    """Also where one compilation sees both, as behind a projection with an adapter."""
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.standard_normal((2, 5, 3, 16)), jnp.bfloat16) for _ in range(2))
    by = rotation(jnp.broadcast_to(jnp.arange(5, dtype=jnp.int32)[None], (2, 5)), 16)
    got = jax.jit(lambda x, y: rotate(x + y, by))(x, y)
    np.testing.assert_allclose(got, rotate(jnp.add(x, y), by), atol=1e-6)
