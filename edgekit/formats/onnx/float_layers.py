"""Operators that stay in float between integers, spelled so that ONNX Runtime leaves them there.

Its optimiser quantises a float weight by itself, with one scale for the whole tensor, where the layer reads a DQ with
one scale and only a Q reads the layer (weight_bias_quantization.cc). A DQ that holds the same scale once for every
channel gives the same values, and is not taken up. Any other operator between DQ and Q becomes its integer kernel
(qdq_transformer/selectors_actions), whatever its DQ looks like; with a Min in front of the Q, which has no such kernel
and changes no value, it does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import fx

from edgekit.nets.graph import aten, free_name, set_tensor
from edgekit.nets.operators import kind_of

_INTEGER_KERNELS = frozenset({"add", "mul", "matmul", "sigmoid", "softmax", "concat", "average_pool", "mean"})
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # the runtime may turn a MatMul into a Gemm first


def keep_islands_in_float(module: fx.GraphModule, islands: Sequence[fx.Node]) -> None:
    """Put the smaller of it and infinity behind every node of `islands`, which are of `module`.

    Those that the runtime has no integer kernel for are left as they are. Its kernels want codes of all their operands,
    so one that reads a stored float is, too.
    """
    taken_up = [node for node in islands if kind_of(node) in _INTEGER_KERNELS]
    taken_up = [node for node in taken_up if all(source.op != "get_attr" for source in node.all_input_nodes)]
    if not taken_up:
        return
    name = free_name(module, "infinity")
    set_tensor(module, name, torch.tensor(math.inf))
    for node in taken_up:
        with module.graph.inserting_after(node):
            limit = module.graph.get_attr(name)
        with module.graph.inserting_after(limit):
            same = module.graph.call_function(aten.minimum.default, (node, limit))
        for user in [user for user in node.users if user is not same]:
            user.replace_input_with(node, same)
    module.recompile()


def keep_layers_in_float(model: onnx.ModelProto) -> int:
    """Spell the DQ in front of every layer with a stored float weight along an axis. Returns how many."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    shapes = _shapes(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    done = 0
    for place, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type not in _LAYERS or node.input[1] not in stored:
            continue
        pair = makers.get(node.input[0])
        if pair is None or pair.op_type != "DequantizeLinear" or stored[pair.input[1]].dims:
            continue
        shape = shapes.get(pair.input[0], shapes.get(pair.output[0], ()))
        channels = len(shape) - 1 if node.op_type in ("Gemm", "MatMul") else 1
        axes = sorted(range(len(shape)), key=lambda axis: axis != channels)
        axis = next((axis for axis in axes if shape[axis] > 1), None)
        if axis is None:
            continue  # a single number: its layer is as cheap either way
        copy = onnx.helper.make_node(
            "DequantizeLinear",
            [pair.input[0], *(_repeated(model.graph, stored[name], shape[axis]) for name in pair.input[1:])],
            [f"{node.name}_input"],
            name=f"{node.name}_input",
            axis=axis,
        )
        model.graph.node.insert(place, copy)
        node.input[0] = copy.output[0]
        done += 1
    used = {name for node in model.graph.node for name in node.input} | {output.name for output in model.graph.output}
    for node in [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.output[0] not in used]:
        model.graph.node.remove(node)
    return done


def _repeated(graph: onnx.GraphProto, tensor: onnx.TensorProto, count: int) -> str:
    """A stored vector of `count` times the same number; one for all who ask."""
    name = f"{tensor.name}_times_{count}"
    if all(other.name != name for other in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(np.repeat(numpy_helper.to_array(tensor), count), name))
    return name


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in [*inferred.value_info, *inferred.input, *inferred.output]
    }
