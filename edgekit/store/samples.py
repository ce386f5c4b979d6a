"""Raw samples as bytes for a column of the database, and back to the last bit."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

_NANOSECONDS, _MILLISECONDS = b"n", b"m"  # the first byte says what the others are
_LONGEST_MS = (2**32 - 1) / 1e6
_DTYPES: dict[bytes, np.dtype[Any]] = {_NANOSECONDS: np.dtype("<u4"), _MILLISECONDS: np.dtype("<f8")}


def pack_samples(samples_ms: Sequence[float]) -> bytes:
    """Samples in ms as compressed bytes.

    The agent's clock counts whole nanoseconds: samples that are such counts / 1e6 are kept as 32-bit counts, a third of
    the bytes of doubles. Any others are kept as doubles. The bytes of all numbers are sorted by their place in the
    number before they are compressed, as the high ones hardly differ.
    """
    values = np.asarray(samples_ms, dtype="<f8")
    tag, kept = _MILLISECONDS, values
    if len(values) and values.min() >= 0 and values.max() <= _LONGEST_MS:
        exact = np.rint(values * 1e6).astype("<u4")
        if np.array_equal(exact / 1e6, values):
            tag, kept = _NANOSECONDS, exact
    planes = kept.view(np.uint8).reshape(-1, kept.itemsize).T
    return tag + zlib.compress(planes.tobytes())


def unpack_samples(packed: bytes) -> tuple[float, ...]:
    """What `pack_samples` was given.

    Raises:
        ValueError: these are not such bytes.
    """
    dtype = _DTYPES.get(packed[:1])
    if dtype is None:
        raise ValueError("the samples are kept in a form that this edgekit does not know")
    try:
        planes = np.frombuffer(zlib.decompress(packed[1:]), dtype=np.uint8).reshape(dtype.itemsize, -1)
    except zlib.error as err:
        raise ValueError(f"the samples cannot be unpacked: {err}") from err
    values = np.ascontiguousarray(planes.T).view(dtype).ravel()
    return tuple((values / 1e6 if dtype == _DTYPES[_NANOSECONDS] else values).tolist())
