"""IDX files, the format of MNIST and of the sets that took its place: Fashion-MNIST, KMNIST, EMNIST."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from edgekit.data.checks import samples_of
from edgekit.data.loaders.files import Parts, check_file
from edgekit.data.loaders.npz import check_keys
from edgekit.errors import DataError

# third byte of the magic number -> dtype; numbers are big-endian
_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_FIX = "get the file again; IDX starts with two bytes of 0, one for the dtype and one for the count of axes"


def idx(folder: str, parts: Mapping[str, Sequence[str]]) -> Parts:
    """Files in IDX format, plain or compressed by gzip.

    Images of three axes get a fourth, of one channel: (N, H, W, 1). float64 becomes float32.

    Args:
        parts: name of a part -> names of the files in `folder` with its inputs, one for each input of the network, and
            last the file with its labels.

    Raises:
        DataError: no such file, one that is not IDX or not whole, or files of different lengths.

    Source: LeCun, The MNIST database, "the IDX file format".
    """
    made = {}
    for part, names in parts.items():
        where = f"{folder}, part {part}"
        check_keys(names, where, "files of the inputs and, last, of the labels")
        *inputs, labels = (read_idx(Path(folder) / name) for name in names)
        images = [array[..., None] if array.ndim == 3 else array for array in inputs]
        made[part] = samples_of(images, labels, where)
    return made


def read_idx(path: Path) -> NDArray[Any]:
    """The array of an IDX file, in this machine's byte order.

    Raises:
        DataError: no such file, one that is not IDX, or one that holds fewer or more bytes than its header says.
    """
    check_file(path)
    try:
        with path.open("rb") as plain:
            compressed = plain.read(2) == b"\x1f\x8b"
        with cast(BinaryIO, gzip.open(path) if compressed else path.open("rb")) as file:
            dtype, shape = _read_header(file, str(path))
            size = math.prod(shape) * dtype.itemsize
            # a file that is not compressed tells its size, so a header that lies takes no memory
            rest = path.stat().st_size - file.tell() if not compressed else None
            if rest is not None and rest != size:
                raise DataError(f"{rest:,} bytes of data, and the header says {size:,}", str(path), _FIX)
            data = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as err:
        raise DataError(f"the file cannot be read: {err}", str(path), "get the file again") from err
    if len(data) != size:
        seen = "more" if len(data) > size else f"{len(data):,}"
        raise DataError(f"{seen} bytes of data, and the header says {size:,}", str(path), _FIX)
    array = np.frombuffer(data, dtype).reshape(shape)
    return array.astype(np.float32 if dtype.str == ">f8" else dtype.newbyteorder("="))


def _read_header(file: BinaryIO, where: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or not magic[3]:
        raise DataError(f"starts with {magic.hex(' ') or 'nothing'}, which is not IDX", where, _FIX)
    lengths = file.read(4 * magic[3])
    if len(lengths) < 4 * magic[3]:
        raise DataError(f"a header of {len(lengths)} bytes for {magic[3]} axes", where, _FIX)
    return np.dtype(_DTYPES[magic[2]]), struct.unpack(f">{magic[3]}I", lengths)
