"""The inspector's JSON, in the words of its formats (TensorRT 8.x 'Row major linear FP16 format', 10.x 'Half')."""

import json

import pytest

from edgekit.agent.engine_layers import inspector_layers, layer_rows, precision_of


def tensor(words: str) -> dict[str, object]:
    return {"Name": "t", "Dimensions": [1, 8], "Format/Datatype": words}


@pytest.mark.parametrize(
    ("words", "precision"),
    [
        ("Row major linear FP32", "fp32"),
        ("Row major linear FP16 format", "fp16"),
        ("Four wide channel vectorized row major Int8 format", "int8"),
        ("Channel major UInt8 format", "uint8"),
        ("Row major linear BFloat16 format", "bf16"),
        ("Half", "fp16"),
        ("Float", "fp32"),
        ("BFloat16", "bf16"),
        ("Int64", "int64"),
        ("FP8", "fp8"),
        ("Unknown format", None),
    ],
)
def test_precision_is_in_the_words_of_a_format(words: str, precision: str | None):
    assert precision_of({"Name": "a", "Inputs": [tensor(words)]}) == precision


def test_weights_tell_more_than_what_is_read_or_written():
    layer = {
        "Inputs": [tensor("Row major linear FP16 format")],
        "Outputs": [tensor("Float")],
        "Weights": {"Type": "Int8", "Count": 864},
    }
    assert precision_of(layer) == "int8"
    assert precision_of({**layer, "Weights": {"Type": "Float", "Count": 0}}) == "fp16"  # it has none


def test_newer_keys_and_missing_ones():
    assert precision_of({"Inputs": [{"Name": "t", "Datatype": "Half", "Format": "NCHW"}]}) == "fp16"
    assert precision_of({"Inputs": [], "Outputs": [tensor("Int8")]}) == "int8"
    assert precision_of({}) is None


def test_rows_join_times_and_layers_in_order_of_execution():
    layers = [
        {"Name": "b", "LayerType": "CaskConvolution", "Inputs": [tensor("Half")]},
        {"Name": "never timed", "LayerType": "NoOp", "Inputs": []},
    ]
    rows = layer_rows({"a": [1.0, 2.0], "b": [0.5, 0.5, 0.25, 0.25]}, 2, layers)
    assert rows == [
        {"name": "a", "operator": "", "mean_ms": 1.5, "runs": 2, "precision": None},
        {"name": "b", "operator": "CaskConvolution", "mean_ms": 0.75, "runs": 2, "precision": "fp16"},  # two of a name
    ]


def test_an_inspector_without_details_or_sense():
    assert inspector_layers(json.dumps({"Layers": ["conv", "top"], "Bindings": ["x"]})) == ["conv", "top"]
    assert inspector_layers('{"Layers": [{"Name": "a "quoted" name"}]}') == []
    assert inspector_layers("[]") == []
    assert layer_rows({"conv": [1.0]}, 1, ["conv"])[0]["precision"] is None
