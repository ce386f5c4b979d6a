import gzip
import struct

import numpy as np
import pytest

from edgekit.data.loaders.idx import idx, read_idx
from edgekit.errors import DataError

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def packed(array, dtype):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[dtype], array.ndim, *array.shape)
    return header + array.astype(f">{dtype}").tobytes()


@pytest.mark.parametrize("dtype", list(CODES))
@pytest.mark.parametrize("compressed", [False, True])
def test_every_dtype_is_read_in_big_endian(tmp_path, dtype, compressed):
    wanted = np.array([[1, 2, 100], [-3 if dtype[0] != "u" else 3, 4, 5]], dtype)
    content = packed(wanted, dtype)
    path = tmp_path / "a-idx2"  # the name says nothing: the content does
    path.write_bytes(gzip.compress(content) if compressed else content)
    found = read_idx(path)
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == np.dtype("f4" if dtype == "f8" else dtype)
    assert found.dtype.isnative


def test_parts_are_files_of_a_folder_and_images_get_a_channel(tmp_path):
    images, labels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.array([7, 3], np.uint8)
    extra = np.array([[0.5, 1], [2, 3]])
    (tmp_path / "i").write_bytes(packed(images, "u1"))
    (tmp_path / "x").write_bytes(packed(extra, "f4"))
    (tmp_path / "l.gz").write_bytes(gzip.compress(packed(labels, "u1")))
    made = idx(str(tmp_path), {"train": ["i", "l.gz"], "test": ["i", "x", "l.gz"]})
    np.testing.assert_array_equal(made["train"].inputs[0][..., 0], images)
    assert made["train"].inputs[0].shape == (2, 3, 4, 1)
    assert made["train"].labels.tolist() == [7, 3]
    assert made["train"].labels.dtype == np.int64
    np.testing.assert_array_equal(made["test"].inputs[1], extra)


GOOD = packed(np.zeros((2, 3), np.uint8), "u1")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "starts with nothing"),
        (b"\x89PNG\r\n", "starts with 89 50 4e 47, which is not IDX"),
        (b"\0\0\x0a\2" + GOOD[4:], "starts with 00 00 0a 02"),
        (GOOD[:9], "a header of 5 bytes for 2 axes"),
        (GOOD[:-1], "5 bytes of data, and the header says 6"),
        (GOOD + b"x", "7 bytes of data, and the header says 6"),
        (GOOD[:4] + b"\xff" * 8, "the header says 18,446,744,065,119,617,025"),
        (gzip.compress(GOOD[:-1], mtime=0), "5 bytes of data, and the header says 6"),
        (gzip.compress(GOOD + b"x", mtime=0), "more bytes of data, and the header says 6"),
        (gzip.compress(GOOD, mtime=0)[:-9], "the file cannot be read"),
        (b"\x1f\x8bno", "the file cannot be read"),
    ],
)
def test_what_is_not_whole_idx_is_named(tmp_path, content, what):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_idx(tmp_path / "a")
    assert what in caught.value.what
    assert caught.value.where == str(tmp_path / "a")
    assert "get the file again" in caught.value.fix


def test_files_of_different_lengths_and_absent_files_are_refused(tmp_path):
    (tmp_path / "i").write_bytes(GOOD)
    (tmp_path / "l").write_bytes(packed(np.zeros(3), "u1"))
    with pytest.raises(DataError) as caught:
        idx(str(tmp_path), {"train": ["i", "l"]})
    assert caught.value.what == "labels are uint8 (3,) for inputs (2, 3)"
    with pytest.raises(DataError) as caught:
        idx(str(tmp_path), {"train": ["i", "m"]})
    assert caught.value.what == "there is no such file"
    with pytest.raises(DataError) as caught:
        idx(str(tmp_path), {"train": "i"})
    assert "'i' is no list" in caught.value.what
