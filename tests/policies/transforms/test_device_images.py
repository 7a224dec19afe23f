import jax.numpy as jnp
import numpy as np
import pytest

from simloop.policies.transforms import device_images
from simloop.policies.transforms.preprocessing import resize_with_pad

IMAGE = np.random.default_rng(0).integers(0, 255, (45, 80, 3)).astype(np.uint8)

pytestmark = pytest.mark.usefixtures("strict_promotion")


def test_host_and_device_differ_by_one_grey_level_at_most():
    on_device = np.asarray(device_images.resize_with_pad(jnp.asarray(IMAGE), 32, 48)).astype(int)
    assert np.abs(on_device - resize_with_pad(IMAGE, 32, 48)).max() <= 1


def test_float_images_are_padded_with_black():
    white = jnp.ones((2, 10, 20, 3), jnp.float32)
    resized = np.asarray(device_images.resize_with_pad(white, 20, 20))
    np.testing.assert_allclose(resized[:, 5:15], 1.0)
    np.testing.assert_array_equal(resized[:, :5], -1.0)


def test_rejects_other_dtypes():
    with pytest.raises(TypeError, match="int32"):
        device_images.resize_with_pad.__wrapped__(jnp.zeros((4, 4, 3), jnp.int32), 2, 2)
