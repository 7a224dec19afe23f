import jax
import jax.numpy as jnp
import numpy as np

from simloop.policies.models.model_input import image_as_float


def test_every_grey_level_is_the_same_number_compiled_or_not():
    levels = np.arange(2 * 8 * 16 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 8, 16, 3)
    wanted = levels.astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1)
    assert set(np.unique(levels)) == set(range(256))
    np.testing.assert_array_equal(image_as_float(levels), wanted)
    np.testing.assert_array_equal(jax.jit(image_as_float)(levels), wanted)
    assert wanted.min() == -1
    assert wanted.max() == 1


def test_float_images_pass_as_they_are():
    image = np.full((1, 2, 2, 3), 0.3, np.float32)
    np.testing.assert_array_equal(image_as_float(image), image)
    assert image_as_float(jnp.asarray(image)).dtype == jnp.float32
