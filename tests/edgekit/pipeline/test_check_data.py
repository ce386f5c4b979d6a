from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from edgekit.data.samples import Samples, Splits
from edgekit.errors import DataError
from edgekit.nets.load import build
from edgekit.pipeline.check_data import check_data, check_samples
from edgekit.schema.metric import MetricSpec
from edgekit.schema.postprocess import Postprocess
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec
from tests import nets

MODEL = nets.model(nets.TINY_CONV)
CLASSES = MODEL.outputs[0].shape[-1]


def samples(count: int = 16, label: int = 0) -> Samples:
    labels = torch.zeros(count, dtype=torch.int64)
    labels[2] = label
    return Samples((torch.zeros(count, 2, 8, 8),), labels)


def check(metric="top1", postprocess=(), **splits):
    given = {"train": samples(), "calibration": samples(), "selection": None, "test": samples()} | splits
    data = SimpleNamespace(
        splits=Splits(given["train"], given["calibration"], given["selection"], digest="d"), test=given["test"]
    )
    spec = MetricSpec.model_validate(metric)
    check_data(MODEL, data, SimpleNamespace(data="own", metric=spec, postprocess=postprocess))


@pytest.mark.parametrize("split", ["train", "calibration", "selection", "test"])
@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_that_the_network_has_no_output_for_is_named_before_anything_runs(split, label):
    check(**{split: samples(label=CLASSES - 1)})
    with pytest.raises(DataError) as caught:
        check(**{split: samples(label=label)})
    assert caught.value.what == f"label {label} of sample 2, and the network answers {CLASSES} classes, from 0 on"
    assert caught.value.where == f"data: own, {split}"


def test_labels_that_count_no_classes_are_left_to_the_metric():
    check(metric="perplexity", test=samples(label=-1))
    check(metric={"name": "top1", "output": "another"}, test=samples(label=99))
    check(postprocess=(Postprocess.model_validate("softmax"),), test=samples(label=99))
    floats = samples()
    check(test=replace(floats, labels=floats.labels.float() + 99))


def test_too_few_calibration_samples_are_refused():
    with pytest.raises(DataError) as caught:
        check(calibration=samples(count=15))
    assert caught.value.what == "15 calibration samples, and 16 are the least"
    assert caught.value.where == "data: own, calibration"
    assert "64" in caught.value.fix


@pytest.mark.parametrize("split", ["train", "selection", "test"])
def test_samples_of_another_shape_than_declared_are_refused_in_every_split(split):
    with pytest.raises(DataError) as caught:
        check(**{split: Samples((torch.zeros(3, 2, 9, 8),), torch.zeros(3, dtype=torch.int64))})
    assert caught.value.what == "a sample is (2, 9, 8), and input 'image' of the network takes (2, 8, 8)"
    assert caught.value.where == f"data: own, {split}; model.inputs"


def test_a_network_of_two_inputs_takes_samples_of_two():
    spec = (InputSpec(name="a", shape=(1, 2)), InputSpec(name="b", shape=(1, 2)))
    bilinear = {"in1_features": 2, "in2_features": 2, "out_features": 2}
    model = build(ModelSource(factory="torch.nn:Bilinear", inputs=spec, arguments=bilinear))
    one, labels = torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)
    check_samples(model, Samples((one, one), labels), "digits")
    with pytest.raises(DataError) as caught:
        check_samples(model, Samples((one,), labels), "digits")
    assert caught.value.what == "a sample has 1 inputs, and the network takes 2: a, b"


def test_tokens_for_an_input_of_floats_are_refused():
    with pytest.raises(DataError) as caught:
        check_samples(MODEL, Samples((torch.zeros(3, 2, 8, 8).long(),), torch.zeros(3)), "digits")
    assert "is int64" in caught.value.what
    assert "dtype: int64" in caught.value.fix
