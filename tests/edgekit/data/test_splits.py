import numpy as np
import pytest
import torch
from pydantic import ValidationError

from edgekit.data.samples import RawSamples
from edgekit.data.splits import find_data, load_splits
from edgekit.errors import DataError
from edgekit.schema.calibration import CalibrationSet, Choose, Split
from edgekit.schema.load import load_calibration
from edgekit.schema.tensors import Preprocess, Resize

LENGTH = 100


def ramp(scale=1):
    """Sample i is a 2x2 image of i, its label i modulo 10."""
    inputs = np.broadcast_to(np.arange(LENGTH, dtype=np.uint8)[:, None, None, None], (LENGTH, 2, 2, 1)) * np.uint8(
        scale
    )
    part = RawSamples((inputs,), np.arange(LENGTH) % 10)
    return {"a": part, "b": part}


def calibration_set(**splits):
    given = {
        "calibration": Split(part="a", count=10),
        "selection": Split(part="a", start=10, count=10),
        "test": Split(part="b", start=1, step=7),
    } | splits
    return CalibrationSet(
        name="ramp", loader="ramp", preprocess=Preprocess(raw_layout="NHWC", offset=10, factor=0.5), **given
    )


def load(**splits):
    return load_splits(calibration_set(**splits), {"ramp": ramp})


def test_splits_are_cut_by_index_and_preprocessed():
    data = load(train=Split(part="a", start=20))
    assert data.splits.train is not None
    assert data.splits.train.labels.tolist() == [i % 10 for i in range(20, 100)]
    assert data.test.inputs[0].shape == (15, 1, 2, 2)  # NHWC became NCHW
    assert data.test.inputs[0][:, 0, 0, 0].tolist() == [(i - 10) * 0.5 for i in range(1, 100, 7)]
    assert data.raw_test.inputs[0][:, 0, 0, 0].tolist() == list(range(1, 100, 7))
    assert torch.equal(data.test.labels, torch.from_numpy(data.raw_test.labels))
    assert data.test.inputs[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"selection": Split(part="a", start=9, count=5)}, ("calibration", "selection", "1 samples", "index 9")),
        ({"test": Split(part="a", start=5, step=10)}, ("calibration", "test", "index 5")),
        ({"test": Split(part="a", start=19)}, ("selection", "test", "index 19")),
        ({"train": Split(part="a", start=15)}, ("train", "selection", "5 samples", "index 15")),
        ({"train": Split(part="b", start=90)}, ("train", "test", "index 92")),
    ],
)
def test_splits_that_share_a_sample_are_refused(splits, said):
    with pytest.raises(DataError) as caught:
        load(**splits)
    assert all(part in caught.value.what for part in said), caught.value.what


def test_calibration_may_come_from_training_samples():
    data = load(train=Split(part="a", start=0, count=10))
    assert data.splits.train is not None
    assert torch.equal(data.splits.train.inputs[0], data.splits.calibration.inputs[0])


def test_interleaved_splits_share_nothing():
    load(calibration=Split(part="a", step=2), selection=Split(part="a", start=1, step=2))


@pytest.mark.parametrize(
    ("split", "said"),
    [
        (Split(part="b", start=95, count=6), "6 samples"),
        (Split(part="b", count=51, step=2), "51 samples"),
        (Split(part="b", start=100), "no samples"),
        (Split(part="c"), "'c'"),
    ],
)
def test_a_split_outside_its_part_is_refused(split, said):
    with pytest.raises(DataError) as caught:
        load(test=split)
    assert said in caught.value.what
    assert "ramp, test" in caught.value.where


def test_the_digest_sees_contents_splits_and_preprocessing():
    one = load()
    assert load().digest == one.digest
    other_test = load(test=Split(part="b", start=2, step=7))
    assert other_test.digest != one.digest
    assert other_test.splits.digest == one.splits.digest  # what passes read did not change
    changed = load_splits(calibration_set(), {"ramp": lambda: ramp(scale=2)})
    assert changed.splits.digest != one.splits.digest
    rescaled = calibration_set().model_copy(update={"preprocess": Preprocess(raw_layout="NHWC", factor=0.25)})
    assert load_splits(rescaled, {"ramp": ramp}).splits.digest != one.splits.digest


