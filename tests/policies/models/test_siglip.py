import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from simloop.policies.models.parameters import flatten, named_leaves, restored
from simloop.policies.models.siglip import ImageEncoder, resample_positions, sincos_2d
from tests.helpers.small_models import IMAGES, relative

pytestmark = pytest.mark.usefixtures("strict_promotion")

SIZE, OUTPUT = (28, 42), 10
"""2 × 3 patches."""


def abstract(config, hw=SIZE):
    return nnx.eval_shape(
        lambda: ImageEncoder(config, image_hw=hw, output_width=OUTPUT, dtype=jnp.float32, rngs=nnx.Rngs(0))
    )


def weights(config, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal(leaf.shape).astype(np.float32) / 4
        for name, leaf in named_leaves(nnx.state(abstract(config)), at="image_encoder")
    }


def encode(config, flat, images):
    return nnx.jit(ImageEncoder.__call__)(restored(abstract(config), flat, at="image_encoder"), images)


@pytest.fixture
def images():
    return jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (2, *SIZE, 3)), jnp.float32)


def test_every_patch_has_a_token_in_row_major_order(images):
    flat = weights(IMAGES)
    result = encode(IMAGES, flat, images)
    assert result.out.shape == (2, 6, OUTPUT)
    patch = np.asarray(images)[0, 14:28, 28:42]
    kernel, bias = flat["PaliGemma/img/embedding/kernel"], flat["PaliGemma/img/embedding/bias"]
    positions = flat["PaliGemma/img/pos_embedding"][0, 5]
    wanted = np.einsum("yxc,yxcd->d", patch, kernel) + bias + positions
    np.testing.assert_allclose(result.with_positions[0, 5], wanted, atol=2e-5)


def test_stacked_blocks_equal_separate_ones(images):
    separate = dataclasses.replace(IMAGES, stacked=False)
    flat = weights(IMAGES)
    block = "PaliGemma/img/Transformer/encoderblock"
    unstacked = {name: value for name, value in flat.items() if block not in name}
    for name, value in flat.items():
        if block in name:
            unstacked |= {name.replace(block, f"{block}_{i}"): layer for i, layer in enumerate(value)}
    assert relative(encode(separate, unstacked, images).out, encode(IMAGES, flat, images).out) < 1e-6


def test_gap_is_the_mean_of_the_tokens(images):
    flat = weights(IMAGES)
    pooled = encode(dataclasses.replace(IMAGES, pooling="gap"), flat, images).out
    np.testing.assert_allclose(pooled, encode(IMAGES, flat, images).out.mean(axis=1), atol=2e-5)


def test_map_pooling_is_published_under_its_name_and_ignores_the_order_of_tokens(images):
    config = dataclasses.replace(IMAGES, pooling="map")
    flat = weights(config)
    head = "PaliGemma/img/MAPHead_0"
    assert {f"{head}/probe", f"{head}/MultiHeadDotProductAttention_0/query/kernel"} <= set(flat)
    encoder = restored(abstract(config), flat, at="image_encoder")
    tokens = jnp.asarray(np.random.default_rng(2).standard_normal((2, 6, IMAGES.width)), jnp.float32)
    np.testing.assert_allclose(encoder.pooling(tokens), encoder.pooling(tokens[:, ::-1]), atol=2e-5)
    assert encode(config, flat, images).out.shape == (2, OUTPUT)


def test_a_class_token_is_not_among_the_encoded_patches(images):
    config = dataclasses.replace(IMAGES, pooling="tok")
    result = encode(config, weights(config), images)
    assert result.out.shape == (2, OUTPUT)
    assert result.encoded.shape == (2, 6, IMAGES.width)


def test_fixed_positions_tell_rows_from_columns():
    table = np.asarray(sincos_2d(3, 4, 16))[0].reshape(3, 4, 16)
    np.testing.assert_array_equal(table[0, :, :8], table[2, :, :8])
    np.testing.assert_array_equal(table[:, 0, 8:], table[:, 3, 8:])
    assert len({row.tobytes() for row in table.reshape(12, 16)}) == 12


def test_resampled_positions_keep_what_is_linear_inside_and_the_old_grid():
    ramp = jnp.arange(4.0)[None, :, None] * jnp.ones((1, 4, 1))
    grid = jnp.broadcast_to(ramp.reshape(1, 4, 1, 1), (1, 4, 4, 2)).reshape(1, 16, 2)
    np.testing.assert_array_equal(resample_positions(grid, (4, 4), (4, 4)), grid)
    finer = resample_positions(grid, (4, 4), (8, 8)).reshape(8, 8, 2)
    np.testing.assert_allclose(finer[1:-1, 3, 0], np.arange(0.25, 3.0, 0.5), atol=1e-6)


def test_an_encoder_for_another_image_size_takes_resampled_positions(images):
    flat = weights(IMAGES)
    name = "PaliGemma/img/pos_embedding"
    larger = abstract(IMAGES, (56, 84))
    flat[name] = np.asarray(resample_positions(jnp.asarray(flat[name]), (2, 3), larger.grid))
    encoder = restored(larger, flat, at="image_encoder")
    assert set(flatten(encoder)) != set()
    result = nnx.jit(ImageEncoder.__call__)(encoder, jnp.tile(images, (1, 2, 2, 1)))
    assert result.out.shape == (2, 24, OUTPUT)
