import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.init.sources import DataSource, find_data_source, npz_parts


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("x_train", "y_train", "x_test", "y_test"), {"train": ["x_train", "y_train"], "test": ["x_test", "y_test"]}),
        (("train_images", "train_labels"), {"train": ["train_images", "train_labels"]}),
        (("X", "y"), {"all": ["X", "y"]}),
        (("inputs", "labels", "comment"), {"all": ["inputs", "labels"]}),
        (("val.data", "val.target"), {"selection": ["val.data", "val.target"]}),
    ],
)
def test_names_of_arrays_tell_parts_and_roles(tmp_path, names, parts):
    np.savez(tmp_path / "d.npz", **dict.fromkeys(names, np.zeros(2)))
    assert npz_parts(tmp_path / "d.npz") == parts


def test_names_that_tell_nothing_are_refused_with_what_to_write(tmp_path):
    np.savez(tmp_path / "d.npz", a=np.zeros(2), b=np.zeros(2))
    with pytest.raises(DataError) as caught:
        find_data_source(str(tmp_path / "d.npz"))
    assert "arrays a, b" in caught.value.what
    assert "--part train=INPUTS,LABELS" in caught.value.fix
    given = find_data_source(str(tmp_path / "d.npz"), {"all": ["a", "b"]})
    assert given.arguments == {"path": str(tmp_path / "d.npz"), "parts": {"all": ["a", "b"]}}


def test_a_function_is_taken_as_it_is_and_the_rest_must_be_there(tmp_path):
    assert find_data_source("net:samples") == DataSource(function="net:samples")
    with pytest.raises(DataError, match="no such file"):
        find_data_source(str(tmp_path / "absent.npz"))
    (tmp_path / "d.npz").write_text("no zip")
    with pytest.raises(DataError, match=r"not an \.npz file"):
        find_data_source(str(tmp_path / "d.npz"))
    (tmp_path / "d.parquet").write_text("")
    with pytest.raises(DataError) as caught:
        find_data_source(str(tmp_path / "d.parquet"))
    assert "--data module:function" in caught.value.fix
