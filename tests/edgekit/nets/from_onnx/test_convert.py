"""Whole graphs: the batch, names, what is folded and fused, and what is refused."""

import math

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgekit.errors import ModelError
from edgekit.nets.from_onnx.check import check
from edgekit.nets.from_onnx.convert import convert
from edgekit.nets.from_onnx.file import prepare
from edgekit.nets.from_onnx.inputs import describe_inputs
from tests.edgekit.nets.from_onnx.graphs import Running, flat, ints, model, numbers, value

node = helper.make_node


def graph(nodes, stored=None, *, shape=(1, 4, 6), batch=None, outputs=("y",), opset=13):
    tensors = [numpy_helper.from_array(array, name) for name, array in (stored or {}).items()]
    return model(nodes, [value("x", Running(shape), batch)], outputs, tensors, opset)


def converted(made):
    """The network, after its own check against ONNX Runtime at two batches."""
    inputs = describe_inputs(made, (), "net.onnx")
    file = prepare(onnx.ModelProto.FromString(made.SerializeToString()), "net.onnx")
    network = convert(file, inputs)
    check(network, prepare(made, "net.onnx"), inputs)
    return network


def kinds(network):
    return [type(network.get_submodule(line.layer)) for line in network.wiring.lines]


def refusal(made):
    with pytest.raises(ModelError) as caught:
        converted(made)
    return caught.value


# --- the batch


@pytest.mark.parametrize(
    ("shape", "steps"),
    [
        ((1, 4, 6), [ints(1, 24)]),
        ((1, 4, 6), [ints(1, -1)]),
        ((1, 4, 6), [ints(4, 6), ints(1, 4, 6), ints(2, 12), ints(1, 24)]),  # samples in the rows, and out again
        ((3, 4, 6), [ints(3, 24)]),  # written for a batch of three
        ((1, 4, 6), [ints(1, 1, 4, 6), ints(1, 24)]),
    ],
)
def test_shapes_that_are_fixed_for_one_batch_are_read_for_any(shape, steps):
    names = ["x", *(f"t{i}" for i in range(len(steps) - 1)), "y"]
    nodes = [node("Reshape", [names[i], f"s{i}"], [names[i + 1]]) for i in range(len(steps))]
    network = converted(graph(nodes, {f"s{i}": step for i, step in enumerate(steps)}, shape=shape))
    assert network(torch.zeros(5, *shape[1:])).shape[0] == 5


def test_samples_are_found_behind_the_sequence():
    """Attention as torch exports it at batch 1: (T, N, C), heads split and merged by fixed shapes."""
    length, heads, width = 5, 2, 4
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("Reshape", ["t", "split"], ["h"]),  # (T, N * heads, width)
        node("Transpose", ["h"], ["q"], perm=[1, 0, 2]),
        node("Transpose", ["h"], ["k"], perm=[1, 2, 0]),
        node("MatMul", ["q", "k"], ["a"]),
        node("Softmax", ["a"], ["p"], axis=-1),
        node("MatMul", ["p", "q"], ["o"]),
        node("Transpose", ["o"], ["b"], perm=[1, 0, 2]),
        node("Reshape", ["b", "rows"], ["r"]),  # (T * N, heads * width)
        node("Gemm", ["r", "w", "c"], ["g"], transB=1),
        node("Reshape", ["g", "whole"], ["s"]),
        node("Transpose", ["s"], ["y"], perm=[1, 0, 2]),
    ]
    stored = {
        "split": ints(length, heads, width),
        "rows": ints(length, heads * width),
        "whole": ints(length, 1, heads * width),
        "w": numbers(8, 8),
        "c": numbers(8, seed=1),
    }
    converted(graph(nodes, stored, shape=(1, length, heads * width)))


def test_shapes_computed_from_the_input_follow_the_batch():
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "axis"], ["rows"]),
        node("Concat", ["rows", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["flat"]),
        node("Mul", ["n", "two"], ["twice"]),
        node("Unsqueeze", ["twice", "axis"], ["doubled"]),
        node("Concat", ["doubled", "half"], ["split"], axis=0),
        node("Reshape", ["flat", "split"], ["halves"]),
        node("Concat", ["rows", "ones"], ["full"], axis=0),
        node("ConstantOfShape", ["full"], ["shift"], value=numpy_helper.from_array(np.array([0.5], np.float32))),
        node("Add", ["flat", "shift"], ["a"]),
        node("ReduceSum", ["halves", "last"], ["b"], keepdims=0),
        node("Reshape", ["b", "pairs"], ["c"]),
        node("Concat", ["a", "c"], ["y"], axis=1),
    ]
    stored = {
        "zero": np.array(0),
        "two": np.array(2),
        "axis": ints(0),
        "rest": ints(-1),
        "half": ints(12),
        "ones": ints(24),
        "last": ints(1),
        "pairs": ints(-1, 2),
    }
    network = converted(graph(nodes, stored, batch="N"))
    assert network(torch.zeros(7, 4, 6)).shape == (7, 26)