def test_samples_of_another_dtype_than_declared_are_refused():
    declared = calibration_set().model_copy(update={"preprocess": Preprocess(raw_dtype="int8")})
    with pytest.raises(DataError) as caught:
        load_splits(declared, {"ramp": ramp})
    assert "uint8" in caught.value.what


def test_a_loader_with_wrong_arguments_is_an_error():
    wrong = calibration_set().model_copy(update={"arguments": {"pth": "x"}})
    with pytest.raises(DataError) as caught:
        load_splits(wrong, {"ramp": ramp})
    assert "pth" in caught.value.what


def test_data_from_the_users_own_function(tmp_path, monkeypatch):
    (tmp_path / "my_own_data.py").write_text(
        "import numpy as np\n"
        "x = np.arange(12, dtype=np.float32).reshape(6, 2)\n"
        "def parts(): return {'calibration': (x[:2], [0, 1]), 'test': (x[2:], np.array([0, 1, 2, 3]))}\n"
        "def no_test(): return {'calibration': (x, [0] * 6)}\n"
        "def unknown(): return {'calibration': (x, [0] * 6), 'test': (x, [0] * 6), 'selecton': (x, [0] * 6)}\n"
        "def broken(): raise RuntimeError('no disk')\n"
    )
    monkeypatch.chdir(tmp_path)
    data = find_data("my_own_data:parts")
    assert data.test.inputs[0].tolist() == [[4, 5], [6, 7], [8, 9], [10, 11]]
    assert data.splits.calibration.labels.tolist() == [0, 1]
    assert (data.splits.train, data.splits.selection) == (None, None)
    for function, said in (("no_test", "'test'"), ("unknown", "selecton"), ("broken", "no disk"), ("absent", "absent")):
        with pytest.raises(DataError) as caught:
            find_data(f"my_own_data:{function}")
        assert said in caught.value.what


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("digits", (1244, 256, 138, 415)),
        ("cifar10", (14000, 1024, 1000, 10000)),
        ("mnist", (19000, 512, 1000, 10000)),
        ("speech-commands", (0, 150, 50, 800)),
        ("speech-commands-20ms", (0, 150, 50, 800)),
        ("speech-commands-40ms", (0, 150, 50, 800)),
        ("imagenet-sample", (0, 200, 100, 400)),
    ],
)
def test_the_shipped_sets_load(data_folder, monkeypatch, name, sizes):
    monkeypatch.setenv("EDGEKIT_DATA", str(data_folder))
    data = find_data(name)
    parts = (data.splits.train, data.splits.calibration, data.splits.selection, data.test)
    assert tuple(0 if part is None else len(part) for part in parts) == sizes
    classes = load_calibration(name).calibration.classes
    if classes:
        assert set(data.test.labels.tolist()) == set(range(len(classes)))


