import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.init.facts import Answer, ArrayFacts, LabelFacts, NetworkFacts, PartFacts, Question, Way
from edgekit.init.propose import propose
from edgekit.schema.tensors import InputSpec

QUESTION = Question(loader="npz", factory="net:make")


def part(name, count, **labels):
    told = {"kind": "classes", "shape": (), "low": 0, "high": 9, "in_order": False, **labels}
    array = ArrayFacts(shape=(8, 8, 1), dtype="uint8", low=0, high=16)
    return PartFacts(name=name, count=count, inputs=(array,), labels=LabelFacts(**told))


def network(output=(1, 10), way=None):
    way = way or Way(raw_layout="NHWC", layout="NCHW", shape=(1, 1, 8, 8))
    inputs = (InputSpec(name="image", shape=way.shape),)
    return NetworkFacts(inputs=inputs, way=way, outputs={"output": output}, parameters=5)


def proposal(*parts, question=QUESTION, **changes):
    return propose(question, Answer(parts=parts, network=network(**changes)))


def taken(split, count):
    """Indices that a split takes of a part of so many samples."""
    found = np.arange(count)[split.get("start", 0) :: split.get("step", 1)]
    return set(found[: split.get("count")].tolist())


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("names", [("all",), ("train",), ("train", "test"), ("train", "selection", "test")])
@pytest.mark.parametrize("count", [12, 13, 5000])
def test_splits_share_no_sample(names, in_order, count):
    splits = proposal(*(part(name, count, in_order=in_order) for name in names)).splits
    assert list(splits) == ["train", "calibration", "selection", "test"]
    used = {name: {(split["part"], i) for i in taken(split, count)} for name, split in splits.items()}
    assert all(used.values())
    assert not used["train"] & used["selection"]
    assert not (used["train"] | used["selection"] | used["calibration"]) & used["test"]
    assert used["calibration"] <= used["train"]
    if len(names) == 1:
        assert len(used["test"]) == count // 5
        assert len(used["train"] | used["selection"] | used["test"]) == count


def test_what_is_sorted_by_class_or_the_only_part_is_mixed_before_it_is_split():
    found = proposal(part("train", 900), part("test", 90))
    assert (found.order, found.notes) == ("stored", ())
    found = proposal(part("train", 900, in_order=True), part("test", 90))
    assert found.order == "stratified"
    assert found.notes == ("part train is stratified before it is split: its labels stand in order",)
    found = proposal(part("all", 900))
    assert (found.order, len(found.notes)) == ("stratified", 2)
    assert "180 of its samples are kept for the test" in found.notes[0]
    assert proposal(part("all", 900, kind="numbers"), output=(1, 1)).order == "shuffled"
    assert proposal(part("train", 90, in_order=True), part("selection", 9), part("test", 9)).order == "stored"


@pytest.mark.parametrize(
    ("labels", "output", "expected"),
    [
        ({}, (1, 10), ("top1", "")),
        ({"kind": "numbers", "high": 1.5}, (1, 1), ("mse", "mse")),
        ({"kind": "numbers", "shape": (3,)}, (1, 3), ("mse", "mse")),
    ],
)
def test_labels_and_outputs_suggest_the_metric_and_the_loss(labels, output, expected):
    found = proposal(part("all", 100, **labels), output=output)
    assert (found.metric, found.loss) == expected


def test_labels_that_the_network_cannot_answer_are_refused():
    with pytest.raises(DataError) as caught:
        proposal(part("all", 100), output=(1, 9))
    assert caught.value.what == "labels are 0 to 9, and the network answers 9 classes"
    with pytest.raises(DataError) as caught:
        proposal(part("all", 100, shape=(4, 5), kind="numbers"))
    assert "--metric" in caught.value.fix
    answer = Answer(parts=(part("all", 100, shape=(4, 5), kind="numbers"),), network=network())
    assert propose(QUESTION, answer, metric="own:score", loss="own:loss").loss == "own:loss"


def test_too_few_samples_are_refused():
    with pytest.raises(DataError, match="11 samples"):
        proposal(part("all", 11))


@pytest.mark.parametrize(
    ("dtype", "high", "factor"),
    [
        ("uint8", 16, 1 / 16),
        ("uint8", 255, 1 / 255),
        ("uint8", 200, 1 / 255),
        ("int8", 127, 1 / 128),
        ("float32", 3, None),
    ],
)
def test_raw_values_are_scaled_to_end_at_one(dtype, high, factor):
    seen = part("all", 100)
    seen = seen.model_copy(update={"inputs": (ArrayFacts(shape=(8, 8, 1), dtype=dtype, low=0, high=high),)})
    assert proposal(seen).preprocess.get("factor") == factor


def test_a_dtype_that_preprocessing_does_not_know_is_refused():
    seen = part("all", 100)
    seen = seen.model_copy(update={"inputs": (ArrayFacts(shape=(8, 8, 1), dtype="float64", low=0, high=1),)})
    with pytest.raises(DataError, match="inputs are float64"):
        proposal(seen)


def test_layout_and_size_are_told_where_they_change():
    way = Way(raw_layout="NHWC", layout="NHWC", shape=(1, 16, 16, 1), resize=(16, 16))
    found = proposal(part("all", 100), way=way).preprocess
    assert found == {"raw_dtype": "uint8", "raw_layout": "NHWC", "resize": [16, 16], "factor": 1 / 16, "layout": "NHWC"}


def test_trained_weights_are_not_trained_again():
    assert proposal(part("all", 100)).trains
    assert not proposal(part("all", 100), question=QUESTION.model_copy(update={"checkpoint": "w.pth"})).trains


@pytest.mark.parametrize(("count", "batch", "epochs"), [(60, 4, 40), (12, 1, 50), (8, 1, 75), (60000, 64, 20)])
def test_few_samples_are_trained_on_in_small_batches_and_more_often(count, batch, epochs):
    found = proposal(part("train", count), part("test", 40))
    assert (found.batch_size, found.epochs) == (batch, epochs)
