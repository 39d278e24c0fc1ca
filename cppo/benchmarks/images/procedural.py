"""Images of classes that exist only as a seed: as many as wanted, each told apart by its parts.

A class has four parts, small coloured patterns, and a place for each. An image shows the parts near their places, each
shifted, brightened and sometimes missing, on a smooth random background with noise. So no pixel says much by itself: a
linear model sees blurred means, while a network that finds the parts wherever they are tells the classes apart.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIZE = 32
PATCH = 9
PARTS = 4
SHIFT = 6.0
"""Standard deviation of a part's shift, in pixels."""
MISSING = 0.2
"""Share of the images in which a part is missing."""
CONTRAST = 0.7
"""Standard deviation of a part's pixels, on average."""
COLOUR = 0.3
"""How much of a part's mean colour is left, which a linear model sees wherever the part is."""
BACKGROUND = 0.5
NOISE = 0.3


def draw_class(number: int, count: int) -> Floats:
    """Draw the images of a class, always the same ones.

    :param number: which class
    :param count: how many images; more begin with the same ones
    :return: shape (count, 3, 32, 32), zero mean and standard deviation near 1
    """
    rng = np.random.default_rng([number, 4])
    patches = _smooth(rng.standard_normal((PARTS, 3, 4, 4)), PATCH)
    means = patches.mean(axis=(2, 3), keepdims=True)
    patches = CONTRAST * (patches - (1 - COLOUR) * means)
    places = rng.uniform(0, SIZE - PATCH, size=(PARTS, 2))
    return np.stack([_draw_image(rng, patches, places) for _ in range(count)])


def _draw_image(rng: np.random.Generator, patches: Floats, places: NDArray[np.float64]) -> Floats:
    image = BACKGROUND * _smooth(rng.standard_normal((3, 5, 5)), SIZE)
    shifted = np.rint(places + rng.normal(0, SHIFT, size=places.shape)).clip(0, SIZE - PATCH).astype(int)
    strengths = rng.uniform(0.6, 1.4, size=PARTS) * (rng.random(PARTS) >= MISSING)
    for patch, (top, left), strength in zip(patches, shifted, strengths, strict=True):
        image[:, top : top + PATCH, left : left + PATCH] += strength * patch
    return image + NOISE * rng.standard_normal(image.shape, np.float32)


def _smooth(coarse: NDArray[np.float64], size: int) -> Floats:
    """Stretch the last two axes to a size, linearly between the values."""
    few = coarse.shape[-1]
    at = np.linspace(0, few - 1, size)
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(few)))
    return (weights @ coarse @ weights.T).astype(np.float32)