def test_a_token_that_is_stored_once_is_every_samples():
    nodes = [
        node("Shape", ["x"], ["s"], start=0, end=1),
        node("Concat", ["s", "rest"], ["to"], axis=0),
        node("Expand", ["cls_token", "to"], ["c"]),
        node("Concat", ["c", "x"], ["y"], axis=1),
    ]
    stored = {"cls_token": numbers(1, 1, 6), "rest": ints(1, 6)}
    network = converted(graph(nodes, stored, batch="N", opset=15))
    assert isinstance(network.get_parameter("cls_token"), nn.Parameter)
    fixed = converted(graph([node("Concat", ["cls_token", "x"], ["y"], axis=1)], {"cls_token": stored["cls_token"]}))
    x = torch.randn(3, 4, 6)
    torch.testing.assert_close(fixed(x), network(x))


def test_first_states_that_are_zeros_are_torchs_own():
    nodes = [
        node("Shape", ["x"], ["s"], start=1, end=2),
        node("Concat", ["one", "s", "size"], ["full"], axis=0),
        node("ConstantOfShape", ["full"], ["h"]),
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("LSTM", ["t", "w", "r", "", "", "h", "h"], ["o"], hidden_size=3),
        node("Squeeze", ["o", "one"], ["q"]),
        node("Transpose", ["q"], ["y"], perm=[1, 0, 2]),
    ]
    # the sequence's second axis is the batch once it is turned; here the first is asked, so that the two must differ
    nodes[0] = node("Shape", ["x"], ["s"], start=0, end=1)
    stored = {"one": ints(1), "size": ints(3), "w": numbers(1, 12, 6), "r": numbers(1, 12, 3)}
    network = converted(graph(nodes, stored, batch="N", opset=15))
    assert [type(m) for m in network.modules()].count(nn.LSTM) == 1
    assert not any("ConstantOfShape" in line.operator for line in network.wiring.lines)


def test_a_batch_that_cannot_be_freed_is_refused():
    nodes = [node("Reshape", ["x", "s"], ["r"]), node("Softmax", ["r"], ["y"], axis=0)]  # over the samples
    error = refusal(graph(nodes, {"s": ints(1, 24)}))
    assert "depends on the other samples" in error.what
    assert "dynamic batch" in error.fix


# --- names, weights, what is fused


def test_weights_that_two_layers_share_are_one_parameter():
    nodes = [node("Conv", ["x", "w"], ["a"], pads=[1, 1]), node("Conv", ["a", "w"], ["y"], pads=[1, 1])]
    network = converted(graph(nodes, {"w": numbers(4, 4, 3)}))
    assert len(list(network.parameters())) == 1
    assert kinds(network) == [nn.Conv1d, nn.Conv1d]


@pytest.mark.parametrize("opset", [13, 18])
def test_a_product_and_its_sum_become_one_linear_layer(opset):
    nodes = [
        node("MatMul", ["x", "onnx::MatMul_7"], ["a"], "/head/MatMul"),
        node("Add", ["head.bias", "a"], ["y"], "/head/Add"),
    ]
    network = converted(graph(nodes, {"onnx::MatMul_7": numbers(6, 5), "head.bias": numbers(5)}, opset=opset))
    assert [name for name, _ in network.named_parameters()] == ["head.weight", "head.bias"]
    assert kinds(network) == [nn.Linear]


def test_a_sum_that_somebody_else_reads_stays():
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Add", ["a", "b"], ["s"]),
        node("Mul", ["s", "a"], ["y"]),
    ]
    network = converted(graph(nodes, {"w": numbers(6, 5), "b": numbers(5)}))
    assert len(network.wiring.lines) == 3


def test_a_convolution_takes_the_bias_behind_it():
    nodes = [node("Conv", ["x", "c.weight"], ["a"]), node("Add", ["a", "b"], ["y"])]
    network = converted(graph(nodes, {"c.weight": numbers(3, 4, 2, 2), "b": numbers(1, 3, 1, 1)}, shape=(1, 4, 5, 5)))
    assert kinds(network) == [nn.Conv2d]
    assert network.get_submodule("c").bias is not None


def layer_norm_nodes(axes):
    return [
        node("ReduceMean", ["x"], ["m"], axes=axes),
        node("Sub", ["x", "m"], ["d"]),
        node("Pow", ["d", "two"], ["q"]),
        node("ReduceMean", ["q"], ["v"], axes=axes),
        node("Add", ["v", "eps"], ["e"]),
        node("Sqrt", ["e"], ["s"]),
        node("Div", ["d", "s"], ["n"]),
        node("Mul", ["n", "ln.weight"], ["g"]),
        node("Add", ["g", "ln.bias"], ["y"]),
    ]