def test_speech_features_are_those_of_the_float_network(data_folder, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", str(data_folder))
    data = find_data("speech-commands")
    codes = np.load(data_folder / "speech_commands_1000.npz")["mfcc_int8"][200:].astype(np.float32)
    wanted = torch.from_numpy((codes - 83) * np.float32(0.5847029089927673))[:, None]
    assert torch.equal(data.test.inputs[0], wanted)


def test_cifar10_is_normalised_as_the_networks_were_trained(data_folder, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", str(data_folder))
    data = find_data("cifar10")
    raw = torch.from_numpy(data.raw_test.inputs[0][:50].astype(np.float32)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    torch.testing.assert_close(data.test.inputs[0][:50], (raw - mean) / std, rtol=0, atol=2e-6)


def test_how_to_choose_is_handed_on_and_the_pool_is_whole(tmp_path, monkeypatch):
    (tmp_path / "calib").mkdir()
    (tmp_path / "calib" / "own.yaml").write_text(
        "name: own\nloader: digits\ncalibration: {part: train, count: 90}\ntest: {part: test}\n"
        "choose: {method: k-centre, count: 30, seed: 4}\n"
    )
    monkeypatch.chdir(tmp_path)
    splits = find_data("own").splits
    assert splits.choose == Choose(method="k-centre", count=30, seed=4)
    assert len(splits.calibration) == 90
    assert load().splits.choose is None


def test_shares_of_a_part_meet_without_overlap():
    data = load(
        train=Split(part="a", share=(0, 0.29)),
        calibration=Split(part="a", share=(0.29, 0.57), step=2),
        selection=Split(part="a", share=(0.57, 0.7)),
        test=Split(part="a", share=(0.7, 1)),
    )
    assert data.splits.train is not None
    counts = [len(data.splits.train), len(data.splits.calibration), len(data.test)]
    assert counts == [29, 14, 30]
    assert data.splits.calibration.labels.tolist() == [i % 10 for i in range(29, 57, 2)]
    with pytest.raises(DataError) as caught:
        load(test=Split(part="b", share=(0.5, 0.504)))
    assert caught.value.what == "no samples in share 0.5 to 0.504 of the 100 of part 'b'"
    for refused in ({"share": (0.5, 0.5)}, {"share": (0, 1.1)}, {"share": (0, 1), "count": 3}):
        with pytest.raises(ValidationError):
            Split(**refused)


@pytest.mark.parametrize("order", ["shuffled", "stratified"])
def test_splits_of_samples_sorted_by_class_hold_every_class(order):
    def sorted_by_class():
        return {"all": RawSamples((np.arange(100, dtype=np.float32)[:, None],), np.repeat(np.arange(4), 25))}

    given = CalibrationSet(
        name="s",
        loader="s",
        order=order,
        order_seed=3,
        preprocess=Preprocess(raw_dtype="float32", raw_layout="NC", layout="NC"),
        calibration=Split(share=(0, 0.4)),
        selection=Split(share=(0.4, 0.6)),
        test=Split(share=(0.6, 1)),
    )
    data = load_splits(given, {"s": sorted_by_class})
    assert data.splits.selection is not None
    values = [part.inputs[0][:, 0].tolist() for part in (data.splits.calibration, data.splits.selection, data.test)]
    assert sorted(value for part in values for value in part) == list(range(100))
    for part in (data.splits.calibration, data.splits.selection, data.test):
        assert set(part.labels.tolist()) == {0, 1, 2, 3}
        assert (part.inputs[0][:, 0] // 25).int().tolist() == part.labels.tolist()  # a sample keeps its label
    other = load_splits(given.model_copy(update={"order_seed": 4}), {"s": sorted_by_class})
    assert other.digest != data.digest


def test_a_loader_is_given_the_classes_of_the_set_and_its_resizing_is_noted():
    seen = {}

    def loader(resize=None, classes=()):
        seen.update(classes=classes, resize=resize)
        return ramp()

    names = tuple("abcdefghij")
    update = {"classes": names, "arguments": {"resize": [2, 2]}, "loader": "images"}
    data = load_splits(calibration_set().model_copy(update=update), {"images": loader})
    assert seen == {"classes": names, "resize": [2, 2]}
    assert data.calibration.preprocess.raw_resize == Resize(size=(2, 2))
    with pytest.raises(DataError) as caught:
        load_splits(calibration_set().model_copy(update=update | {"arguments": {"resze": 1}}), {"images": loader})
    assert "did you mean 'resize'" in caught.value.fix
    with pytest.raises(DataError) as caught:  # labels reach 9
        load_splits(calibration_set().model_copy(update=update | {"classes": names[:9]}), {"images": loader})
    assert caught.value.what == "label 9 of sample 9, and there are 9 classes, from 0 on"
    assert caught.value.where == "calibration set ramp, calibration: part a"


def test_a_class_has_one_name_and_a_name_one_class():
    with pytest.raises(ValidationError) as caught:
        CalibrationSet.model_validate(calibration_set().model_dump() | {"classes": ["cat", "dog", "cat"]})
    assert "'cat' is named twice" in str(caught.value)


def test_samples_that_are_not_finite_are_refused_where_they_are():
    def holed():
        inputs = np.zeros((LENGTH, 2), np.float32)
        inputs[25] = np.nan
        return {part: RawSamples((inputs,), np.arange(LENGTH)) for part in "ab"}

    update = {"preprocess": Preprocess(raw_dtype="float32", raw_layout="NC", layout="NC")}
    with pytest.raises(DataError) as caught:
        load_splits(calibration_set(selection=Split(part="a", start=20)).model_copy(update=update), {"ramp": holed})
    assert caught.value.what == "sample 25 of inputs holds a value that is NaN or infinite"
    assert caught.value.where == "calibration set ramp, selection: part a"
