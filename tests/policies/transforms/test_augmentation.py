import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simloop.policies.transforms import augmentation
from simloop.policies.transforms.augmentation import PUBLISHED, Augmentation

pytestmark = pytest.mark.usefixtures("strict_promotion")

_compiled = jax.jit(augmentation.augment, static_argnums=2)


def augment(images, key, settings=PUBLISHED):
    return _compiled(images, key, settings)


KEY = jax.random.key(3)
NOTHING = Augmentation(crop=1.0, rotation_deg=0.0, brightness=0.0, contrast=0.0, hue_turns=0.0)
IMAGES = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 3)), jnp.float32)


def test_zero_settings_change_nothing():
    changed = augment({"base_0_rgb": IMAGES}, KEY, NOTHING)["base_0_rgb"]
    np.testing.assert_allclose(changed, IMAGES, atol=2e-6)


def test_wrist_cameras_keep_their_geometry():
    mark = jnp.full((4, 32, 32, 3), -1.0).at[:, 10, 20].set(1.0)
    changed = augment({"left_wrist_0_rgb": mark}, KEY)["left_wrist_0_rgb"]
    brightest = changed.max(axis=-1).reshape(4, -1).argmax(axis=-1)
    assert brightest.tolist() == [10 * 32 + 20] * 4


def test_about_half_of_the_images_keep_their_colours():
    images = jnp.broadcast_to(IMAGES[:1, :4, :4], (400, 4, 4, 3))
    changed = augment({"wrist_0_rgb": images}, KEY)["wrist_0_rgb"]
    kept = np.abs(changed - images).reshape(400, -1).max(axis=1) < 1e-5
    assert 0.4 < kept.mean() < 0.6


def test_both_wrists_get_the_same_colours():
    both = augment({"left_wrist_0_rgb": IMAGES, "right_wrist_0_rgb": IMAGES}, KEY)
    np.testing.assert_array_equal(both["left_wrist_0_rgb"], both["right_wrist_0_rgb"])


def test_rotates_about_the_centre_within_the_limit():
    # A bar along the horizontal middle of an odd image; the angle of what comes out is measured.
    bar = jnp.full((64, 65, 65, 3), -1.0).at[:, 32, :].set(1.0)
    only_rotation = Augmentation(crop=1.0, brightness=0.0, contrast=0.0, hue_turns=0.0)
    turned = np.asarray(augment({"base_0_rgb": bar}, KEY, only_rotation)["base_0_rgb"])[..., 0] + 1
    rows = (turned * np.arange(65)[:, None]).sum(axis=1) / turned.sum(axis=1)
    slopes = np.array([np.polyfit(np.arange(8, 57), row[8:57], 1)[0] for row in rows])
    angles = np.degrees(np.arctan(slopes))
    np.testing.assert_allclose(rows[:, 32], 32, atol=0.05)
    assert 4.5 < np.abs(angles).max() < 5.05
    assert angles.min() < -2
    assert angles.max() > 2


def test_draws_rows_of_a_batch_independently():
    same = jnp.broadcast_to(IMAGES[:1], IMAGES.shape)
    changed = augment({"base_0_rgb": same}, KEY)["base_0_rgb"]
    assert np.abs(changed[0] - changed[1]).max() > 0.1
