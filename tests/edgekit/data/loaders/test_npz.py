import numpy as np
import pytest

from edgekit.data.loaders.npz import npz
from edgekit.errors import DataError


def test_any_npz_by_the_names_of_its_arrays(tmp_path):
    x, y = np.zeros((3, 2), np.float32), np.array([1, 0, 1], np.uint8)
    np.savez(tmp_path / "d.npz", xs=x, ys=y, inputs=x + 1, labels=y)
    path = str(tmp_path / "d.npz")
    assert npz(path)["all"].inputs[0][0, 0] == 1
    parts = npz(path, {"test": ("xs", "ys")})
    assert parts["test"].labels.tolist() == [1, 0, 1]
    with pytest.raises(DataError) as caught:
        npz(path, {"test": ("xs", "yss")})
    assert "did you mean 'ys'" in caught.value.fix


def test_several_inputs_and_labels_of_any_shape(tmp_path):
    image, depth = np.arange(12, dtype=np.uint8).reshape(3, 4), np.ones((3, 2), np.float32)
    angles = np.array([[0.5, 1], [2, 3], [4, 5]])
    np.savez(tmp_path / "d.npz", image=image, depth=depth, angles=angles, words=np.zeros((3, 7), np.int32))
    made = npz(str(tmp_path / "d.npz"), {"train": ["image", "depth", "angles"], "test": ["depth", "words"]})
    assert [array.dtype for array in made["train"].inputs] == [np.uint8, np.float32]
    np.testing.assert_array_equal(made["train"].inputs[0], image)
    np.testing.assert_array_equal(made["train"].labels, angles)
    assert made["train"].labels.dtype == np.float32
    assert made["test"].labels.dtype == np.int64
    assert made["test"].labels.shape == (3, 7)


@pytest.mark.parametrize("labels", [np.zeros(2, np.int64), np.array(["a", "b", "c"]), np.array(3)])
def test_labels_must_be_numbers_one_row_a_sample(tmp_path, labels):
    np.savez(tmp_path / "d.npz", inputs=np.zeros((3, 2)), labels=labels)
    with pytest.raises(DataError) as caught:
        npz(str(tmp_path / "d.npz"))
    assert f"labels are {labels.dtype} {labels.shape} for inputs (3, 2)" in caught.value.what
    assert caught.value.where.endswith("d.npz, part all")


def test_keys_of_a_part_are_a_list(tmp_path):
    for keys in ("inputs", ["inputs"]):
        with pytest.raises(DataError) as caught:
            npz(str(tmp_path / "d.npz"), {"all": keys})
        assert caught.value.what == f"{keys!r} is no list of two or more"


def test_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "d.npz", inputs=np.array([{}], dtype=object), labels=np.zeros(1, np.int64))
    with pytest.raises(DataError) as caught:
        npz(str(tmp_path / "d.npz"))
    assert "plain arrays" in caught.value.what
