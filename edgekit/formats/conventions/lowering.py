"""Program + table + convention -> a program with Q/DQ that any exporter can read, and that PyTorch can run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx
from torch.ao.quantization.fx import _decomposed  # noqa: F401  registers torch.ops.quantized_decomposed

from edgekit.errors import FormatError
from edgekit.formats.conventions.convention import Convention
from edgekit.formats.conventions.placement import Grid, Placement, pad_of, place, weighted_nodes
from edgekit.formats.conventions.weight_only import decode_weights
from edgekit.nets.graph import is_weight, set_tensor, tensor_of
from edgekit.nets.model import Model
from edgekit.nets.operators import activations
from edgekit.nets.program import Program, trace
from edgekit.nets.quantisation import QuantisationTable, WeightCodes
from edgekit.numerics.bias import rounding_shift
from edgekit.numerics.quantise import channel_scales, decode, encode
from edgekit.schema.manifest import InFloat, QuantisedTensor

qd = torch.ops.quantized_decomposed
INT32 = torch.iinfo(torch.int32)


@dataclass(frozen=True)
class Lowered:
    """A Q/DQ program for one convention.

    Attributes:
        module: runs in PyTorch; the witness that every runtime is compared with.
        tensors: how each tensor is quantised.
        inputs, outputs: grids of the program's inputs and outputs, None where float.
    """

    module: fx.GraphModule
    tensors: tuple[QuantisedTensor, ...]
    in_float: tuple[InFloat, ...]
    inputs: tuple[Grid | None, ...]
    outputs: tuple[Grid | None, ...]


def lower(model: Model, convention: Convention, batch: int = 1) -> Lowered:
    """The Q/DQ program of a quantised model.

    Raises:
        FormatError: the model has no quantisation table, or one made for another network.
    """
    if model.table is None:
        raise FormatError(
            "the model has no quantisation table", "steps", "add a quantize step before exporting integers"
        )
    program = trace(model, batch)
    if not model.table.integer:
        floats = (None,) * len(model.inputs), (None,) * len(model.outputs)
        return Lowered(program.module, decode_weights(program, model.table), (), *floats)
    placement = place(program, model.table, convention)
    rows = [*_quantise_weights(program, model.table, placement, convention)]
    rows = [*_insert_pairs(program, placement, convention), *rows]
    program.module.graph.eliminate_dead_code()
    program.module.recompile()
    ends = next(node for node in program.module.graph.nodes if node.op == "output").args[0]
    sources = {pair: grid for node, grid in placement.grids.items() for pair in _pairs(node)}
    return Lowered(
        module=program.module,
        tensors=tuple(rows),
        in_float=placement.in_float,
        inputs=tuple(placement.grids.get(n) for n in program.module.graph.nodes if n.op == "placeholder"),
        outputs=tuple(sources.get(end) for end in ends),
    )


def _pairs(node: fx.Node) -> list[fx.Node]:
    """The DQ nodes that read the codes of `node`."""
    return [dq for q in node.users if q.target is qd.quantize_per_tensor.default for dq in q.users]


def _insert_pairs(program: Program, placement: Placement, convention: Convention) -> list[QuantisedTensor]:
    rows = []
    graph = program.module.graph
    dtype = torch.int8 if convention.signed else torch.uint8
    for node, grid in placement.grids.items():
        parameters = (grid.scale, grid.zero_point, convention.qmin, convention.qmax, dtype)
        with graph.inserting_after(node):
            codes = graph.call_function(qd.quantize_per_tensor.default, (node, *parameters))
        for user in placement.users[node]:
            # one DQ for each reader: litert-torch cannot change the layout of a shared one for some of its readers only
            with graph.inserting_before(user):
                real = graph.call_function(qd.dequantize_per_tensor.default, (codes, *parameters))
            user.replace_input_with(node, real)
        rows.append(
            QuantisedTensor(
                tensor=program.names[node],
                role="activation",
                bits=8,
                dtype="int8" if convention.signed else "uint8",
                scheme="symmetric" if convention.symmetric else "affine",
                scale=(grid.scale,),
                zero_point=(grid.zero_point,),
                tied_to=grid.tied_to,
            )
        )
    return rows


def _quantise_weights(
    program: Program, table: QuantisationTable, placement: Placement, convention: Convention
) -> list[QuantisedTensor]:
    rows = []
    for node in weighted_nodes(placement.integer):
        grid = placement.grids.get(activations(pad_of(node, convention) or node)[0])
        name = program.weight_name(node)
        values = tensor_of(program.module, node.args[1])  # type: ignore[arg-type]
        weight = _codes(values, table, name, convention)
        _replace_weight(program.module, node, name, weight, convention)
        rows.append(
            QuantisedTensor(
                tensor=name,
                role="weight",
                bits=weight.bits if convention.weight_max == 127 else 7,
                dtype="int8",
                scheme="symmetric",
                axis=weight.axis,
                scale=tuple(weight.scale.tolist()),
                zero_point=(0,),
            )
        )
        bias = node.args[2] if len(node.args) > 2 else None
        if isinstance(bias, fx.Node) and is_weight(bias):
            corrected = _corrected_bias(program, table, node, values, weight)
            scale = None if grid is None or convention.bias == "float" else grid.scale * weight.scale
            rows += _replace_bias(program.module, node, str(bias.target), corrected, scale, convention)
    return rows


def _corrected_bias(
    program: Program, table: QuantisationTable, node: fx.Node, values: torch.Tensor, weight: WeightCodes
) -> torch.Tensor:
    """The bias less what the rounding of this convention's weight shifts, where the table knows the inputs' mean."""
    bias = tensor_of(program.module, node.args[2])  # type: ignore[arg-type]
    mean = table.means.get(program.names[node])
    if mean is None:
        return bias
    error = decode(weight.codes, weight.scale, axis=weight.axis) - values
    return bias - rounding_shift(error, mean)


def _codes(values: torch.Tensor, table: QuantisationTable, name: str, convention: Convention) -> WeightCodes:
    """Codes from the table; a convention with fewer levels rounds the float weight anew, it cannot reuse codes."""
    if name not in table.weights:
        raise FormatError(
            f"the quantisation table has no weight {name!r}",
            f"convention {convention.name}",
            "the network changed after it was quantised; run quantize as the last step",
        )
    stored = table.weights[name]
    if convention.weight_max == 127:
        return stored
    # never below the table's: where the bias asked for a larger scale, fewer levels do not make it fit a smaller one
    scale = torch.maximum(channel_scales(values, stored.axis, convention.weight_max), stored.scale)
    codes = encode(values, scale, 0, -convention.weight_max, convention.weight_max, stored.axis)
    return WeightCodes(codes.to(torch.int8), scale, stored.axis, stored.number)


def _replace_weight(
    module: fx.GraphModule, node: fx.Node, name: str, weight: WeightCodes, convention: Convention
) -> None:
    graph = module.graph
    channels = len(weight.scale)
    set_tensor(module, f"{name}_scale", weight.scale)
    set_tensor(module, f"{name}_zero_point", torch.zeros(channels, dtype=torch.int64))
    fake = convention.weights == "fake"
    stored = decode(weight.codes, weight.scale, axis=weight.axis) if fake else weight.codes
    set_tensor(module, f"{name}_codes", stored)
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
