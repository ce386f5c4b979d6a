import numpy as np
import pytest

from edgekit.agent.errors import AgentError
from edgekit.agent.mfcc import mel_triangles, mfcc
from edgekit.agent.preprocess import preprocess
from edgekit.schema.tensors import Mfcc, Preprocess


def _as_tensorflow_does(wave: np.ndarray, spec: Mfcc) -> np.ndarray:
    """One recording, bin by bin and frame by frame, as the operators' kernels walk through them."""
    size = 1
    while size < spec.window:
        size *= 2
    step = spec.rate_hz / size

    def mel(frequency: float) -> float:
        return 1127.0 * np.log1p(frequency / 700.0)

    spacing = (mel(spec.high_hz) - mel(spec.low_hz)) / (spec.bands + 1)
    centres = [mel(spec.low_hz) + spacing * (band + 1) for band in range(spec.bands + 1)]
    frames = []
    for start in range(0, len(wave) - spec.window + 1, spec.hop):
        window = [0.5 - 0.5 * np.cos(2 * np.pi * i / spec.window) for i in range(spec.window)]
        spectrum = np.abs(np.fft.rfft(wave[start : start + spec.window] * window, size))
        bands = np.zeros(spec.bands)
        for i in range(int(1.5 + spec.low_hz / step), int(spec.high_hz / step) + 1):
            channel = sum(centre < mel(i * step) for centre in centres) - 1
            below = mel(spec.low_hz) if channel < 0 else centres[channel]
            weight = (centres[channel + 1] - mel(i * step)) / (centres[channel + 1] - below)
            if channel >= 0:
                bands[channel] += weight * spectrum[i]
            if channel + 1 < spec.bands:
                bands[channel + 1] += (1 - weight) * spectrum[i]
        logs = np.log(np.maximum(bands, 1e-12))
        frames.append(
            [
                np.sqrt(2 / spec.bands) * sum(logs * np.cos(np.pi / spec.bands * k * (np.arange(spec.bands) + 0.5)))
                for k in range(spec.coefficients)
            ]
        )
    return np.array(frames)


SPEC = Mfcc(rate_hz=8000, window=100, hop=30, bands=12, low_hz=150, high_hz=3000, coefficients=5)


def _recordings(count: int, samples: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.2, (count, samples)).astype(np.float32)


def test_every_coefficient_is_tensorflows():
    waves = _recordings(70, 253)  # more than are computed at once; the last samples fill no frame
    made = mfcc(SPEC.model_dump(), waves)
    assert made.shape == (70, 6, 5)
    assert made.dtype == np.float32
    for index in (0, 69):
        np.testing.assert_allclose(made[index], _as_tensorflow_does(waves[index], SPEC), rtol=1e-5, atol=1e-5)


def test_silence_is_the_floor_of_the_logarithm():
    made = mfcc(SPEC.model_dump(), np.zeros((1, 100), np.float32))
    first = np.log(1e-12) * np.sqrt(2 / 12) * 12
    np.testing.assert_allclose(made[0, 0], [first, 0, 0, 0, 0], rtol=1e-6, atol=1e-6)


def test_neighbouring_triangles_add_up_to_one_between_their_peaks():
    weights = mel_triangles(SPEC.model_dump(), 65)
    inside = weights.sum(1)[(weights > 0).sum(1) == 2]
    assert len(inside) > 20
    np.testing.assert_allclose(inside, 1.0)


def test_it_stands_between_factor_and_mean():
    raw = (_recordings(2, 160) * 32768).astype(np.int16)
    std = (32.0, 4.0, 4.0, 2.0, 1.0)
    spec = Preprocess(
        raw_dtype="int16",
        raw_layout="NT",
        factor=1 / 32768,
        mfcc=SPEC,
        mean=(-1.0, 0.5, 0.0, 0.0, 2.0),
        std=std,
        layout="NTC",
    )
    wanted = mfcc(SPEC.model_dump(), raw.astype(np.float32) / 32768)
    made = preprocess(spec.model_dump(), raw)
    np.testing.assert_array_equal(made, (wanted - np.float32(spec.mean)) / np.float32(std))


@pytest.mark.parametrize(
    ("changes", "samples", "where"),
    [
        ({}, 99, "preprocess, mfcc, window"),
        ({"bands": 60}, 100, "preprocess, mfcc, bands"),
    ],
)
def test_what_gives_no_coefficients_is_refused(changes, samples, where):
    with pytest.raises(AgentError) as caught:
        mfcc({**SPEC.model_dump(), **changes}, np.zeros((1, samples), np.float32))
    assert caught.value.where == where


def test_images_have_no_coefficients():
    spec = Preprocess(raw_layout="NTC", raw_dtype="float32", mfcc=SPEC, layout="NTC").model_dump()
    with pytest.raises(AgentError) as caught:
        preprocess(spec, np.zeros((1, 4, 3), np.float32))
    assert caught.value.where == "preprocess, raw_layout"


def test_corners_beyond_half_the_rate_are_refused():
    with pytest.raises(ValueError, match="half of rate_hz"):
        Mfcc(rate_hz=8000, window=100, hop=30, high_hz=4001, coefficients=5)
