"""Normal and anomalous samples, made of handwritten digits that come with scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.data.loaders.digits import digits
from edgekit.data.loaders.files import Parts
from edgekit.data.samples import RawSamples
from edgekit.errors import DataError


def digit_anomalies(normal: Sequence[int] = (0, 1, 2, 3, 4)) -> Parts:
    """The data set `digits`, with label 0 for the digits that are `normal` and 1 for all others.

    The part train has normal ones alone, as one has before anything went wrong; selection and test have both.

    Raises:
        DataError: `normal` is not some of the ten digits.
        MissingExtraError: scikit-learn is not installed.
    """
    chosen = set(normal)
    if not chosen or not chosen < set(range(10)):
        raise DataError(
            f"normal digits {', '.join(map(str, normal)) or 'none'}",
            "loader digit_anomalies, arguments",
            "name some of 0 to 9, and leave some to be anomalies",
        )
    found = {}
    for part, samples in digits().items():
        strange = ~np.isin(samples.labels, sorted(chosen))
        taken = ~strange if part == "train" else np.ones_like(strange)
        found[part] = RawSamples((samples.inputs[0][taken],), strange[taken].astype(np.int64))
    return found
