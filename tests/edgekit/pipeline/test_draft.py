"""What a build did not do as it was asked to."""

from types import SimpleNamespace
from typing import Any

from edgekit.pipeline.draft import _not_as_asked
from tests import nets
from tests.edgekit.formats.quantised import quantised


def _exported(path: str, not_int8: str = "") -> Any:
    return SimpleNamespace(
        row=SimpleNamespace(path=path), planned=SimpleNamespace(variant=SimpleNamespace(not_int8=not_int8))
    )


def test_narrow_weights_of_integer_kernels_are_said_to_take_whole_bytes() -> None:
    (row,) = _not_as_asked((_exported("model.onnx"),), quantised(nets.TINY_CONV, weights="int4"))
    assert (row.what, row.where) == ("packed weights", "model.onnx")
    assert "int4" in row.reason


def test_a_float_artifact_says_why_and_nothing_of_bytes() -> None:
    shipped = (_exported("model.onnx", "no kernel"),)
    (row,) = _not_as_asked(shipped, quantised(nets.TINY_CONV, weights="int4"))
    assert (row.what, row.reason) == ("int8", "no kernel")


def test_nothing_is_said_of_whole_bytes_of_packed_weights_and_of_float_networks() -> None:
    packed = quantised(nets.TINY_CONV, weights="int4", activations="float")
    for model in (quantised(nets.TINY_CONV), packed, nets.model(nets.TINY_CONV)):
        assert list(_not_as_asked((_exported("model.onnx"),), model)) == []
