"""Disturbances of images compared with recorded outputs of LIBERO-plus's functions (Wand, scikit-image)."""

import numpy as np
import pytest

from simloop.envs.libero_plus import image_noise

i = np.arange(64)
PICTURE = np.stack(
    [i[:, None] * i // 4 % 256, (i[:, None] * 5 + i * 3) % 256, (i[:, None] ^ i) * 4 % 256], axis=-1
).astype(np.uint8)
"""Lines, slopes and edges."""

# Every 21st pixel of the first row.
RECORDED = {
    ("gaussian_blur", 0): [[0, 2, 2], [1, 64, 84], [3, 127, 167], [5, 189, 249]],
    ("gaussian_blur", 9): [[3, 31, 26], [20, 82, 84], [38, 142, 167], [48, 180, 225]],
    ("zoom_blur", 0): [[0, 8, 0], [5, 68, 84], [10, 128, 166], [16, 188, 246]],
    ("zoom_blur", 9): [[10, 44, 0], [31, 94, 80], [53, 145, 168], [74, 196, 238]],
}


@pytest.mark.parametrize(("kind", "severity"), RECORDED)
def test_blurs_without_chance_equal_the_original(kind, severity):
    blurred = getattr(image_noise, kind)(PICTURE, severity, np.random.default_rng(0))
    np.testing.assert_array_equal(blurred[0, ::21], RECORDED[kind, severity])


def test_motion_blur_differs_from_imagemagick_by_rounding_alone():
    recorded = [[0, 11, 15], [0, 74, 99], [0, 137, 183], [0, 189, 252]]
    blurred = image_noise.blurred_along(PICTURE, 15, 6, -33.0)
    assert abs(blurred[0, ::21].astype(int) - recorded).max() <= 1


@pytest.mark.parametrize(
    ("kind", "severity", "mean", "spread"),
    [
        ("fog", 0, 23.0, 1.94),
        ("fog", 9, 58.84, 4.85),
        ("glass_blur", 0, 23.98, 0.23),
        ("glass_blur", 9, 27.49, 0.28),
    ],
)
def test_random_disturbances_change_images_as_much_as_the_original(kind, severity, mean, spread):
    """Mean absolute change in grey levels over draws, with the standard deviation of one draw of the original."""
    draws = [getattr(image_noise, kind)(PICTURE, severity, np.random.default_rng(k)) for k in range(8)]
    changes = [abs(draw.astype(int) - PICTURE).mean() for draw in draws]
    assert abs(np.mean(changes) - mean) < 3 * spread * (1 / 8 + 1 / 20) ** 0.5


def one_by_one(image, reach, generator):
    """Copies in a loop over pixels, with the same draws as `scattered`."""
    image = image.copy()
    height, width = image.shape[:2]
    rows, columns = range(height - reach, reach, -1), range(width - reach, reach, -1)
    down, right = generator.integers(-reach, reach, (2, len(rows), len(columns)))
    for m, row in enumerate(rows):
        for n, column in enumerate(columns):
            image[row, column] = image[row + down[m, n], column + right[m, n]]
    return image


@pytest.mark.parametrize("reach", [1, 2, 5])
def test_pixels_are_copied_as_one_after_the_other(reach):
    copied = image_noise.scattered(PICTURE, reach, np.random.default_rng(3))
    np.testing.assert_array_equal(copied, one_by_one(PICTURE, reach, np.random.default_rng(3)))


def test_severities_of_a_kind_change_images_more_and_more():
    for first in range(1, 51, 10):
        changes = [
            np.mean(
                [
                    abs(
                        image_noise.disturbed(PICTURE, first + k, np.random.default_rng(s)).astype(int)
                        - PICTURE
                    )
                    for s in range(3)
                ]
            )
            for k in (0, 4, 9)
        ]
        assert changes == sorted(changes)


def test_the_same_draws_give_the_same_image_of_the_same_shape():
    for number in range(1, 51, 7):
        first, again = (image_noise.disturbed(PICTURE, number, np.random.default_rng(5)) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert (first.shape, first.dtype) == (PICTURE.shape, np.uint8)
