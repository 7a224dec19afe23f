import numpy as np
import pytest

from simloop.policies.transforms.preprocessing import (
    absolute_actions,
    delta_actions,
    delta_mask,
    resize_with_pad,
    uint8_image,
    zero_padded,
)

RNG = np.random.default_rng(0)


def test_images_keep_their_shape_on_black():
    image = np.full((60, 120, 3), 200, np.uint8)
    resized = resize_with_pad(image, 64, 64)
    assert (resized[16:48] == 200).all()
    assert not resized[:16].any()
    assert not resized[48:].any()


def test_returns_images_of_the_target_size_unchanged():
    image = RNG.integers(0, 255, (32, 40, 3)).astype(np.uint8)
    assert resize_with_pad(image, 32, 40) is image


def test_shrinking_averages_instead_of_skipping_pixels():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::2] = 200
    assert np.abs(resize_with_pad(stripes, 16, 16)[2:-2].astype(int) - 100).max() <= 2


def test_bilinear_resizing_interpolates_between_four_pixels_at_any_scale():
    from scipy.ndimage import map_coordinates

    image = RNG.integers(0, 256, (90, 60, 3)).astype(np.uint8)
    centres = np.meshgrid(
        (np.arange(48) + 0.5) * 90 / 48 - 0.5, (np.arange(32) + 0.5) * 60 / 32 - 0.5, indexing="ij"
    )
    expected = np.stack(
        [map_coordinates(image[..., i].astype(float), centres, order=1, mode="nearest") for i in range(3)], -1
    )
    found = resize_with_pad(image, 48, 48, "bilinear")[:, 8:40]
    assert np.abs(found - expected).max() <= 0.51
    antialiased = resize_with_pad(image, 48, 48)[:, 8:40]
    assert np.abs(antialiased - expected).mean() > 20


def test_float_images_are_truncated_and_channels_put_last():
    image = RNG.uniform(0, 1, (3, 5, 7))
    np.testing.assert_array_equal(
        uint8_image(image), np.floor(255 * image).astype(np.uint8).transpose(1, 2, 0)
    )


LEVELS = RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (LEVELS, LEVELS),
        (LEVELS.astype(np.int64), LEVELS),
        (np.moveaxis(LEVELS, -1, 0), LEVELS),
        (LEVELS[..., 0], LEVELS[..., :1].repeat(3, -1)),
        (LEVELS[..., :1], LEVELS[..., :1].repeat(3, -1)),
        (np.dstack([LEVELS, np.full((5, 7), 255, np.uint8)]), LEVELS),
        (np.array([[[1.01, -0.01, 0.5]]]), np.array([[[255, 0, 127]]], np.uint8)),
    ],
)
def test_converts_images_whose_meaning_is_certain(image, expected):
    found = uint8_image(image)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("image", "named"),
    [
        (np.full((5, 7, 3), 200.0), r"float64 \(5, 7, 3\) from 200 to 200"),
        (np.full((5, 7, 3), np.nan), "from nan to nan"),
        (np.full((5, 7, 3), 256), r"int64 \(5, 7, 3\) from 256 to 256"),
        (np.full((5, 7, 4), 128, np.uint8), "which is transparent"),
        (np.zeros((5, 7, 2), np.uint8), r"uint8 \(5, 7, 2\)"),
        (np.zeros((2, 5, 7, 3), np.uint8), r"\(2, 5, 7, 3\)"),
        (np.zeros((0, 7, 3)), r"\(0, 7, 3\)"),
        (np.zeros((5, 7, 3), bool), "bool"),
    ],
)
def test_rejects_arrays_that_are_not_images(image, named):
    with pytest.raises(ValueError, match=f"An image must be .*{named}"):
        uint8_image(image)


def test_padding_never_cuts():
    assert zero_padded(np.ones(3), 5).tolist() == [1, 1, 1, 0, 0]
    assert zero_padded(np.ones(3), 2).tolist() == [1, 1, 1]


def test_masks_are_written_as_run_lengths():
    assert delta_mask(2, -1, 1) == (True, True, False, True)


def test_deltas_are_relative_to_the_current_state():
    actions, state = RNG.normal(size=(4, 7)), RNG.normal(size=8)
    delta = delta_actions(actions, state, delta_mask(6, -1))
    np.testing.assert_allclose(delta[:, :6], actions[:, :6] - state[:6])
    np.testing.assert_array_equal(delta[:, 6], actions[:, 6])


def test_absolute_inverts_delta():
    actions, state = RNG.normal(size=(4, 7)), RNG.normal(size=8)
    before = actions.copy()
    mask = delta_mask(3, -1, 3)
    np.testing.assert_allclose(absolute_actions(delta_actions(actions, state, mask), state, mask), actions)
    np.testing.assert_array_equal(actions, before)
