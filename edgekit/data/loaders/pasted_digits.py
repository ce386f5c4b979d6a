"""Scenes for a detector, made of handwritten digits that come with scikit-learn: nothing is downloaded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.agent.preprocess import resize
from edgekit.data.loaders.digits import digits
from edgekit.data.loaders.files import Parts
from edgekit.data.samples import RawSamples
from edgekit.errors import DataError

_INK = 4.0  # of 16: what a box is drawn around
_BRIGHTEST = 16.0
_TRIES = 30  # to find a place that is free
_SMALLEST, _LARGEST = 12, 28  # pixels of a pasted digit's square, which is 8 by 8 as written

Boxes = NDArray[np.float32]


def pasted_digits(
    train: int = 2000, selection: int = 200, test: int = 400, size: int = 64, most: int = 4, seed: int = 0
) -> Parts:
    """Digits pasted on dim noise, (N, size, size, 1) uint8, with boxes (N, most, 5): parts train, selection, test.

    Every scene has one to `most` digits, each 12 to 28 pixels large, apart from one another; those of a part come from
    the same part of the data set `digits`. A row of boxes is class, x_min, y_min, x_max, y_max in pixels, drawn around
    the ink; class -1 fills.

    Args:
        train, selection, test: scenes of each part.
        seed: decides every scene.

    Raises:
        DataError: a scene is too small for its digits.
        MissingExtraError: scikit-learn is not installed.
    """
    if size < 2 * _LARGEST or most < 1:
        raise DataError(
            f"scenes of {size} by {size} pixels with up to {most} digits",
            "loader pasted_digits, arguments",
            f"give them at least {2 * _LARGEST} pixels and one digit",
        )
    found = {}
    counts = {"train": train, "selection": selection, "test": test}
    for number, (part, samples) in enumerate(digits().items()):
        generator = np.random.default_rng((seed, number))
        (images,) = samples.inputs
        scenes = [_scene(images[..., 0], samples.labels, size, most, generator) for _ in range(counts[part])]
        inputs, boxes = (np.stack(column) for column in zip(*scenes, strict=True))
        found[part] = RawSamples((inputs,), boxes)
    return found


def _scene(
    images: NDArray[np.uint8], labels: NDArray[np.int64], size: int, most: int, generator: np.random.Generator
) -> tuple[NDArray[np.uint8], Boxes]:
    canvas = generator.uniform(0, 0.2, (size, size)).astype(np.float32)
    boxes = np.zeros((most, 5), np.float32)
    boxes[:, 0] = -1
    taken = np.zeros((size, size), bool)
    for row in range(generator.integers(1, most + 1)):
        chosen, side = generator.integers(len(images)), int(generator.integers(_SMALLEST, _LARGEST + 1))
        pasted = resize(images[chosen][None, :, :, None].astype(np.float32), "NHWC", side, side)[0, :, :, 0]
        for top, left in generator.integers(0, size - side + 1, (_TRIES, 2)):
            place = slice(top, top + side), slice(left, left + side)
            if not taken[place].any():
                taken[place] = True
                canvas[place] = np.maximum(canvas[place], pasted / _BRIGHTEST * generator.uniform(0.6, 1))
                rows, columns = (np.flatnonzero((pasted >= _INK).any(axis)) for axis in (1, 0))
                corners = left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1
                boxes[row] = labels[chosen], *corners
                break
    # a digit that found no place leaves its row empty; the first always finds one
    return np.rint(255 * canvas).astype(np.uint8)[..., None], boxes[np.argsort(boxes[:, 0] < 0, kind="stable")]
