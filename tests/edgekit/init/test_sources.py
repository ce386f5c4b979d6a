import wave

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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b,label\n1,2,0\n3,4,1\n", {"label": "label"}),
        ("class,a\ncat,1\ndog,2\n", {"label": "class", "classes": ["cat", "dog"]}),
        ("a,b,price\n1,2,0.5\n3,4,1\n", {"targets": ["price"]}),
        ("1,2,0\n3,4,1\n", {"header": False, "label": 2}),
    ],
)
def test_a_table_tells_its_label(tmp_path, text, expected):
    path = tmp_path / "t.csv"
    path.write_text(text)
    assert find_data_source(str(path)) == DataSource(loader="csv", arguments={"path": str(path), **expected})


def test_a_table_that_is_none_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1\n")
    with pytest.raises(DataError, match="different lengths"):
        find_data_source(str(tmp_path / "t.csv"))


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return str(folder)


def test_files_in_idx_format_are_told_by_their_names(tmp_path):
    names = [f"{part}-{role}-ubyte.gz" for part in ("train", "t10k") for role in ("images-idx3", "labels-idx1")]
    given = find_data_source(make(tmp_path / "d", *names))
    assert given.loader == "idx"
    assert given.arguments["parts"] == {"train": names[:2], "test": names[2:]}
    with pytest.raises(DataError, match="do not say"):
        find_data_source(make(tmp_path / "e", "a-idx3-ubyte"))


def test_folders_of_images_are_parts_where_they_are_called_so(tmp_path):
    given = find_data_source(make(tmp_path / "d", "train/cat/1.png", "train/dog/2.JPG", "val/cat/3.png"))
    assert given.loader == "image_folder"
    assert given.arguments["parts"] == {"train": "train", "selection": "val"}
    path = make(tmp_path / "e", "cat/1.png", "dog/2.png")
    assert find_data_source(path).arguments == {"path": path}
    assert find_data_source(path, shape=(1, 1, 32, 24)).arguments == {"path": path, "resize": [32, 24], "channels": 1}


def test_recordings_tell_their_rate_and_length(tmp_path):
    for name, frames in (("yes/1.wav", 800), ("yes/2.wav", 800), ("no/1.wav", 700)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with wave.open(str(tmp_path / name), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(b"\0\0" * frames)
    given = find_data_source(str(tmp_path))
    assert given == DataSource(loader="wav_folder", arguments={"path": str(tmp_path), "rate_hz": 8000, "samples": 800})
