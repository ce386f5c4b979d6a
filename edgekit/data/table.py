"""Names of data set loaders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from edgekit.data.loaders import (
    Parts,
    digits,
    imagenet_sample,
    npz,
    packed_cifar10,
    packed_mnist,
    packed_speech_commands_audio,
    packed_speech_commands_mfcc,
)
from edgekit.errors import DataError
from edgekit.schema.find import suggest
from edgekit.schema.reference import import_function

Loader: TypeAlias = Callable[..., Parts]

LOADERS: Mapping[str, Loader] = {
    "digits": digits,
    "imagenet_sample": imagenet_sample,
    "npz": npz,
    "packed_cifar10": packed_cifar10,
    "packed_mnist": packed_mnist,
    "packed_speech_commands_audio": packed_speech_commands_audio,
    "packed_speech_commands_mfcc": packed_speech_commands_mfcc,
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
