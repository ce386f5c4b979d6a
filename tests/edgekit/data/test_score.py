import numpy as np
import pytest

from edgekit.data.score import Score, take
from edgekit.errors import DataError
from edgekit.schema.metric import MetricSpec
from edgekit.schema.postprocess import Postprocess

INPUTS = {"x": np.array([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]], np.float32)}
REBUILT = {"y": np.array([[1.0, 2.0], [3.0, 6.0], [0.0, 1.0]], np.float32)}


def test_a_metric_sees_what_postprocessing_made_of_inputs_and_outputs():
    score = Score.of(MetricSpec(name="auc"), [Postprocess.model_validate("reconstruction_error")])
    np.testing.assert_allclose(score.prepare(INPUTS, REBUILT), [0.0, 2.0, 0.5])
    assert score(INPUTS, REBUILT, np.array([0, 1, 0])) == 1.0
    assert score(INPUTS, REBUILT, np.array([1, 0, 1])) == 0.0


def test_one_output_is_given_as_it_is_and_several_by_name():
    score = Score.of(MetricSpec(name="mse", output="b"))
    outputs = {"a": np.zeros((2, 1), np.float32), "b": np.array([[1.0], [3.0]], np.float32)}
    assert set(score.prepare({}, outputs)) == {"a", "b"}
    assert score({}, outputs, np.zeros((2, 1), np.float32)) == 5.0
    assert Score.of(MetricSpec(name="mse")).prepare({}, {"a": outputs["a"]}) is outputs["a"]


def test_rows_are_taken_of_every_output():
    outputs = {"a": np.arange(3), "b": np.arange(6).reshape(3, 2)}
    taken = take(outputs, np.array([2, 0]))
    assert (taken["a"].tolist(), taken["b"].tolist()) == ([2, 0], [[4, 5], [0, 1]])
    assert take(outputs["a"], np.array([1, 1])).tolist() == [1, 1]


def test_a_drop_follows_the_metric():
    assert Score.of(MetricSpec(name="mse")).drop(2.0, 3.0) == 0.5
    assert Score.of(MetricSpec(name="top1")).drop(0.5, 0.75) == -0.25


def test_a_step_that_does_not_fit_the_network_names_itself():
    score = Score.of(MetricSpec(name="auc"), [Postprocess.model_validate({"softmax": {"output": "z"}})])
    with pytest.raises(DataError) as caught:
        score({}, REBUILT, np.zeros(3))
    assert "'z'" in caught.value.what
    assert "softmax" in caught.value.where
    assert caught.value.fix


def test_details_name_classes_as_the_data_do():
    outputs = {"y": np.array([[2, 1, 0], [0, 1, 2], [0, 1, 2]], np.float32)}
    labels = np.array([0, 0, 2])
    plain = Score.of(MetricSpec(name="per_class")).with_details(outputs["y"], labels)
    assert plain == (0.75, {"class 0": 0.5, "class 2": 1.0})
    named = Score.of(MetricSpec(name="per_class"), classes=["cat", "dog"]).with_details(outputs["y"], labels)
    assert named == (0.75, {"class cat": 0.5, "class 2": 1.0})  # the third has no name
