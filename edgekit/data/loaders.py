"""Data set loaders: arguments of a calibration set -> parts of raw samples. Nothing is preprocessed here."""

from __future__ import annotations

import io
import math
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.data.samples import RawSamples
from edgekit.errors import DataError, MissingExtraError
from edgekit.schema.find import suggest

Parts = Mapping[str, RawSamples]

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


def npz(path: str, parts: Mapping[str, Sequence[str]] | None = None) -> Parts:
    """Any .npz file of plain arrays.

    Args:
        parts: name of a part -> the keys of its inputs and of its labels; none: one part `all`, keys inputs, labels.
    """
    keys = {"all": ("inputs", "labels")} if parts is None else dict(parts)
    arrays = _read(path, [key for pair in keys.values() for key in pair])
    return {part: _samples(arrays[pair[0]], arrays[pair[1]], f"{path}, part {part}") for part, pair in keys.items()}


def packed_cifar10(folder: str, test: str, train: str | None = None) -> Parts:
    """CIFAR-10 as differences of colour planes, unpacked to (N, 32, 32, 3) uint8 RGB: parts test, and train if named.

    Key `delta` (3, N, 32, 32) uint8 holds the planes G, R - G, B - G, each as differences down and then across, modulo
    256: what compresses well without losing a bit. Key `labels` (N,).

    Args:
        test: file name in `folder`; so is `train`.
    """
    parts = {}
    for part, name in (("train", train), ("test", test)):
        if name is not None:
            path = str(Path(folder) / name)
            arrays = _read(path, ["delta", "labels"])
            green, red, blue = arrays["delta"].cumsum(2, dtype=np.uint8).cumsum(3, dtype=np.uint8)
            images = np.stack([red + green, green, blue + green], axis=-1)
            parts[part] = _samples(images, arrays["labels"], path)
    return parts


def packed_mnist(path: str) -> Parts:
    """MNIST, (N, 28, 28, 1) uint8: parts train and test, from keys `<part>_images` and `<part>_labels`."""
    arrays = _read(path, ["train_images", "train_labels", "test_images", "test_labels"])
    return {
        part: _samples(arrays[f"{part}_images"][..., None], arrays[f"{part}_labels"], path)
        for part in ("train", "test")
    }


def packed_speech_commands_mfcc(path: str) -> Parts:
    """Int8 features of spoken words, (N, 49, 10, 1): part all, from keys `mfcc_int8` and `labels`."""
    arrays = _read(path, ["mfcc_int8", "labels"])
    return {"all": _samples(arrays["mfcc_int8"][..., None], arrays["labels"], path)}


def packed_speech_commands_audio(path: str, classes: Sequence[str]) -> Parts:
    """Spoken words as recorded, (N, 16000) int16 at 16 kHz: part all.

    Keys `audio_hi` int8 and `audio_lo` uint8 hold the high and the low bytes of differences from sample to sample,
    `classes` the names that `labels` count in.

    Args:
        classes: the same names in the order in which the network answers.

    Raises:
        DataError: the file has other classes.
    """
    arrays = _read(path, ["audio_hi", "audio_lo", "labels", "classes"])
    named = [name.decode() for name in arrays["classes"].tolist()]
    if sorted(named) != sorted(classes):
        raise DataError(
            f"the classes are {', '.join(named)}",
            f"{path}, arguments: classes {', '.join(classes)}",
            "name the same classes, in the order in which the network answers",
        )
    differences = arrays["audio_hi"].astype(np.int16) << 8 | arrays["audio_lo"]
    order = np.array([list(classes).index(name) for name in named])
    return {"all": _samples(differences.cumsum(1, dtype=np.int16), order[arrays["labels"]], path)}


def imagenet_sample(path: str, stride: int = 1) -> Parts:
    """A tar of equally large JPEG images named `<class index>_<anything>.jpg`, (N, H, W, 3) uint8 RGB: part all.

    Neighbouring classes resemble each other, so that a run of sorted images would be all dogs. Image p of the part is
    sorted image p * stride modulo N, which spreads every run of the part over the classes.

    Args:
        stride: shares no factor with the number of images.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as err:
        raise MissingExtraError(
            "Pillow is not installed", "loader imagenet_sample", "pip install 'edgekit[images]'"
        ) from err
    _check_file(path)
    try:
        with tarfile.open(path) as archive:
            members = {m.name: m for m in archive.getmembers() if m.isfile() and m.name.endswith(".jpg")}
            ordered = sorted(members)
            if math.gcd(stride, len(ordered)) != 1:
                raise DataError(
                    f"stride {stride} shares a factor with {len(ordered)} images",
                    f"loader imagenet_sample: {path}",
                    "choose a stride that shares none, such as a prime",
                )
            ordered = [ordered[p * stride % len(ordered)] for p in range(len(ordered))]
            images = []
            for name in ordered:
                file = archive.extractfile(members[name])
                assert file is not None, name
                with Image.open(io.BytesIO(file.read())) as image:
                    images.append(np.asarray(image.convert("RGB")))
        labels = np.array([int(Path(name).name.split("_")[0]) for name in ordered])
        return {"all": _samples(np.stack(images), labels, path)}
    except (tarfile.TarError, OSError, ValueError) as err:
        raise DataError(
            f"not a tar of labelled images of one size: {err}", f"loader imagenet_sample: {path}", "get the file again"
        ) from err


def _read(path: str, keys: Sequence[str]) -> dict[str, NDArray[Any]]:
    _check_file(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for key in keys:
                if key not in arrays.files:
                    raise DataError(f"no array {key!r}", path, suggest(key, sorted(arrays.files), "arrays"))
            return {key: arrays[key] for key in keys}
    except (ValueError, TypeError, AttributeError, OSError, zipfile.BadZipFile) as err:
        raise DataError(
            f"not an .npz of plain arrays: {err}", path, "save it with numpy.savez, without objects"
        ) from err


def _check_file(path: str) -> None:
    if not Path(path).is_file():
        raise DataError("there is no such file", path, "correct the path, or EDGEKIT_DATA where it is used")


def _samples(inputs: NDArray[Any], labels: NDArray[Any], where: str) -> RawSamples:
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(inputs):
        raise DataError(
            f"labels are {labels.dtype} {labels.shape} for inputs {inputs.shape}",
            where,
            "give one integer for each sample",
        )
    return RawSamples((inputs,), labels.astype(np.int64))
