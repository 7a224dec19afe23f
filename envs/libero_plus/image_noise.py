"""The fifty disturbances of images of LIBERO-plus: ten severities each of five kinds, for square images.

They follow the corruptions of ImageNet-C with LIBERO-plus's severities, which hold for images of 256 pixels. Random
ones draw from a generator of the caller.

Reference: D. Hendrycks and T. Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations (2019), arXiv:1903.12261.

Axis letters: h image height, w image width, c channels, s size of a map.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from scipy import ndimage

SEVERITIES = 10

Image = UInt8[np.ndarray, "h w 3"]


def disturbed(image: Image, number: int, generator: np.random.Generator) -> Image:
    """Disturb an image.

    Args:
      image: Upright.
      number: 1 to 50: motion blur, Gaussian blur, zoom blur, fog and glass blur, from weak to strong.
    """
    kind, severity = divmod(number - 1, SEVERITIES)
    # LIBERO-plus disturbs images whose first row is the lowest.
    return np.ascontiguousarray(_KINDS[kind](image[::-1], severity, generator)[::-1])


_MOTION = ((5, 2), (8, 3), (10, 4), (12, 5), (15, 6), (18, 8), (20, 10), (25, 12), (30, 15), (35, 20))
"""Radius and standard deviation of the blur in pixels."""


def motion_blur(image: Image, severity: int, generator: np.random.Generator) -> Image:
    """Blur along a line of a random direction within 45 degrees of the horizontal."""
    return blurred_along(image, *_MOTION[severity], float(generator.uniform(-45, 45)))


def blurred_along(image: Image, radius: int, sigma: int, degrees: float) -> Image:
    """Weigh pixels on one side along a line by half a normal distribution, as ImageMagick's motion blur does."""
    width = 2 * radius + 1
    weights = np.exp(-(np.arange(width) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    direction = np.array([np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])  # Rows, columns.
    offsets = np.ceil(np.outer(np.arange(width), direction) - 0.5).astype(int)
    rows, columns = np.arange(image.shape[0]), np.arange(image.shape[1])
    total = np.zeros(image.shape)
    for weight, (down, right) in zip(weights, offsets, strict=True):
        seen = image[np.clip(rows + down, 0, rows[-1])][:, np.clip(columns + right, 0, columns[-1])]
        total += weight * seen
    return np.floor(total + 1e-6).astype(np.uint8)  # ImageMagick cuts off as well.


def gaussian_blur(image: Image, severity: int, generator: np.random.Generator) -> Image:
    """Blur with a standard deviation of 1 to 10 pixels."""
    return _quantized(_smooth(image / 255.0, float(severity + 1)))


_ZOOMS = (
    (1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03),
    (1.36, 0.01), (1.41, 0.01), (1.46, 0.02), (1.51, 0.02), (1.56, 0.03),
)  # fmt: skip
"""Largest factor, exclusive, and the distance of factors."""


def zoom_blur(image: Image, severity: int, generator: np.random.Generator) -> Image:
    """Average the image with enlargements of its middle."""
    picture = (image / 255.0).astype(np.float32)
    factors = np.arange(1, *_ZOOMS[severity])
    total = picture.copy()
    for factor in factors:
        total += _enlarged(picture, float(factor))
    return _quantized(total / (len(factors) + 1))


def _enlarged(picture: Float32[np.ndarray, "h w c"], factor: float) -> Float32[np.ndarray, "h w c"]:
    size = len(picture)
    part = int(np.ceil(size / factor))
    first = (size - part) // 2
    middle = picture[first : first + part, first : first + part]
    larger: np.ndarray = ndimage.zoom(middle, (factor, factor, 1), order=1)
    first = (len(larger) - size) // 2
    return larger[first : first + size, first : first + size]


_FOG = (
    (0.5, 3.0), (1.0, 2.8), (1.5, 2.5), (2.0, 2.2), (2.5, 2.0),
    (3.0, 1.8), (3.5, 1.6), (4.0, 1.5), (4.5, 1.4), (5.0, 1.3),
)  # fmt: skip
"""Density, and how fast its detail decreases with the scale."""


def fog(image: Image, severity: int, generator: np.random.Generator) -> Image:
    """Lay a random density over the image."""
    density, decay = _FOG[severity]
    picture = image / 255.0
    brightest = picture.max()
    size = max(256, 1 << (max(image.shape[:2]) - 1).bit_length())
    veil = plasma(size, decay, generator)[: image.shape[0], : image.shape[1], None]
    return _quantized((picture + density * veil) * brightest / (brightest + density))


def plasma(size: int, decay: float, generator: np.random.Generator) -> Float64[np.ndarray, "s s"]:
    """A fractal map between 0 and 1 by the diamond-square algorithm, periodic; the size is a power of two."""
    height, step, wobble = np.zeros((size, size)), size, 100.0

    def moved(total: np.ndarray) -> np.ndarray:
        return total / 4 + wobble * generator.uniform(-wobble, wobble, total.shape)

    while step >= 2:
        half = step // 2
        corners = height[::step, ::step]
        pairs = corners + np.roll(corners, -1, 0)
        centres = height[half::step, half::step] = moved(pairs + np.roll(pairs, -1, 1))
        for along, place in ((0, np.s_[::step, half::step]), (1, np.s_[half::step, ::step])):
            neighbours = centres + np.roll(centres, 1, along) + corners + np.roll(corners, -1, 1 - along)
            height[place] = moved(neighbours)
        step, wobble = half, wobble / decay
    height -= height.min()
    height /= height.max()
    return height


_GLASS = (
    (0.5, 1, 3), (0.7, 1, 3), (0.9, 2, 3), (1.0, 2, 2), (1.1, 3, 2),
    (1.3, 3, 2), (1.5, 4, 2), (1.8, 4, 2), (2.2, 5, 1), (2.5, 5, 1),
)  # fmt: skip
"""Standard deviation of the blur and reach of the copies, both in pixels, and how often pixels are copied."""


def glass_blur(image: Image, severity: int, generator: np.random.Generator) -> Image:
    """Blur, replace pixels by near ones, and blur again."""
    sigma, reach, times = _GLASS[severity]
    picture = (_smooth(image / 255.0, sigma) * 255).astype(np.uint8)
    for _ in range(times):
        picture = scattered(picture, reach, generator)
    return _quantized(_smooth(picture / 255.0, sigma))


def scattered(image: Image, reach: int, generator: np.random.Generator) -> Image:
    """Copy to every inner pixel, from the last to the first, a pixel at most `reach` away, as it is by then.

    A pixel that was itself replaced before hands on what it got, so that each follows a chain of copies to its end.
    """
    height, width = image.shape[:2]
    pixels = np.arange(height * width).reshape(height, width)
    rows, columns = np.meshgrid(
        np.arange(height - reach, reach, -1), np.arange(width - reach, reach, -1), indexing="ij"
    )
    shift = generator.integers(-reach, reach, (2, *rows.shape))
    inner, source = pixels[rows, columns], pixels[rows + shift[0], columns + shift[1]]
    comes_from = pixels.ravel().copy()
    comes_from[inner] = source
    replaced = np.zeros(height * width, bool)
    replaced[inner] = True
    before = replaced[comes_from] & (comes_from > pixels.ravel())
    follows = np.where(before, comes_from, pixels.ravel())
    while not np.array_equal(further := follows[follows], follows):
        follows = further
    copied: np.ndarray = image.reshape(-1, 3)[comes_from[follows]].reshape(image.shape)
    return copied


def _smooth(picture: np.ndarray, sigma: float) -> np.ndarray:
    smooth: np.ndarray = ndimage.gaussian_filter(picture, (sigma, sigma, 0), mode="nearest")
    return smooth


def _quantized(picture: np.ndarray) -> Image:
    """Bytes of values in [0, 1], cut off as in the original."""
    cut: np.ndarray = (np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return cut


_KINDS: tuple[Callable[[Image, int, np.random.Generator], Image], ...] = (
    motion_blur, gaussian_blur, zoom_blur, fog, glass_blur,
)  # fmt: skip
