"""Data sets packed for EDGEKIT_DATA: .npz files whose arrays hold differences, which compress well."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgekit.data.checks import samples_of
from edgekit.data.loaders.files import Parts
from edgekit.data.loaders.npz import read_npz
from edgekit.errors import DataError


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
            arrays = read_npz(path, ["delta", "labels"])
            green, red, blue = arrays["delta"].cumsum(2, dtype=np.uint8).cumsum(3, dtype=np.uint8)
            images = np.stack([red + green, green, blue + green], axis=-1)
            parts[part] = samples_of([images], arrays["labels"], path)
    return parts


def packed_mnist(path: str) -> Parts:
    """MNIST, (N, 28, 28, 1) uint8: parts train and test, from keys `<part>_images` and `<part>_labels`."""
    arrays = read_npz(path, ["train_images", "train_labels", "test_images", "test_labels"])
    return {
        part: samples_of([arrays[f"{part}_images"][..., None]], arrays[f"{part}_labels"], path)
        for part in ("train", "test")
    }


def packed_speech_commands_mfcc(path: str) -> Parts:
    """Int8 features of spoken words, (N, 49, 10, 1): part all, from keys `mfcc_int8` and `labels`."""
    arrays = read_npz(path, ["mfcc_int8", "labels"])
    return {"all": samples_of([arrays["mfcc_int8"][..., None]], arrays["labels"], path)}


def packed_speech_commands_audio(path: str, classes: Sequence[str]) -> Parts:
    """Spoken words as recorded, (N, 16000) int16 at 16 kHz: part all.

    Keys `audio_hi` int8 and `audio_lo` uint8 hold the high and the low bytes of differences from sample to sample,
    `classes` the names that `labels` count in.

    Args:
        classes: the same names in the order in which the network answers.

    Raises:
        DataError: the file has other classes.
    """
    arrays = read_npz(path, ["audio_hi", "audio_lo", "labels", "classes"])
    named = [name.decode() for name in arrays["classes"].tolist()]
    if sorted(named) != sorted(classes):
        raise DataError(
            f"the classes are {', '.join(named)}",
            f"{path}, arguments: classes {', '.join(classes)}",
            "name the same classes, in the order in which the network answers",
        )
    differences = arrays["audio_hi"].astype(np.int16) << 8 | arrays["audio_lo"]
    order = np.array([list(classes).index(name) for name in named])
    return {"all": samples_of([differences.cumsum(1, dtype=np.int16)], order[arrays["labels"]], path)}
