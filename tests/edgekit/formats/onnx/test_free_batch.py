"""ONNX files of any batch: made of two files that differ in the batch alone, and run at several."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgekit.errors import FormatError, SchemaError
from edgekit.formats.onnx.free_batch import free_batch
from edgekit.formats.table import export
from edgekit.nets.load import find_outputs
from edgekit.nets.model import Model
from edgekit.passes.quantize.quantize import quantize
from edgekit.pipeline.choose import choose_variants
from edgekit.schema.load import load_target
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import Export, ModelSource
from edgekit.schema.tensors import InputSpec
from tests import nets
from tests.edgekit.formats.quantised import context


class Tokens(nn.Module):
    """A stored token before each sample's own, a view with the batch in it, and a sum with a stored table."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.token = nn.Parameter(torch.randn(1, 1, 8, generator=generator))
        self.places = nn.Parameter(torch.randn(1, 5, 8, generator=generator))
        self.inside, self.head = nn.Linear(8, 8), nn.Linear(40, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        x = torch.relu(self.inside(x)).reshape(len(x), 5, 2, 4).permute(0, 2, 1, 3)
        return self.head(x.reshape(len(x), 40))  # type: ignore[no-any-return]


def tokens() -> Model:
    source = ModelSource(factory="tests.nets:x", inputs=(InputSpec(name="x", shape=(1, 4, 8), layout="NTC"),))
    torch.manual_seed(0)
    network = Tokens().eval()
    return Model(network, source, find_outputs(network, source))


@pytest.mark.parametrize("integers", [True, False])
def test_one_file_answers_alike_at_every_batch(integers: bool, tmp_path: Path) -> None:
    model = tokens()
    model = quantize(model, QuantizeOptions(), context(model)) if integers else model
    artifact = export(model, "onnx", "onnxruntime-x86-vnni", tmp_path, "model", Export(batch="dynamic"))
    assert artifact.row.free_batch
    assert artifact.row.inputs[0].shape == (1, 4, 8)
    assert artifact.row.size_bytes == artifact.path.stat().st_size
    shape = onnx.load(artifact.path).graph.input[0].type.tensor_type.shape
    assert [size.dim_param or size.dim_value for size in shape.dim] == ["batch", 4, 8]
    session = onnxruntime.InferenceSession(str(artifact.path), providers=["CPUExecutionProvider"])
    (x,) = model.example(8, seed=2)
    apart = np.concatenate([session.run(None, {"x": x[i : i + 1].numpy()})[0] for i in range(8)])
    for batch in (3, 8):
        (together,) = session.run(None, {"x": x[:batch].numpy()})
        np.testing.assert_allclose(together, apart[:batch], rtol=0, atol=1e-6)
    wanted = torch.cat([artifact.program(x[i : i + 1])[0] for i in range(8)]).numpy()
    np.testing.assert_allclose(apart, wanted, rtol=0, atol=1.5 * np.ptp(wanted) / 255 if integers else 1e-5)


def case(batch: int, *, op: str = "Reshape", stored: np.ndarray | None = None, times: int = 1) -> onnx.ModelProto:
    """A graph for one batch: x (batch, 6) reshaped to (times * batch, 6 / times), then a sum with what is stored."""
    sizes = np.array([times * batch, 6 // times], np.int64)
    added = np.zeros((1, 1), np.float32) if stored is None else stored
    nodes = [
        helper.make_node("Reshape" if op == "Reshape" else "Expand", ["x", "sizes"], ["y"], "move"),
        helper.make_node("Add", ["y", "added"], ["z"], "add"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch if op == "Reshape" else 1, 6])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [times * batch, 6 // times])],
        [numpy_helper.from_array(sizes, "sizes"), numpy_helper.from_array(added, "added")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def test_a_size_in_a_reshape_is_inferred() -> None:
    made = free_batch(case(2, times=3), case(3, times=3))
    (sizes,) = (numpy_helper.to_array(t).tolist() for t in made.graph.initializer if t.name == "sizes")
    assert sizes == [-1, 2]
    assert [node.op_type for node in made.graph.node] == ["Reshape", "Add"]
    assert run(made, np.zeros((5, 6), np.float32)).shape == (15, 2)


def test_a_sample_that_is_repeated_is_stored_once() -> None:
    own = np.arange(6, dtype=np.float32)[None]
    made = free_batch(*(case(batch, stored=np.repeat(own, batch, 0)) for batch in (2, 3)))
    assert {t.name: tuple(t.dims) for t in made.graph.initializer}["added.sample"] == (1, 6)
    assert np.array_equal(run(made, np.ones((5, 6), np.float32)), np.repeat(own, 5, 0) + 1)


def test_a_size_that_nothing_infers_is_computed() -> None:
    two, three = case(2), case(3)
    for proto in (two, three):  # the reshape's result decides what a tensor of ones is repeated to
        proto.graph.node[0].op_type = "Expand"
        proto.graph.node[0].input[0] = "row"
        proto.graph.initializer.append(numpy_helper.from_array(np.ones((1, 6), np.float32), "row"))
        proto.graph.node[1].input[1] = "x"
    made = free_batch(two, three)
    assert [node.op_type for node in made.graph.node] == ["Shape", "Mul", "Concat", "Expand", "Add"]
    assert np.array_equal(run(made, np.ones((5, 6), np.float32)), np.full((5, 6), 2, np.float32))


@pytest.mark.parametrize(
    ("two", "three", "said"),
    [
        (case(2), case(3, op="Expand"), "another operator"),
        (case(2, stored=np.zeros((2, 6), np.float32)), case(3, stored=np.ones((3, 6), np.float32)), "the tensor added"),
        (case(2, stored=np.zeros((1, 1), np.float32)), case(3, stored=np.ones((1, 1), np.float32)), "the tensor added"),
    ],
)
def test_what_differs_otherwise_is_refused_by_name(two: onnx.ModelProto, three: onnx.ModelProto, said: str) -> None:
    with pytest.raises(FormatError) as caught:
        free_batch(two, three)
    assert said in caught.value.what
    assert "export.batch: dynamic" in caught.value.where
    assert caught.value.fix == "set export.batch to a number"


def test_formats_of_one_batch_are_refused_when_it_is_planned() -> None:
    target = load_target("raspberry-pi-5").target
    with pytest.raises(SchemaError) as caught:
        choose_variants(target, Export(batch="dynamic"), quantised=True)
    assert caught.value.what == "a tflite file takes one number of samples, and the batch is dynamic"
    assert caught.value.where == "recipe: export.batch"
    assert "export.formats: [onnx]" in caught.value.fix
    assert len(choose_variants(target, Export(batch="dynamic", formats=("onnx",)), quantised=True)) == 1


def test_an_unrolled_sequence_is_of_one_batch(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        export(nets.recurrent("gru", steps=4), "onnx", "onnxruntime-arm", tmp_path, "model", Export(batch="dynamic"))
    assert caught.value.where == "export.batch"
    assert "export.recurrent: step" in caught.value.fix
