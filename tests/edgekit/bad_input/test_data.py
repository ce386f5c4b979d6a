"""What is wrong with samples, labels, or where they come from."""

import gzip
import importlib.util
import struct

import numpy as np
import pytest
import yaml

pytestmark = pytest.mark.skipif(importlib.util.find_spec("onnx") is None, reason="plans an ONNX artifact")

SET = {
    "name": "shots",
    "preprocess": {"raw_dtype": "float32", "raw_layout": "N"},
    "train": {"part": "train"},
    "calibration": {"part": "train", "count": 24},
    "selection": {"part": "test", "share": [0, 0.5]},
    "test": {"part": "test", "share": [0.5, 1]},
}


@pytest.fixture
def refused_set(refused, folder):
    """Builds with calib/shots.yaml, laid over `SET`, which must be refused."""
    (folder / "calib").mkdir()

    def run(**changes):
        (folder / "calib" / "shots.yaml").write_text(yaml.safe_dump(SET | changes))
        return refused(over={"data": "shots"})

    return run


@pytest.fixture
def refused_arrays(refused_set, folder):
    """The same with an .npz file, whose good arrays a function may spoil."""

    def run(spoil=lambda arrays: None, **changes):
        generator = np.random.default_rng(0)
        arrays = {"x": generator.normal(size=(48, 1, 4, 4)).astype(np.float32), "y": np.arange(48) % 2}
        arrays |= {"tx": arrays["x"][:20] + 1, "ty": arrays["y"][:20].copy()}
        spoil(arrays)
        np.savez(folder / "shots.npz", **arrays)
        parts = {"train": ["x", "y"], "test": ["tx", "ty"]}
        return refused_set(**{"loader": "npz", "arguments": {"path": "shots.npz", "parts": parts}} | changes)

    return run


def test_a_file_that_is_absent(refused_set):
    error = refused_set(loader="npz", arguments={"path": "shoots.npz"})
    assert (error.kind, error.what, error.where) == ("DataError", "there is no such file", "shoots.npz")
    assert "correct the path" in error.fix


def test_a_folder_that_is_absent_and_a_class_without_images(refused_set, folder):
    pytest.importorskip("PIL", reason="reads images")
    error = refused_set(loader="image_folder", arguments={"path": "photos"})
    assert (error.what, error.where) == ("there is no such folder or tar", "photos")
    from PIL import Image

    (folder / "photos" / "cat").mkdir(parents=True)
    Image.new("L", (4, 4)).save(folder / "photos" / "cat" / "1.png")
    error = refused_set(loader="image_folder", arguments={"path": "photos"}, classes=["cat", "dog"])
    assert (error.what, error.where) == ("class 'dog' has no sample", "photos")
    (folder / "photos" / "cat" / "2.png").write_bytes(b"\x89PNG and nothing else")
    error = refused_set(loader="image_folder", arguments={"path": "photos"})
    assert "a damaged image" in error.what
    assert error.where == "photos: cat/2.png"


def test_a_file_that_is_not_what_its_loader_reads(refused_set, folder):
    (folder / "i.gz").write_bytes(gzip.compress(b"\0\0\x08\2" + struct.pack(">2I", 3, 4) + b"short"))
    error = refused_set(loader="idx", arguments={"folder": ".", "parts": {"train": ["i.gz", "i.gz"]}})
    assert error.what == "5 bytes of data, and the header says 12"
    assert error.where == "i.gz"
    assert "get the file again" in error.fix
    (folder / "s.csv").write_text("a,b,label\n1,2,0\n3,,1\n")
    error = refused_set(loader="csv", arguments={"path": "s.csv"})
    assert (error.what, error.where) == ("the cell is empty", "s.csv, line 3, column b")
    assert "leave the line out" in error.fix


def test_a_loader_an_argument_and_a_part_that_do_not_exist(refused_arrays):
    error = refused_arrays(loader="npzz")
    assert error.what == "no loader is called 'npzz'"
    assert "did you mean 'npz'" in error.fix
    error = refused_arrays(arguments={"pth": "shots.npz"})
    assert "loader npz does not take these arguments" in error.what
    assert error.where == "calibration set shots, arguments"
    assert "did you mean 'path'" in error.fix
    error = refused_arrays(train={"part": "trains"})
    assert (error.what, error.where) == ("no part 'trains'", "calibration set shots, train")
    assert "did you mean 'train'" in error.fix


