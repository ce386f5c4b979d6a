"""What a recipe's own checks refuse."""

import pytest

from edgekit.errors import SchemaError
from edgekit.schema.recipe import ModelSource
from edgekit.schema.validate import validate

X = [{"name": "x", "shape": [1, 4]}]


@pytest.mark.parametrize(
    ("content", "what", "fix"),
    [
        ({"inputs": X}, "none of", "factory: package.module:function"),
        ({"factory": "net:make", "onnx": "net.onnx", "inputs": X}, "both factory and onnx", "onnx: model.onnx"),
        ({"factory": "net:make", "pt2": "net.pt2", "inputs": X}, "both factory and pt2", "pt2: model.pt2"),
        ({"factory": "net:make", "sha256": "0" * 64, "inputs": X}, "'sha256' is of a file", "checkpoint"),
        ({"pt2": "net.pt2", "checkpoint": {"path": "w.pth"}}, "'checkpoint' is for a factory", "remove checkpoint"),
        ({"factory": "net:make"}, "'inputs' is missing", "name and shape of each input"),
        ({"onnx": "net.onnx", "arguments": {"a": 1}}, "'arguments' is for a factory", "remove arguments"),
        ({"onnx": "net.onnx", "checkpoint": {"path": "w.pth"}}, "'checkpoint' is for a factory", "remove checkpoint"),
    ],
)
def test_a_model_has_one_source(content, what, fix):
    with pytest.raises(SchemaError) as caught:
        validate(ModelSource, content, "kws.yaml", prefix=("model",))
    assert what in caught.value.what
    assert caught.value.where == "kws.yaml: model"
    assert fix in caught.value.fix


def test_a_source_is_named_with_its_key():
    source = ModelSource(onnx="net.onnx")
    assert source.named == {"onnx": "net.onnx"}
    assert source.where == "model.onnx: net.onnx"
