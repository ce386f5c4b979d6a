"""Mel-frequency cepstral coefficients as TensorFlow's AudioSpectrogram and Mfcc operators define them. numpy only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from edgekit.agent.errors import AgentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_FLOOR = 1e-12  # what the logarithm is taken of at least: digital silence
_AT_ONCE = 64  # recordings, which bounds the memory of the spectra


def mfcc(spec: Mapping[str, Any], waves: Floats) -> Floats:
    """Coefficients of every frame, (N, frames, coefficients) float32; computed in float64.

    A frame starts every `hop` samples as long as `window` samples are left: 1 + (T - window) // hop of them. Each is
    weighted by a periodic Hann window, filled with zeros to the next power of two, and transformed. The magnitudes (not
    their squares) are summed under triangles on the mel scale, mel(f) = 1127 ln(1 + f / 700), whose corners lie evenly
    between `low_hz` and `high_hz`. DCT-II of the logarithms, scaled by sqrt(2 / bands).

    Args:
        spec: an edgekit.schema.tensors.Mfcc as a dict.
        waves: (N, T), full scale is 1.

    Raises:
        AgentError: a recording is shorter than one window, or no frequency lies between the corners of a triangle.

    Source: tensorflow/core/kernels/spectrogram.cc, mfcc_mel_filterbank.cc, mfcc_dct.cc.
    """
    window, hop, bands = int(spec["window"]), int(spec["hop"]), int(spec["bands"])
    if waves.shape[1] < window:
        raise AgentError(
            f"recordings of {waves.shape[1]} samples for a window of {window}",
            "preprocess, mfcc, window",
            "choose a window that fits into a recording",
        )
    size = 1 << (window - 1).bit_length()
    starts = np.arange(1 + (waves.shape[1] - window) // hop) * hop
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    triangles = mel_triangles(spec, size // 2 + 1)
    angles = np.outer(np.arange(bands) + 0.5, np.arange(int(spec["coefficients"])))
    cosines = np.sqrt(2 / bands) * np.cos(np.pi / bands * angles)
    made = []
    for first in range(0, len(waves), _AT_ONCE):
        frames = waves[first : first + _AT_ONCE, starts[:, None] + np.arange(window)]  # (n, frames, window)
        magnitudes = np.abs(np.fft.rfft(frames * hann, size))
        made.append((np.log(np.maximum(magnitudes @ triangles, _FLOOR)) @ cosines).astype(np.float32))
    return np.concatenate(made)


def mel_triangles(spec: Mapping[str, Any], bins: int) -> NDArray[np.float64]:
    """How much of each frequency each band sums, (bins, bands); the last bin is half the sampling rate.

    TensorFlow rounds the first bin up and the last one down: int(1.5 + low / step) and int(high / step).

    Raises:
        AgentError: no frequency lies in a band.
    """
    step = 0.5 * float(spec["rate_hz"]) / (bins - 1)
    low, high, bands = float(spec["low_hz"]), float(spec["high_hz"]), int(spec["bands"])
    corners = np.linspace(_mel(low), _mel(high), bands + 2)
    positions = _mel(np.arange(bins) * step)[:, None]
    rising = (positions - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - positions) / (corners[2:] - corners[1:-1])
    weights = np.maximum(np.minimum(rising, falling), 0.0)
    first, last = int(1.5 + low / step), int(high / step)
    weights[:first] = weights[last + 1 :] = 0.0
    empty = np.flatnonzero(weights.sum(0) == 0)
    if len(empty):
        raise AgentError(
            f"band {empty[0]} of {bands} has no frequency of a transform of {2 * (bins - 1)} points",
            "preprocess, mfcc, bands",
            "choose fewer bands, a longer window, or other corner frequencies",
        )
    return np.asarray(weights, np.float64)


def _mel(frequency_hz: Any) -> Any:
    return 1127.0 * np.log1p(np.asarray(frequency_hz) / 700.0)
