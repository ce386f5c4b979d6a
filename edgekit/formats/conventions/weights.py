"""Weights and biases of a Q/DQ program: the table's codes, or those that a convention's fewer levels ask for."""

from __future__ import annotations

import torch
from torch import fx
from torch.ao.quantization.fx import _decomposed  # noqa: F401  registers torch.ops.quantized_decomposed

from edgekit.errors import FormatError
from edgekit.formats.conventions.convention import Convention
from edgekit.formats.conventions.kernels import pad_of
from edgekit.formats.conventions.placement import Placement, weighted_nodes
from edgekit.nets.graph import is_weight, set_tensor, tensor_of
from edgekit.nets.operators import activations
from edgekit.nets.program import Program
from edgekit.nets.quantisation import QuantisationTable, WeightCodes
from edgekit.numerics.bias import rounding_shift
from edgekit.numerics.number import Integer, find_number
from edgekit.numerics.quantise import channel_scales, encode
from edgekit.schema.manifest import QuantisedTensor

qd = torch.ops.quantized_decomposed
INT32 = torch.iinfo(torch.int32)


def quantise_weights(
    program: Program, table: QuantisationTable, placement: Placement, convention: Convention
) -> list[QuantisedTensor]:
    """Put codes and DQ in place of the weights and biases of integer layers. A row for each.

    Raises:
        FormatError: the table lacks a weight, or has it in a format that these kernels do not read.
    """
    rows = []
    for node in weighted_nodes(placement.integer):
        grid = placement.grids.get(activations(pad_of(node, convention) or node)[0])
        name = program.weight_name(node)
        values = tensor_of(program.module, node.args[1])  # type: ignore[arg-type]
        stored = _stored(table, name, convention)
        weight, bits = _codes(values, stored, convention)
        _replace_weight(program.module, node, name, weight, convention)
        rows.append(
            QuantisedTensor(
                tensor=name,
                role="weight",
                bits=bits,
                dtype="int8",
                scheme="symmetric",
                axis=weight.axis,
                scale=tuple(weight.scale.tolist()),
                zero_point=(0,),
            )
        )
        bias = node.args[2] if len(node.args) > 2 else None
        if isinstance(bias, fx.Node) and is_weight(bias):
            shift = _shift(program, table, node, values, weight, weight is stored)
            scale = None if grid is None or convention.bias == "float" else grid.scale * weight.scale
            corrected = tensor_of(program.module, bias) - shift
            rows += _replace_bias(program.module, node, str(bias.target), corrected, scale, convention)
    return rows


def _stored(table: QuantisationTable, name: str, convention: Convention) -> WeightCodes:
    where = f"weight {name}, convention {convention.name}"
    if name not in table.weights:
        raise FormatError(
            f"the quantisation table has no weight {name!r}",
            where,
            "the network changed after it was quantised; run quantize as the last step",
        )
    stored = table.weights[name]
    if stored.group is not None or not isinstance(find_number(stored.number), Integer):
        kind = stored.number if stored.group is None else f"{stored.number} by groups of {stored.group}"
        raise FormatError(
            f"integer kernels do not read weights that are {kind}",
            where,
            "set `activations: float`, or integer weights with one scale a channel",
        )
    return stored


def _codes(values: torch.Tensor, stored: WeightCodes, convention: Convention) -> tuple[WeightCodes, int]:
    """Codes, and the bits of one.

    They are the table's where the convention has that many levels; where it has fewer the float weight is rounded anew.
    """
    number = find_number(stored.number)
    assert isinstance(number, Integer)
    if number.qmax <= convention.weight_max:
        return stored, number.bits
    largest = convention.weight_max
    # never below the table's: where the bias asked for a larger scale, fewer levels do not make it fit a smaller one
    scale = torch.maximum(channel_scales(values, stored.axis, largest), stored.scale)
    codes = encode(values, scale, 0, -largest, largest, stored.axis)
    return WeightCodes(codes.to(torch.int8), scale, stored.axis, stored.number), largest.bit_length()


def _shift(
    program: Program, table: QuantisationTable, node: fx.Node, values: torch.Tensor, weight: WeightCodes, own: bool
) -> torch.Tensor | float:
    """What a layer's bias takes back: the shift that was measured with these codes, or what the inputs' mean gives.

    Args:
        own: `weight` is the table's own; a measured shift says nothing of other codes.
    """
    name = program.names[node]
    if own and name in table.shifts:
        return table.shifts[name]
    mean = table.means.get(name)
    return 0.0 if mean is None else rounding_shift(weight.values() - values, mean)


def _replace_weight(
    module: fx.GraphModule, node: fx.Node, name: str, weight: WeightCodes, convention: Convention
) -> None:
    graph = module.graph
    channels = len(weight.scale)
    set_tensor(module, f"{name}_scale", weight.scale)
    set_tensor(module, f"{name}_zero_point", torch.zeros(channels, dtype=torch.int64))
    fake = convention.weights == "fake"
    set_tensor(module, f"{name}_codes", weight.values() if fake else weight.codes)
    with graph.inserting_before(node):
        tensor = graph.get_attr(f"{name}_codes")
        grid = (
            graph.get_attr(f"{name}_scale"),
            graph.get_attr(f"{name}_zero_point"),
            weight.axis,
            -convention.weight_max,
            convention.weight_max,
            torch.int8,
        )
        if fake:
            tensor = graph.call_function(qd.quantize_per_channel.default, (tensor, *grid))
        real = graph.call_function(qd.dequantize_per_channel.default, (tensor, *grid))
    node.args = (node.args[0], real, *node.args[2:])


def _replace_bias(
    module: fx.GraphModule,
    node: fx.Node,
    name: str,
    values: torch.Tensor,
    scale: torch.Tensor | None,
    convention: Convention,
) -> list[QuantisedTensor]:
    """Store a layer's own bias, by default on the grid of the 32-bit accumulator.

    Args:
        scale: s_input * s_weight[c], (C_out,); zero point 0. None: the bias stays float.
    """
    graph = module.graph
    if scale is None:
        set_tensor(module, f"{name}_codes", values)
        with graph.inserting_before(node):
            node.args = (*node.args[:2], graph.get_attr(f"{name}_codes"), *node.args[3:])
        return []
    scale = scale.float()
    codes = (values.double() / scale.double()).round().clamp(INT32.min, INT32.max).to(torch.int32)
    set_tensor(module, f"{name}_codes", codes if convention.bias == "int32" else codes.float() * scale)
    with graph.inserting_before(node):
        real = graph.get_attr(f"{name}_codes")
        if convention.bias == "int32":
            set_tensor(module, f"{name}_scale", scale)
            set_tensor(module, f"{name}_zero_point", torch.zeros(len(scale), dtype=torch.int64))
            grid = (graph.get_attr(f"{name}_scale"), graph.get_attr(f"{name}_zero_point"))
            real = graph.call_function(
                qd.dequantize_per_channel.default, (real, *grid, 0, INT32.min, INT32.max, torch.int32)
            )
    node.args = (*node.args[:2], real, *node.args[3:])
    return [
        QuantisedTensor(
            tensor=name,
            role="bias",
            bits=32,
            dtype="int32",
            scheme="symmetric",
            axis=0,
            scale=tuple(scale.tolist()),
            zero_point=(0,),
        )
    ]