def test_a_calibration_set_that_is_empty_or_too_small(refused_arrays):
    error = refused_arrays(calibration={"part": "train", "start": 48})
    assert error.what == "no samples from 48 on in part 'train' of 48"
    assert error.where == "calibration set shots, calibration"
    error = refused_arrays(calibration={"part": "train", "count": 5})
    assert error.what == "5 calibration samples, and 16 are the least"
    assert error.where == "data: shots, calibration"
    assert "64" in error.fix
    error = refused_arrays(choose={"method": "random", "count": 25})
    assert "25 samples are to be chosen, and the calibration split has 24" in error.what


def test_splits_that_share_samples(refused_arrays):
    error = refused_arrays(selection={"part": "test", "share": [0, 0.6]})
    assert error.what == "selection and test share 2 samples, the first at index 10"
    assert "share" in error.fix


@pytest.mark.parametrize(("array", "split"), [("y", "train: part train"), ("ty", "selection: part test")])
@pytest.mark.parametrize("label", [2, -1])
def test_a_label_out_of_range(refused_arrays, array, split, label):
    def spoil(arrays):
        arrays[array][7] = label

    named = refused_arrays(spoil, classes=["low", "high"])
    assert named.what == f"label {label} of sample 7, and there are 2 classes, from 0 on"
    assert named.where == f"calibration set shots, {split}"


def test_a_label_that_the_network_has_no_output_for(refused, folder, refused_arrays):
    def spoil(arrays):
        arrays["ty"][19] = 2

    content = yaml.safe_load((folder / "own.yaml").read_text())
    (folder / "own.yaml").write_text(yaml.safe_dump(content | {"metric": "top1"}))
    error = refused_arrays(spoil)  # the last test sample: nothing is trained before it is found
    assert error.what == "label 2 of sample 9, and the network answers 2 classes, from 0 on"
    assert error.where == "data: shots, test"
    assert not list((folder / "home").glob("steps/unfinished/*"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite(refused_arrays, value):
    def spoil(arrays):
        arrays["x"][5, 0, 1, 1] = value

    error = refused_arrays(spoil)
    assert error.what == "sample 5 of inputs holds a value that is NaN or infinite"
    assert error.where == "calibration set shots, train: part train"
    assert "leave it out" in error.fix


def test_samples_of_another_dtype_or_shape(refused_arrays):
    error = refused_arrays(preprocess={"raw_dtype": "uint8", "raw_layout": "N"})
    assert error.what == "raw samples are float32, declared as uint8"
    assert "raw_dtype" in error.where
    error = refused_arrays(lambda arrays: arrays.update({"x": arrays["x"][..., :3], "tx": arrays["tx"][..., :3]}))
    assert error.what == "a sample is (1, 4, 3), and input 'image' of the network takes (1, 4, 4)"
    assert "preprocessing" in error.fix
    error = refused_arrays(lambda arrays: arrays.update(y=arrays["y"][:-1]))
    assert error.what == "labels are int64 (47,) for inputs (48, 1, 4, 4)"


def test_preprocessing_that_cannot_be(refused_arrays):
    error = refused_arrays(
        preprocess={"raw_dtype": "float32", "raw_layout": "NCHW", "resize": {"size": [4, 4], "mod": 1}}
    )
    assert error.kind == "SchemaError"
    assert "mod" in error.what
    error = refused_arrays(preprocess={"raw_dtype": "float32", "raw_layout": "NCHW", "crop": [9, 9]})
    assert error.what == "a crop of 9 from 4 pixels"
    error = refused_arrays(preprocess={"raw_dtype": "float32", "raw_layout": "NCHW", "std": [0.0]})
    assert "no zero" in error.what


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("def samples(): raise OSError('no disk')", "the function raised OSError('no disk')"),
        ("def samples(): return [1]", "the loader returned list"),
        ("def samples(): return {'test': ([[1.0]], [0])}", "no part 'calibration'"),
        ("def samples(): return {'calibration': ([[1.0]], ['cat']), 'test': ([[1.0]], [0])}", "labels are <U3 (1,)"),
        ("def sampls(): pass", "module bad_code has no function 'samples'"),
    ],
)
def test_a_function_of_the_user_that_gives_no_samples(refused, folder, code, what):
    (folder / "bad_code.py").write_text(code)
    error = refused(over={"data": "bad_code:samples"})
    assert what in error.what
    assert "bad_code:samples" in error.where
