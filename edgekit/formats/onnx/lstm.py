"""LSTM layers with integer weights: ONNX Runtime's DynamicQuantizeLSTM in place of LSTM."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from edgekit.formats.onnx.code_nodes import MICROSOFT, Parts
from edgekit.nets.quantisation import QuantisationTable
from edgekit.schema.manifest import InFloat

_RECURRENT = ("LSTM", "GRU", "RNN")


def quantise_lstms(
    graph: onnx.GraphProto, weights: tuple[tuple[str, ...], ...], table: QuantisationTable
) -> tuple[InFloat, ...]:
    """Put codes in place of the weights of LSTM nodes, which are found by what they contain.

    Args:
        weights: of `lstm_weights`.

    Returns:
        The recurrent layers that stay in float.
    """
    known = {
        _content(_stack(names, table, codes=False)): names for names in weights if set(names) <= set(table.weights)
    }
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    in_float = []
    for node in [n for n in graph.node if n.op_type in _RECURRENT]:
        found = [
            known.get(_content(numpy_helper.to_array(initializers[name]))) if name in initializers else None
            for name in node.input[1:3]
        ]
        if node.op_type != "LSTM" or None in found:
            reason = "its weights have no codes: stored and computed in float32"
            in_float.append(InFloat(node=node.name, op=node.op_type, reason=reason))
            continue
        parts, scales = Parts(), []
        for position, names in zip((1, 2), found, strict=True):
            assert names is not None
            own = f"{node.name}_{'WR'[position - 1]}"
            codes = _stack(names, table, codes=True)  # (directions, 4 * hidden, inputs)
            node.input[position] = parts.store(f"{own}_codes", codes.transpose(0, 2, 1))
            scale = np.stack([_gates(table.weights[name].scale) for name in names])
            scales += [parts.store(f"{own}_scale", scale)]
            scales += [parts.store(f"{own}_zero_point", np.zeros_like(scale, np.int8))]
        node.input.extend([""] * (8 - len(node.input)))  # up to the peepholes, which are none
        node.input.extend(scales)
        node.op_type, node.domain = f"DynamicQuantize{node.op_type}", MICROSOFT
        for attribute in [a for a in node.attribute if a.name == "layout"]:  # always 0: time comes first
            node.attribute.remove(attribute)
        graph.initializer.extend(parts.initializers)
    used = {name for node in graph.node for name in node.input}
    for tensor in [t for t in graph.initializer if t.name not in used]:
        graph.initializer.remove(tensor)
    return tuple(in_float)


def _stack(names: tuple[str, ...], table: QuantisationTable, *, codes: bool) -> NDArray[np.generic]:
    """(directions, 4 * hidden, inputs): weights of one layer as ONNX orders them."""
    weights = [table.weights[name] for name in names]
    return np.stack([_gates(weight.codes if codes else weight.values()) for weight in weights])


def _gates(rows: torch.Tensor) -> NDArray[np.generic]:
    """PyTorch's order of gates i, f, g, o in ONNX's: i, o, f, g."""
    i, f, g, o = np.split(rows.numpy(), 4)
    return np.concatenate([i, o, f, g])


def _content(values: NDArray[np.generic]) -> tuple[tuple[int, ...], bytes]:
    return values.shape, np.ascontiguousarray(values).tobytes()
