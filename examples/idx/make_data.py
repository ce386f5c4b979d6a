"""Writes data/*.gz: the 1,797 digits of scikit-learn as IDX files of 28 x 28 pixels, for a try without a download."""

import gzip
import struct
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits


def write_idx(path: Path, array: np.ndarray) -> None:
    """Bytes as an IDX file: two zeros, 8 for uint8, the count of axes, their lengths in big-endian, the values."""
    with gzip.open(path, "wb") as file:
        file.write(struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape))
        file.write(array.astype(np.uint8).tobytes())


if __name__ == "__main__":
    digits = load_digits()
    images = np.minimum(digits.images * 16, 255).repeat(3, axis=1).repeat(3, axis=2)  # (N, 24, 24), 0..255
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    # neighbours come from one writer, so parts are interleaved: every fifth image is a test image
    test = np.arange(len(images)) % 5 == 4
    folder = Path("data")
    folder.mkdir(exist_ok=True)
    for name, chosen in (("train", ~test), ("t10k", test)):
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", images[chosen])
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", digits.target[chosen])
