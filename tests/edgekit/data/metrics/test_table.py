import numpy as np
import pytest

from edgekit.data.metrics import METRICS, Metric, find_metric
from edgekit.errors import DataError
from edgekit.schema.recipe import METRIC_NAMES

OUTPUTS = np.array([[6, 5, 4], [1, 2, 3], [9, 1, 8]], dtype=np.float32)
LABELS = np.array([1, 1, 1])

OWN = """
from edgekit.data.metrics import Metric

def share(outputs, labels, *, above=0.0):
    return (outputs[:, 0] > above).mean()

def both(outputs, labels):
    return float(outputs["a"].sum() + outputs["b"].sum())

def text(outputs, labels):
    return "good"

def broken(outputs, labels):
    return outputs["nothing"]

decibels = Metric(lambda outputs, labels: 30.0, is_share=False, details=lambda outputs, labels: {"low": 20.0})
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_metric_of_a_test.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return "own_metric_of_a_test:"


def test_every_metric_that_a_plan_accepts_is_there():
    assert tuple(METRICS) == METRIC_NAMES
    smaller = {name for name, metric in METRICS.items() if not metric.larger_is_better}
    assert smaller == {"mse", "mae", "perplexity"} == {name for name, metric in METRICS.items() if not metric.is_share}


def test_a_metric_by_name_with_its_arguments():
    assert find_metric("top1")(OUTPUTS, LABELS) == 0.0
    assert find_metric("top_k", {"k": 2})(OUTPUTS, LABELS) == pytest.approx(2 / 3)
    found = find_metric("per_class")
    assert found.details is not None
    assert found.details(OUTPUTS, np.array([0, 1, 0])) == {"class 0": 1.0, "class 1": 0.0}


def test_a_name_that_is_none_gets_the_nearest():
    with pytest.raises(DataError) as caught:
        find_metric("topp1")
    assert "did you mean 'top1'" in caught.value.fix


@pytest.mark.parametrize(
    ("arguments", "what", "fix"),
    [
        ({}, "missing a required argument: 'k'", "arguments: k"),
        ({"kk": 2}, "top_k does not take these arguments", "did you mean 'k'"),
        ({"k": 2, "outputs": 1}, "top_k does not take these arguments", "arguments: k"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, what, fix):
    with pytest.raises(DataError) as caught:
        find_metric("top_k", arguments)
    assert what in caught.value.what
    assert caught.value.where == "metric.arguments"
    assert fix in caught.value.fix
    with pytest.raises(DataError) as caught:
        find_metric("top1", {"k": 2})
    assert "arguments: none" in caught.value.fix


def test_one_of_several_outputs_is_chosen_by_name():
    outputs = {"wrong": OUTPUTS, "right": OUTPUTS[:, [1, 0, 2]]}
    assert find_metric("top1", output="right")(outputs, LABELS) == pytest.approx(2 / 3)
    assert find_metric("top1")({"right": outputs["right"]}, LABELS) == pytest.approx(2 / 3)
    with pytest.raises(DataError) as caught:
        find_metric("top1")(outputs, LABELS)
    assert caught.value.what == "the network has outputs wrong, right, and top1 is of one"
    assert "{name: top1, output: wrong}" in caught.value.fix
    with pytest.raises(DataError) as caught:
        find_metric("top1", output="rigth")(outputs, LABELS)
    assert caught.value.where == "metric.output"
    assert "did you mean 'right'" in caught.value.fix
    details = find_metric("per_class", output="right").details
    assert details is not None
    assert details(outputs, LABELS) == {"class 1": pytest.approx(2 / 3)}


def test_a_function_of_the_user_gets_its_arguments_and_all_outputs(own):
    assert find_metric(f"{own}share", {"above": 5.0})(OUTPUTS, LABELS) == pytest.approx(2 / 3)
    assert find_metric(f"{own}share", {"above": 5.0}, output="a")({"a": OUTPUTS, "b": 0}, LABELS) == pytest.approx(
        2 / 3
    )
    assert find_metric(f"{own}both")({"a": OUTPUTS, "b": OUTPUTS}, LABELS) == 78.0
    with pytest.raises(DataError) as caught:
        find_metric(f"{own}share", {"abov": 5.0})
    assert "did you mean 'above'" in caught.value.fix


def test_direction_and_scale_of_a_metric_of_the_user(own):
    plain = find_metric(f"{own}share")
    assert (plain.larger_is_better, plain.is_share) == (True, True)
    error = find_metric(f"{own}share", larger_is_better=False)
    assert (error.larger_is_better, error.is_share) == (False, False)
    said = find_metric(f"{own}decibels")
    assert (said.larger_is_better, said.is_share, said(OUTPUTS, LABELS)) == (True, False, 30.0)
    assert isinstance(said, Metric)
    assert said.details is not None
    assert said.details(OUTPUTS, LABELS) == {"low": 20.0}


def test_a_metric_of_edgekit_cannot_be_turned_round():
    assert find_metric("mse", larger_is_better=False).larger_is_better is False
    with pytest.raises(DataError) as caught:
        find_metric("mse", larger_is_better=True)
    assert (caught.value.what, caught.value.where) == ("mse is better when smaller", "metric.larger_is_better")


@pytest.mark.parametrize(("name", "what"), [("text", "the metric returned str"), ("broken", "the metric raised")])
def test_what_a_function_of_the_user_does_wrong_is_told(own, name, what):
    with pytest.raises(DataError) as caught:
        find_metric(f"{own}{name}")(OUTPUTS, LABELS)
    assert caught.value.what.startswith(what)
    assert name in caught.value.where