NORM = {"two": flat(2.0), "eps": flat(1e-3), "ln.weight": numbers(6, low=0.5), "ln.bias": numbers(6, seed=1)}


def test_a_layer_norm_in_nine_operators_is_one_layer():
    network = converted(graph(layer_norm_nodes([-1]), NORM))
    assert kinds(network) == [nn.LayerNorm]
    assert [name for name, _ in network.named_parameters()] == ["ln.weight", "ln.bias"]
    assert network.get_submodule("ln").eps == pytest.approx(1e-3)


def test_a_norm_over_another_axis_is_none():
    assert nn.LayerNorm not in kinds(converted(graph(layer_norm_nodes([1]), NORM)))


@pytest.mark.parametrize(
    "tail",
    [
        [("Mul", ["x", "p"], "a"), ("Mul", ["a", "half"], "y")],
        [("Mul", ["p", "half"], "a"), ("Mul", ["x", "a"], "y")],
        [("Mul", ["x", "half"], "a"), ("Mul", ["a", "p"], "y")],
    ],
)
@pytest.mark.parametrize("divides", [True, False])
def test_a_gelu_in_five_operators_is_one_layer(tail, divides):
    first = ("Div", math.sqrt(2)) if divides else ("Mul", 1 / math.sqrt(2))
    nodes = [
        node(first[0], ["x", "root"], ["r"]),
        node("Erf", ["r"], ["e"]),
        node("Add", ["e", "one"], ["p"]),
        *(node(kind, inputs, [output]) for kind, inputs, output in tail),
    ]
    network = converted(graph(nodes, {"root": flat(first[1]), "one": flat(1.0), "half": flat(0.5)}))
    assert kinds(network) == [nn.GELU]


def test_what_is_almost_a_gelu_stays_as_it_is():
    nodes = [
        node("Div", ["x", "root"], ["r"]),
        node("Erf", ["r"], ["e"]),
        node("Add", ["e", "one"], ["p"]),
        node("Mul", ["x", "p"], ["a"]),
        node("Mul", ["a", "half"], ["y"]),
    ]
    network = converted(graph(nodes, {"root": flat(1.5), "one": flat(1.0), "half": flat(0.5)}))
    assert nn.GELU not in kinds(network)


def test_names_that_are_no_python_become_paths():
    nodes = [
        node("Relu", ["x"], ["a"], '/a"b/__import__("os").x/Relu'),
        node("Conv", ["a", "forward.weight"], ["b"], "training"),
        node("Relu", ["b"], ["y"], "forward/Relu"),
    ]
    network = converted(graph(nodes, {"forward.weight": numbers(4, 4, 1)}))
    parts = {part for line in network.wiring.lines for part in line.layer.split(".")}
    assert all(part.isidentifier() for part in parts)
    assert callable(type(network).forward)


def test_a_name_that_an_exporter_made_up_is_not_kept():
    """torch's exporter gives its own tensors such names, and would refuse a network that has one."""
    network = converted(graph([node("Mul", ["x", "val_3"], ["y"], "scale")], {"val_3": numbers(4, 6)}))
    assert [name for name, _ in network.named_parameters()] == ["scale_value1"]


def test_a_branch_that_a_stored_condition_takes_is_followed():
    branch = helper.make_graph(
        [node("Relu", ["x"], ["then"])], "then", [], [helper.make_empty_tensor_value_info("then")]
    )
    other = helper.make_graph([node("Neg", ["x"], ["else"])], "else", [], [helper.make_empty_tensor_value_info("else")])
    nodes = [node("If", ["condition"], ["y"], then_branch=branch, else_branch=other)]
    network = converted(graph(nodes, {"condition": np.array([False])}))
    x = torch.randn(2, 4, 6)
    assert torch.equal(network(x), -x)


def test_functions_of_a_file_are_inlined():
    made = graph([node("Twice", ["x"], ["y"], domain="own")])
    function = helper.make_function(
        "own", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 13)]
    )
    made.functions.append(function)
    x = torch.randn(2, 4, 6)
    assert torch.equal(converted(made)(x), 2 * x)


