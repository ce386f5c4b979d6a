"""The data set that comes with scikit-learn, so that the quickstart needs no download."""

from __future__ import annotations

import numpy as np

from edgekit.data.loaders.files import Parts
from edgekit.data.samples import RawSamples
from edgekit.errors import MissingExtraError

_DIGITS_TEST, _DIGITS_SELECTION, _DIGITS_CYCLE = (2, 6, 10), (12,), 13


def digits() -> Parts:
    """scikit-learn's 1,797 handwritten digits, (N, 8, 8, 1) uint8 in 0..16: parts train, selection, test.

    Their order follows writers and, within a writer, often the digits; so parts are interleaved by index modulo 13,
    which shares no factor with 10: 2, 6 and 10 are test (415), 12 is selection (138), the rest is train (1,244).
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as err:
        raise MissingExtraError(
            "scikit-learn is not installed", "loader digits", "pip install 'edgekit[torch]'"
        ) from err
    data = load_digits()
    inputs, labels = data.images.astype(np.uint8)[..., None], data.target.astype(np.int64)
    phase = np.arange(len(labels)) % _DIGITS_CYCLE
    test, selection = np.isin(phase, _DIGITS_TEST), np.isin(phase, _DIGITS_SELECTION)
    chosen = {"train": ~(test | selection), "selection": selection, "test": test}
    return {part: RawSamples((inputs[mask],), labels[mask]) for part, mask in chosen.items()}
