"""Names of data set loaders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from edgekit.data.loaders.digit_anomalies import digit_anomalies
from edgekit.data.loaders.digits import digits
from edgekit.data.loaders.files import Parts
from edgekit.data.loaders.idx import idx
from edgekit.data.loaders.images import image_folder, imagenet_sample
from edgekit.data.loaders.npz import npz
from edgekit.data.loaders.packed import (
    packed_cifar10,
    packed_mnist,
    packed_speech_commands_audio,
    packed_speech_commands_mfcc,
)
from edgekit.data.loaders.pasted_digits import pasted_digits
from edgekit.data.loaders.tables import csv_file
from edgekit.data.loaders.wav import wav_folder
from edgekit.errors import DataError
from edgekit.schema.find import suggest
from edgekit.schema.reference import import_function

Loader: TypeAlias = Callable[..., Parts]

LOADERS: Mapping[str, Loader] = {
    "csv": csv_file,
    "digit_anomalies": digit_anomalies,
    "digits": digits,
    "idx": idx,
    "image_folder": image_folder,
    "imagenet_sample": imagenet_sample,
    "npz": npz,
    "packed_cifar10": packed_cifar10,
    "packed_mnist": packed_mnist,
    "packed_speech_commands_audio": packed_speech_commands_audio,
    "packed_speech_commands_mfcc": packed_speech_commands_mfcc,
    "pasted_digits": pasted_digits,
    "wav_folder": wav_folder,
}


def find_loader(name: str, where: str = "loader", table: Mapping[str, Loader] = LOADERS) -> Loader:
    """The loader of that name, or the user's own function of `package.module:function`.

    Raises:
        DataError: no such loader; names the nearest.
    """
    if ":" in name:
        return import_function(name, where, DataError)
    if name not in table:
        raise DataError(f"no loader is called {name!r}", where, suggest(name, sorted(table), "loaders"))
    return table[name]