def test_channels_last_with_transposes_computes_the_same():
    """As tf2onnx writes a Keras network: NHWC outside, a transpose before and behind, uneven padding."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        node("Conv", ["t", "k", "b"], ["c"], auto_pad="SAME_UPPER", strides=[2, 2]),
        node("Clip", ["c", "zero", "six"], ["r"]),
        node("Transpose", ["r"], ["l"], perm=[0, 2, 3, 1]),
        node("ReduceMean", ["l"], ["m"], axes=[1, 2], keepdims=0),
        node("MatMul", ["m", "w"], ["z"]),
        node("Add", ["z", "d"], ["y"]),
    ]
    stored = {
        "k": numbers(5, 3, 3, 3),
        "b": numbers(5, seed=1),
        "zero": flat(0.0),
        "six": flat(6.0),
        "w": numbers(5, 4),
        "d": numbers(4),
    }
    made = graph(nodes, stored, shape=(1, 8, 8, 3), batch="unk__6")
    assert describe_inputs(made, (), "net.onnx")[0].layout == "NHWC"
    assert nn.Linear in kinds(converted(made))


def test_half_floats_are_computed_in_float32():
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Cast", ["a"], ["y"], to=TensorProto.FLOAT16)]
    made = graph(nodes, {"w": numbers(6, 5).astype(np.float16)})
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    network = converted(made)
    assert next(network.parameters()).dtype == torch.float32
    assert network(torch.zeros(1, 4, 6)).dtype == torch.float32


def test_several_outputs_keep_their_names():
    nodes = [node("Relu", ["x"], ["boxes"]), node("Neg", ["x"], ["scores"])]
    found = converted(graph(nodes, outputs=("boxes", "scores")))(torch.ones(1, 4, 6))
    assert list(found) == ["boxes", "scores"]


# --- what is refused


def test_operators_that_are_not_taken_are_all_named_with_the_first_node():
    nodes = [
        node("Det", ["x"], ["a"], "first"),
        node("Relu", ["a"], ["b"]),
        node("NonZero", ["b"], ["c"], "second"),
        node("NonZero", ["c"], ["y"], "third"),
    ]
    error = refusal(graph(nodes, shape=(1, 6, 6)))
    assert "Det, NonZero (2)" in error.what
    assert error.where == "net.onnx, node first (Det)"
    assert "docs/onnx-in.md" in error.fix


def test_a_spelling_that_is_not_taken_says_why():
    error = refusal(
        graph(
            [node("GRU", ["x", "w", "r"], ["y"], "/rnn/GRU", hidden_size=2)],
            {"w": numbers(1, 6, 6), "r": numbers(1, 6, 2)},
        )
    )
    assert "linear_before_reset = 0" in error.what
    assert error.where == "net.onnx, node /rnn/GRU"


def test_an_operator_of_another_domain_is_named_with_it():
    made = graph([node("FusedThing", ["x"], ["y"], "here", domain="com.microsoft")])
    assert "com.microsoft.FusedThing" in refusal(made).what


def test_a_wrong_layer_would_be_noticed():
    """The check compares with ONNX Runtime, and is no formality."""
    made = graph([node("MatMul", ["x", "w"], ["y"], "fc")], {"w": numbers(6, 5)})
    inputs = describe_inputs(made, (), "net.onnx")
    network = convert(prepare(onnx.ModelProto.FromString(made.SerializeToString()), "net.onnx"), inputs)
    with torch.no_grad():
        next(network.parameters()).mul_(1.01)
    with pytest.raises(ModelError) as caught:
        check(network, prepare(made, "net.onnx"), inputs)
    assert "differs from what ONNX Runtime makes" in caught.value.what


@pytest.mark.parametrize("opset", [11, 13])
def test_old_spellings_are_computed_from_stored_values_too(opset):
    axes = {"axes": [0]} if opset == 11 else {}
    nodes = [
        node("Unsqueeze", ["w", *([] if opset == 11 else ["zero"])], ["u"], **axes),
        node("Clip", ["u", "low", "high"], ["c"]),
        node("Mul", ["x", "c"], ["y"]),
    ]
    stored = {"w": numbers(6), "zero": ints(0), "low": flat(-0.5), "high": flat(0.5)}
    converted(graph(nodes, stored, opset=opset))


def test_a_clip_with_attributes_is_computed_from_stored_values():
    nodes = [node("Clip", ["w"], ["c"], min=-0.5, max=0.5), node("Mul", ["x", "c"], ["y"])]
    network = converted(graph(nodes, {"w": numbers(6)}, opset=7))
    assert len(network.wiring.lines) == 1


def test_values_computed_from_stored_ones_are_stored():
    """A weight that is scaled and turned in the graph: computed once, not at every run."""
    nodes = [
        node("Transpose", ["w"], ["t"], perm=[1, 0]),
        node("Mul", ["t", "scale"], ["s"]),
        node("MatMul", ["x", "s"], ["y"]),
    ]
    made = graph(nodes, {"w": numbers(5, 6), "scale": flat(0.5)})
    assert kinds(converted(made)) == [nn.Linear]
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.get_outputs()[0].shape == [1, 4, 5]
