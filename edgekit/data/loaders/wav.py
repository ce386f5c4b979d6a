"""Recordings in folders or in a tar."""

from __future__ import annotations

import io
import math
import wave
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgekit.data.checks import samples_of
from edgekit.data.loaders.files import File, Labelled, Parts, read_labelled
from edgekit.errors import DataError, MissingExtraError

Wave = NDArray[np.int16]


def wav_folder(
    path: str,
    rate_hz: int,
    samples: int | None = None,
    labels: str = "folder",
    classes: Sequence[str] = (),
    parts: Mapping[str, str] | None = None,
    resample: bool = False,
) -> Parts:
    """Recordings (.wav, PCM of 8, 16, 24 or 32 bits) of a folder or a tar, (N, samples) int16, sorted by name.

    Channels are averaged; wider samples are rounded to 16 bits.

    Args:
        rate_hz: samples a second that the network takes.
        samples: length of a clip: a longer one is cut at its end, a shorter one is filled with zeros; none: all have
            one length already.
        labels: `folder`: the folder that a recording lies in is its class; `none`: every label is 0; else a CSV file
            with a name and a class in every line.
        classes: names in the order in which the network answers; empty: sorted.
        parts: name of a part -> folder below `path`; none: one part `all`.
        resample: bring recordings of another rate to `rate_hz`; else they are refused.

    Raises:
        DataError: no recordings, a damaged one, another rate, or lengths that differ and no `samples`.
        MissingExtraError: resampling needs SciPy, which is not installed.
    """
    for key, value in (("rate_hz", rate_hz), ("samples", samples)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise DataError(f"{key} is {value!r}", f"{path}, arguments", "give a whole number, 1 at least")

    def decode(file: File) -> Wave:
        return _fit(_at_rate(*read_wave(file, path), rate_hz, resample, f"{path}: {file.name}"), samples)

    made = read_labelled(path, (".wav",), decode, labels, tuple(classes), parts)
    return {part: samples_of([_stack(found, path)], found.labels, path) for part, found in made.items()}


def read_wave(file: File, path: str) -> tuple[NDArray[np.float64], int]:
    """(T,) mean of the channels in units of 16-bit samples, and samples a second.

    Raises:
        DataError: not a whole file of PCM.
    """
    where = f"{path}: {file.name}"
    try:
        with wave.open(io.BytesIO(file.content)) as source:
            width, channels, rate = source.getsampwidth(), source.getnchannels(), source.getframerate()
            count = source.getnframes()
            data = source.readframes(count)
    except (wave.Error, EOFError, OSError) as err:
        raise DataError(
            f"not a recording in PCM: {err or 'it ends too early'}",
            where,
            "save it as plain PCM, of 16 bits for example",
        ) from err
    if not 1 <= width <= 4 or len(data) != count * width * channels or not count or rate < 1:
        raise DataError(
            f"{len(data)} bytes for {count} frames of {channels} channels of {8 * width} bits",
            where,
            "get the file again, or leave it out",
        )
    return _integers(data, width).reshape(-1, channels).mean(1) * 2.0 ** (16 - 8 * width), rate


def _integers(data: bytes, width: int) -> NDArray[np.int64]:
    """Little-endian samples; those of 8 bits have their zero at 128."""
    if width == 1:
        return np.frombuffer(data, np.uint8).astype(np.int64) - 128
    if width == 3:
        bytes_ = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int64)
        whole = bytes_[:, 0] | bytes_[:, 1] << 8 | bytes_[:, 2] << 16
        return np.asarray(whole - ((whole >> 23) << 24))
    return np.frombuffer(data, f"<i{width}").astype(np.int64)


def _at_rate(values: NDArray[np.float64], rate: int, wanted: int, resample: bool, where: str) -> Wave:
    if rate != wanted:
        if not resample:
            raise DataError(
                f"{rate} samples a second, and rate_hz is {wanted}",
                where,
                "correct rate_hz, or write `resample: true` among the loader's arguments",
            )
        try:
            from scipy.signal import resample_poly
        except ModuleNotFoundError as err:
            raise MissingExtraError("SciPy is not installed", where, "pip install 'edgekit[torch]'") from err
        common = math.gcd(rate, wanted)
        values = resample_poly(values, wanted // common, rate // common)
    return np.asarray(np.rint(values).clip(-(1 << 15), (1 << 15) - 1).astype(np.int16))


def _fit(values: Wave, samples: int | None) -> Wave:
    if samples is None:
        return values
    return np.pad(values[:samples], (0, max(0, samples - len(values))))


def _stack(found: Labelled, path: str) -> Wave:
    for name, array in zip(found.names, found.arrays, strict=True):
        if len(array) != len(found.arrays[0]):
            raise DataError(
                f"{found.names[0]} has {len(found.arrays[0])} samples, and {name} has {len(array)}",
                f"recordings of {path}",
                "bring them to one length: `samples: N` among the loader's arguments",
            )
    return np.stack(found.arrays)
