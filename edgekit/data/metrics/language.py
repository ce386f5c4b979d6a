"""Metrics of token sequences."""

from __future__ import annotations

import numpy as np

from edgekit.data.metrics.metric import IGNORED, Floats, Labels, check_range
from edgekit.errors import DataError

_AT_ONCE = 1 << 22  # logits taken to float64 at a time: 32 MB


def perplexity(outputs: Floats, labels: Labels) -> float:
    """exp of the mean cross-entropy, over all positions whose label is not -1; in float64.

    Position t's label is what the network should answer there: for a model of the next token, token t + 1.

    Args:
        outputs: logits (N, T, V), or (N, V) of one position a sample.
        labels: token ids (N, T), or (N,).

    Raises:
        DataError: shapes do not fit, an id lies outside 0 to V - 1, or no position counts.
    """
    where = "metric perplexity"
    if labels.dtype.kind not in "iu":
        raise DataError(f"labels are {labels.dtype}, and tokens are integers", where, "give integer token ids")
    if outputs.ndim < 2 or labels.shape != outputs.shape[:-1]:
        raise DataError(
            f"labels {labels.shape} for outputs {outputs.shape}",
            where,
            "give one token id for each position, and let the network answer logits (N, T, V)",
        )
    vocabulary = outputs.shape[-1]
    check_range(labels, vocabulary, where, lowest=IGNORED)
    logits, wanted = outputs.reshape(-1, vocabulary), labels.reshape(-1).astype(np.int64)
    counted = np.flatnonzero(wanted != IGNORED)
    if not len(counted):
        raise DataError("every label is -1, which does not count", where, "give the split labels")
    total, rows = 0.0, max(1, _AT_ONCE // vocabulary)
    for start in range(0, len(counted), rows):
        chosen = counted[start : start + rows]
        part = logits[chosen].astype(np.float64)
        highest = part.max(1, keepdims=True)
        entropy = np.log(np.exp(part - highest).sum(1)) + highest[:, 0] - part[np.arange(len(part)), wanted[chosen]]
        total += float(entropy.sum())
    with np.errstate(over="ignore"):  # a network that knows nothing at all is infinitely perplexed
        return float(np.exp(total / len(counted)))
