"""Every row of the table against ONNX Runtime, with the attributes and operator sets that users bring."""

import numpy as np
import onnxruntime
import pytest
import torch

from edgekit.nets.from_onnx.convert import convert
from edgekit.nets.from_onnx.file import prepare
from edgekit.nets.from_onnx.inputs import describe_inputs
from edgekit.nets.from_onnx.table import OPERATORS
from tests.edgekit.nets.from_onnx.cases import CASES
from tests.edgekit.nets.from_onnx.graphs import Case

# made of stored numbers alone, so it never runs; its row is for shapes that grow with the batch, see test_convert.py
NEVER_RUN = frozenset({"Shape", "Size", "ConstantOfShape"})


@pytest.mark.parametrize("one", [c for c in CASES if c.op not in NEVER_RUN], ids=str)
def test_an_operator_computes_what_onnx_runtime_does(one: Case):
    model = one.model()
    feeds = one.feeds(np.random.default_rng(0))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(None, feeds)

    file = prepare(model, "case")
    network = convert(file, describe_inputs(model, (), "case"))
    with torch.no_grad():
        found = network(*(torch.from_numpy(feed) for feed in feeds.values()))
    outputs = list(found.values()) if isinstance(found, dict) else [found]

    assert len(outputs) == len(wanted)
    for output, expected in zip(outputs, wanted, strict=True):
        assert tuple(output.shape) == expected.shape
        assert output.numpy().dtype == expected.dtype
        np.testing.assert_allclose(output.numpy(), expected, rtol=2e-5, atol=2e-5)


def test_every_row_has_a_case():
    assert sorted(set(OPERATORS) - {one.op for one in CASES}) == []


def test_no_case_is_for_an_operator_without_a_row():
    assert sorted({one.op for one in CASES} - set(OPERATORS)) == []
